"""Which other workers there are: discovery, heartbeats, and a closer look at who sends none.

`peers` decides who lives by what was heard when; this file sends, listens and counts.

* A worker that starts, or was cut off, says HELLO and the others answer at once. How many should
  answer, the carrier says when it takes the HELLO.
* A worker that leaves says BYE. One that died does not, but then the carrier gives a message on
  that worker's own channel to nobody.
* A worker that is too busy to answer is unidentified: the carrier counts it among those who get
  what goes to all workers.

The carrier also counts those who watch everything by a pattern, and are no workers. A message to a
node id that no worker has shows how many these are.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from fastapi_rooms.cluster.missing import Missing
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
"""Seconds that others have to answer a HELLO before requests go out."""

QUIET = 0.2
"""Seconds without another answer after which nobody else is taken to answer, where the carrier does
not tell how many there are."""

QUIET_FOR_EACH = 10.0
"""The same, in times of what the carrier took to accept our HELLO, if that is longer."""

RETRY_DELAY = 1.0
"""Seconds, at most, until a HELLO that could not be sent is tried again: nobody is asked before."""

CHECKS_PER_INTERVAL = 4
"""How many times between two heartbeats it is looked for workers that have gone silent."""

GOODBYE_TIMEOUT = 1.0
"""Seconds that a BYE may take."""

MIN_INTERVAL = 0.001
"""Seconds; a heartbeat says in whole milliseconds when to expect the next."""


@dataclass(frozen=True, slots=True)
class HeartbeatSettings:
    """How often this worker sends heartbeats, and whether it counts as a worker."""

    interval: float = 3.0
    """Seconds between two heartbeats."""
    observer: bool = False
    """Whether it only looks, or asks, and is not to be counted."""

    def __post_init__(self) -> None:
        check_positive("heartbeat", self.interval)
        if not MIN_INTERVAL <= self.interval <= MAX_INTERVAL:
            raise ConfigurationError(
                f"heartbeat must be {MIN_INTERVAL:g} to {MAX_INTERVAL:g} seconds, "
                f"not {self.interval!r}."
            )


class PeerListener(Protocol):
    """Who is told which workers come and go."""

    def met(self, node: NodeId, *, new: bool) -> None:
        """A worker that was not known has sent a heartbeat, which says whether it is new."""

    def gone(self, node: NodeId, *, left: bool) -> None:
        """A worker has stopped (`left`), or died without saying so, or is cut off."""

    def lost(self, node: NodeId) -> None:
        """A worker has died without saying so, or has been cut off for as long."""


class HeartbeatMonitor:
    """The other workers, from one start of the manager to its close."""

    def __init__(self, sender: Sender, settings: HeartbeatSettings, listener: PeerListener) -> None:
        self._sender = sender
        self._interval = settings.interval
        self._observer = settings.observer
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._unidentified = Unidentified()
        self._missing = Missing()
        self._dead_unidentified = 0
        self._tasks = Tasks()
        self._discovery: asyncio.Task[None] | None = None
        self._answered: set[NodeId] = set()
        self._expected: int | None = None
        self._checks: dict[tuple[NodeId, bool], asyncio.Task[None]] = {}
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}
        self.peers = Peers()
        """Those who live, as far as they are known."""
        self.discovered = asyncio.Event()
        """Set while it is known who is there, as far as they have answered."""

    async def start(self) -> None:
        """Discover the others, and begin to send heartbeats.

        Returns when the others have answered, so that whoever asks them next asks this worker too;
        at once when the adapter is not connected yet.
        """
        self.discover()
        self._schedule_beat()
        self._schedule_check()
        if self._sender.connected:
            with suppress(TimeoutError):
                async with asyncio.timeout(DISCOVERY_TIMEOUT):
                    await self.discovered.wait()

    def discover(self) -> None:
        """Find out who is there: at the start, and after this worker was cut off."""
        if self._discovery is not None:
            self._discovery.cancel()
        self.discovered.clear()
        self._answered.clear()
        self._expected = None
        self._discovery = self._tasks.create(self._discover(), "fastapi_rooms discovery")

    async def close(self, timeout: float) -> None:
        """Leave no task behind, and say BYE."""
        for timer in self._timers.values():
            timer.cancel()
        await self._tasks.cancel(timeout)
        if not self._observer and self._sender.connected:
            with suppress(AdapterUnavailable, TimeoutError):
                async with asyncio.timeout(GOODBYE_TIMEOUT):
                    await self._sender.send(None, self._heartbeat(HeartbeatKind.BYE))

    # What the others send.

    def received(self, heartbeat: Heartbeat) -> None:
        """Take a heartbeat, and answer it if it asks for that."""
        kind, node = heartbeat.kind, heartbeat.origin
        if kind is HeartbeatKind.BYE:
            self.gone(node, left=True)
            return
        if kind is not HeartbeatKind.QUERY:
            self.heard_from(node, heartbeat.interval, new=kind is HeartbeatKind.HELLO)
            if not self.discovered.is_set() and len(self._answered) < MAX_PEERS:
                self._answered.add(node)
                self._check_discovered()
        if kind in (HeartbeatKind.HELLO, HeartbeatKind.QUERY) and not self._observer:
            self._sender.send_volatile(node, self._heartbeat(HeartbeatKind.ALIVE))

    def heard_from(self, node: NodeId, interval: float | None = None, *, new: bool = False) -> None:
        """A worker lives, and has promised another heartbeat within `interval` seconds."""
        if node not in self.peers:
            if not new:  # a newcomer was never among the unidentified
                self._unidentified.introduced()
            self._listener.met(node, new=new)
        self._missing.remove(node)
        interval = self._interval if interval is None else interval
        self.peers.heard(node, self._loop.time(), interval)

    def may_live(self, node: NodeId) -> bool:
        """Whether a worker is known to live, or missing and not lost yet."""
        return node in self.peers or node in self._missing

    def gone(self, node: NodeId, *, left: bool = False) -> None:
        """A worker has stopped, or died."""
        until = self.peers.until(node)
        self.peers.left(node)
        if left:
            self._missing.remove(node)
        elif until is not None:
            self._missing.add(node, until)
        self._listener.gone(node, left=left)

    # Discovery.

    async def _discover(self) -> None:
        """Say HELLO, again and again until somebody can hear it, and wait for answers."""
        own = [self._sender.channel_of(self._sender.node)]
        if not self._observer:
            own.append(self._sender.channel_of(None))
        while True:
            began = self._loop.time()
            try:
                await self._sender.confirm(own)
                began = self._loop.time()
                self._expected = await self._count(self._unless_observer(HeartbeatKind.HELLO))
                break
            except AdapterUnavailable:
                await asyncio.sleep(min(self._interval, RETRY_DELAY))
        self._check_discovered()
        with suppress(TimeoutError):
            async with asyncio.timeout(DISCOVERY_TIMEOUT):
                if self._expected is None:
                    await self._all_is_quiet(self._loop.time() - began)
                else:
                    await self.discovered.wait()
        self.discovered.set()

    async def _all_is_quiet(self, accepted_in: float) -> None:
        """Return when nobody has answered for a while."""
        quiet = max(QUIET, QUIET_FOR_EACH * accepted_in)
        answered = -1
        while answered != len(self._answered):
            answered = len(self._answered)
            await asyncio.sleep(quiet)

    def _check_discovered(self) -> None:
        if self._expected is not None and len(self._answered) >= self._expected:
            self.discovered.set()

    # Heartbeats.

    def _schedule_beat(self) -> None:
        delay = self._interval * random.uniform(0.9, 1)  # noqa: S311 -- no secret
        self._timers[self._beat] = self._loop.call_later(delay, self._beat)

    def _beat(self) -> None:
        self._schedule_beat()
        if not self._sender.connected:
            return  # nobody would hear it
        kind = self._unless_observer(HeartbeatKind.ALIVE)
        if self._unidentified:
            self._tasks.start(self._count_unidentified(kind), "fastapi_rooms count")
        else:
            self._sender.send_volatile(None, self._heartbeat(kind))

    def _unless_observer(self, kind: HeartbeatKind) -> HeartbeatKind:
        return HeartbeatKind.QUERY if self._observer else kind

    def _heartbeat(self, kind: HeartbeatKind) -> Heartbeat:
        return Heartbeat(self._sender.node, 0, kind, self._interval)

    # Counting.

    async def count(self) -> int | None:
        """Have all workers say who they are, and return how many get that: see `workers_among`."""
        return await self._count(HeartbeatKind.QUERY)

    async def workers_among(self, receivers: int | None) -> int | None:
        """How many of those who get what goes to all workers are other workers that may live.

        Those that have been silent for too long are taken for dead. `None` if the carrier does not
        tell.

        Raises:
            AdapterUnavailable: the adapter did not tell how many only watch.
        """
        if receivers is None:
            return None
        if receivers > len(self.peers):
            receivers -= await self._pattern_subscribers()
        now = self._loop.time()
        self._unidentified.counted(max(receivers - len(self.peers), 0), now)
        dead = self._unidentified.dead(now, self._interval)
        if dead > self._dead_unidentified:
            logger.warning(
                "Requests to all workers reach %d receivers that send no heartbeat, and go on "
                "without them: connections that died without Redis noticing, or workers that hang",
                dead,
            )
        self._dead_unidentified = dead
        return max(receivers - dead, 0)

    async def _count(self, kind: HeartbeatKind) -> int | None:
        return await self.workers_among(await self._sender.send(None, self._heartbeat(kind)))

    async def _count_unidentified(self, kind: HeartbeatKind) -> None:
        with suppress(AdapterUnavailable):
            await self._count(kind)

    async def _pattern_subscribers(self) -> int:
        """How many receive everything, by a pattern, as `redis-cli PSUBSCRIBE 'rooms#*'` does."""
        return await self._sender.send(new_node_id(), self._heartbeat(HeartbeatKind.QUERY)) or 0

    # Checking who is silent.

    def check(self, node: NodeId, *, silent: bool = False) -> None:
        """A worker is late with an answer, or `silent`: see whether anybody receives its channel.

        One check at a time: while the adapter is down they would pile up, one for every request.
        """
        key = (node, silent)
        if key not in self._checks:
            self._checks[key] = self._tasks.create(self._check(key), "fastapi_rooms check")

    async def check_all(self, nodes: Collection[NodeId]) -> None:
        """Check each, and return when that is done."""
        for node in nodes:
            self.check(node)
        if nodes:
            await asyncio.wait([self._checks[node, False] for node in nodes])

    def _schedule_check(self) -> None:
        delay = self._interval / CHECKS_PER_INTERVAL
        self._timers[self._check_silent] = self._loop.call_later(delay, self._check_silent)

    def _check_silent(self) -> None:
        self._schedule_check()
        now = self._loop.time()
        if not self._sender.connected:
            # That nobody is heard says nothing of them; and they need as long as we to come back.
            self._missing.cut_off(now, max(self._interval, RETRY_DELAY))
            return
        if not self.discovered.is_set():
            return  # they are about to answer
        for node in self.peers.expire(now):
            self._missing.add(node, now)
        for node in self._missing.due(now, self._interval):
            self.check(node, silent=True)
        if self.peers.is_full:  # invented ones keep out those that start: nobody receives for these
            for node in self.peers:
                self.check(node)

    async def _check(self, key: tuple[NodeId, bool]) -> None:
        node, silent = key
        try:
            receivers = await self._sender.send(node, self._heartbeat(HeartbeatKind.QUERY))
            if receivers:
                receivers = max(receivers - await self._pattern_subscribers(), 0)
            if silent and node not in self._missing:
                return  # it was heard of meanwhile
            if receivers == 0 or (receivers is None and silent):
                self.gone(node)
                if silent and self._missing.remove(node):
                    self._listener.lost(node)
        except AdapterUnavailable:
            pass
        finally:
            self._checks.pop(key, None)
