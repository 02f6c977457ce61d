"""Who else is there: greetings, signs of life, and a closer look at who gives none.

Strategy: `peers` knows who lives by what was heard when; this file sends, listens and counts.

* A worker that starts, or was cut off, greets the others and they answer at once. How many should,
  the carrier says when it takes the greeting.
* A worker that leaves says so. One that died does not, but the carrier gives a message on its own
  channel to nobody.
* A worker that is too busy to let hear of itself is a stranger: the carrier counts it among those
  who get what goes to all.

The carrier also counts those who watch everything by a pattern, and are no workers. How many these
are, a message shows that is for no worker at all.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from fastapi_rooms.cluster.peers import MAX_INTERVAL, MAX_PEERS, Peers, Unidentified
from fastapi_rooms.cluster.sender import Sender
from fastapi_rooms.concurrency import Tasks
from fastapi_rooms.core.checks import check_positive
from fastapi_rooms.core.names import new_node_id
from fastapi_rooms.errors import AdapterUnavailable, ConfigurationError
from fastapi_rooms.types import NodeId
from fastapi_rooms.wire.envelope import Heartbeat, HeartbeatKind

logger = logging.getLogger("fastapi_rooms")

DISCOVERY_TIMEOUT = 1.0
"""Seconds that others have to answer a greeting before requests go out."""

AGAIN = 1.0
"""Seconds, at most, until a greeting that could not be sent is tried again: nobody is asked before.
"""

LOOKS = 4
"""So many times in the span between two beats it is looked for workers that have gone silent."""

GOODBYE = 1.0
"""Seconds that a goodbye may take."""

SHORTEST = 0.001
"""Seconds; a beat says in whole milliseconds when to expect the next."""


@dataclass(frozen=True, slots=True)
class HeartbeatSettings:
    """How often this worker lets hear of itself, and whether it counts as one."""

    heartbeat: float = 3.0
    observer: bool = False

    def __post_init__(self) -> None:
        check_positive("heartbeat", self.heartbeat)
        if not SHORTEST <= self.heartbeat <= MAX_INTERVAL:
            raise ConfigurationError(
                f"heartbeat must be {SHORTEST:g} to {MAX_INTERVAL:g} seconds, "
                f"not {self.heartbeat!r}."
            )


class Interested(Protocol):
    """Whoever has asked workers, and waits for them."""

    def met(self, node: NodeId, *, new: bool) -> None:
        """A worker that was not known lets hear of itself, and says whether it is new."""

    def gone(self, node: NodeId, *, left: bool) -> None:
        """A worker is no more: it has left, or died without a word."""


class HeartbeatMonitor:
    """The other workers, from one start of the manager to its close."""

    def __init__(self, post: Sender, pace: HeartbeatSettings, interested: Interested) -> None:
        self._post = post
        self._pace = pace
        self._interested = interested
        self._loop = asyncio.get_running_loop()
        self._unidentified = Unidentified()
        self._dead_unidentified = 0
        self._tasks = Tasks()
        self._greeting: asyncio.Task[None] | None = None
        self._answered_greeting: set[NodeId] = set()
        self._expected: int | None = None
        self._looks: dict[tuple[NodeId, bool], asyncio.Task[None]] = {}
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}
        self.peers = Peers()
        """Those who live, as far as they are known."""
        self.discovered = asyncio.Event()
        """Set while it is known who is there, as far as they have answered."""

    async def start(self) -> None:
        """Greet the others, and let hear of this worker from time to time.

        Returns when the others have answered, so that whoever asks them next asks this worker too;
        at once when the adapter is not connected yet.
        """
        self.greet()
        self._schedule_beat()
        self._schedule_look()
        if self._post.adapter.health.connected:
            with suppress(TimeoutError):
                async with asyncio.timeout(DISCOVERY_TIMEOUT):
                    await self.discovered.wait()

    def greet(self) -> None:
        """Find out who is there: at the start, and after this worker was cut off."""
        if self._greeting is not None:
            self._greeting.cancel()
        self.discovered.clear()
        self._answered_greeting.clear()
        self._expected = None
        self._greeting = self._tasks.create(self._greet(), "fastapi_rooms greeting")

    async def close(self, timeout: float) -> None:
        """Leave no task behind, and say goodbye."""
        for timer in self._timers.values():
            timer.cancel()
        await self._tasks.end(timeout)
        if not self._pace.observer and self._post.adapter.health.connected:
            with suppress(AdapterUnavailable, TimeoutError):
                async with asyncio.timeout(GOODBYE):
                    await self._post.send(None, self._beat(HeartbeatKind.BYE))

    # What the others send.

    def heard(self, beat: Heartbeat) -> None:
        """Take a sign of life, and answer it if it asks for that."""
        if beat.sign is HeartbeatKind.BYE:
            self.gone(beat.origin, left=True)
            return
        if beat.sign is not HeartbeatKind.QUERY:
            self.lives(beat.origin, beat.interval, new=beat.sign is HeartbeatKind.HELLO)
            if not self.discovered.is_set() and len(self._answered_greeting) < MAX_PEERS:
                self._answered_greeting.add(beat.origin)
                self._check_greeted()
        if beat.sign in (HeartbeatKind.HELLO, HeartbeatKind.QUERY) and not self._pace.observer:
            self._post.send_volatile(beat.origin, self._beat(HeartbeatKind.ALIVE))

    def lives(self, node: NodeId, interval: float | None = None, *, new: bool = False) -> None:
        """A worker has let hear of itself, and promised another sign within `interval` seconds."""
        if node not in self.peers:
            if not new:  # else those who are silent would start anew with every worker that does
                self._unidentified.introduced()
            self._interested.met(node, new=new)
        interval = self._pace.heartbeat if interval is None else interval
        self.peers.heard(node, self._loop.time(), interval)

    def gone(self, node: NodeId, *, left: bool = False) -> None:
        """A worker is no more."""
        self.peers.left(node)
        self._interested.gone(node, left=left)

    # Greeting.

    async def _greet(self) -> None:
        """Greet everybody, again and again until somebody can hear it, and wait for answers."""
        own = [self._post.channel_of(self._post.node)]
        if not self._pace.observer:
            own.append(self._post.channel_of(None))
        while True:
            try:
                await self._post.adapter.subscribe(own)
                self._expected = await self._count(self._unless_observer(HeartbeatKind.HELLO))
                break
            except AdapterUnavailable:
                await asyncio.sleep(min(self._pace.heartbeat, AGAIN))
        self._check_greeted()
        with suppress(TimeoutError):
            async with asyncio.timeout(DISCOVERY_TIMEOUT):
                await self.discovered.wait()
        self.discovered.set()

    def _check_greeted(self) -> None:
        if self._expected is not None and len(self._answered_greeting) >= self._expected:
            self.discovered.set()

    # Beating.

    def _schedule_beat(self) -> None:
        delay = self._pace.heartbeat * random.uniform(0.9, 1)  # noqa: S311 -- no secret
        self._timers[self._let_hear] = self._loop.call_later(delay, self._let_hear)

    def _let_hear(self) -> None:
        self._schedule_beat()
        if not self._post.adapter.health.connected:
            return  # nobody hears us
        sign = self._unless_observer(HeartbeatKind.ALIVE)
        if self._unidentified:
            self._tasks.start(self._count_unidentified(sign), "fastapi_rooms count")
        else:
            self._post.send_volatile(None, self._beat(sign))

    def _unless_observer(self, sign: HeartbeatKind) -> HeartbeatKind:
        return HeartbeatKind.QUERY if self._pace.observer else sign

    def _beat(self, sign: HeartbeatKind) -> Heartbeat:
        return Heartbeat(self._post.node, 0, sign, self._pace.heartbeat)

    # Counting.

    async def count(self) -> int | None:
        """Have all workers say who they are, and return how many get that: see `workers_among`."""
        return await self._count(HeartbeatKind.QUERY)

    async def workers_among(self, receivers: int | None) -> int | None:
        """How many of those who get what goes to all workers are other workers that may live.

        Who has been silent for too long is taken for dead. `None` if the carrier does not tell.

        Raises:
            AdapterUnavailable: the adapter did not tell who only watches.
        """
        if receivers is None:
            return None
        if receivers > len(self.peers):
            receivers -= await self._watchers()
        now = self._loop.time()
        self._unidentified.counted(max(receivers - len(self.peers), 0), now)
        dead = self._unidentified.dead(now, self._pace.heartbeat)
        if dead > self._dead_unidentified:
            logger.warning(
                "Requests to all workers reach %d that never let hear of themselves, and go on "
                "without them: connections that died without Redis noticing, or workers that hang",
                dead,
            )
        self._dead_unidentified = dead
        return max(receivers - dead, 0)

    async def _count(self, sign: HeartbeatKind) -> int | None:
        return await self.workers_among(await self._post.send(None, self._beat(sign)))

    async def _count_unidentified(self, sign: HeartbeatKind) -> None:
        with suppress(AdapterUnavailable):
            await self._count(sign)

    async def _watchers(self) -> int:
        """How many receive everything, by a pattern, as `redis-cli PSUBSCRIBE 'rooms#*'` does."""
        return await self._post.send(new_node_id(), self._beat(HeartbeatKind.QUERY)) or 0

    # Looking into who is silent.

    def look_into(self, node: NodeId, *, silent: bool = False) -> None:
        """A worker is late with an answer, or has let nothing hear: is there anybody at all?

        One question at a time: while the adapter is down they would pile up, for every request.
        """
        doubt = (node, silent)
        if doubt not in self._looks:
            look = self._is_anybody_there(doubt)
            self._looks[doubt] = self._tasks.create(look, "fastapi_rooms look")

    async def look_into_all(self, nodes: Collection[NodeId]) -> None:
        """Look into each, and return when that is done."""
        for node in nodes:
            self.look_into(node)
        if nodes:
            await asyncio.wait([self._looks[node, False] for node in nodes])

    def _schedule_look(self) -> None:
        delay = self._pace.heartbeat / LOOKS
        self._timers[self._look] = self._loop.call_later(delay, self._look)

    def _look(self) -> None:
        self._schedule_look()
        if not self._post.adapter.health.connected or not self.discovered.is_set():
            return  # that we hear nobody says nothing of them, or they are about to answer
        for node in self.peers.expire(self._loop.time()):
            self.look_into(node, silent=True)

    async def _is_anybody_there(self, doubt: tuple[NodeId, bool]) -> None:
        node, silent = doubt
        try:
            receivers = await self._post.send(node, self._beat(HeartbeatKind.QUERY))
            if receivers:
                receivers = max(receivers - await self._watchers(), 0)
            if receivers == 0 or (receivers is None and silent):
                self.gone(node)
        except AdapterUnavailable:
            pass
        finally:
            self._looks.pop(doubt, None)
