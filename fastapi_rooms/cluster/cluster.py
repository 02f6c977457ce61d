"""This worker among the others: who lives, what they ask, what they answer.

Strategy: `peers` says who lives and `question` who has answered; this file sends, listens and
waits. Three things make a request end as soon as it can:

* A worker that starts, or was cut off, greets the others and they answer at once. How many should,
  the carrier says when it takes the greeting; until then nobody is asked anything. One that is too
  busy to answer gets requests all the same: the carrier says to how many it gave them, so nothing
  is complete without it.
* A worker that leaves says so. One that died does not, but the carrier gives a message on its own
  channel to nobody: that is looked into when an answer is late. (Nobody but those who watch
  everything by a pattern; how many these are, a message shows that is for no worker at all.)
* A worker that is merely frozen still has its subscriptions. So it is waited for, to the timeout.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any

import orjson

from fastapi_rooms import codec
from fastapi_rooms.adapters.base import Adapter
from fastapi_rooms.checks import check_positive
from fastapi_rooms.cluster.peers import MAX_INTERVAL, MAX_PEERS, Peers, Strangers
from fastapi_rooms.cluster.question import Question, pieces_of
from fastapi_rooms.cluster.remote import Ask
from fastapi_rooms.cluster.verbs import NOWHERE, VERBS, Place, reason_of
from fastapi_rooms.envelope import Beat, Message, Reply, Request, Sign
from fastapi_rooms.errors import AdapterUnavailable, ConfigurationError, RoomsError, UsageError
from fastapi_rooms.names import Channels, new_node_id
from fastapi_rooms.types import Channel, NodeId

logger = logging.getLogger("fastapi_rooms")

GREETING = 1.0
"""Seconds that others have to answer a greeting before requests go out."""

LATE = 0.5
"""Every so many seconds it is looked into whether workers that have not answered still live."""

LOOKS = 4
"""So many times in the span between two beats it is looked for workers that have gone silent."""

GOODBYE = 1.0
"""Seconds that a goodbye may take."""

SHORTEST = 0.001
"""Seconds; a beat says in whole milliseconds when to expect the next."""

MAX_RUNNING = 1024
"""Requests of others that may be under way here at a time; more are refused."""


@dataclass(frozen=True, slots=True)
class Pace:
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


class Cluster:
    """The other workers, from one start of the manager to its close."""

    def __init__(
        self,
        node: NodeId,
        adapter: Adapter,
        channels: Channels,
        pace: Pace,
        number: Callable[[], int],
        places: Mapping[str, Place[Any]],
    ) -> None:
        self._node = node
        self._adapter = adapter
        self._channels = channels
        self._pace = pace
        self._number = number
        self._places = places
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._peers = Peers()
        self._strangers = Strangers()
        self._dead_strangers = 0
        self._questions: dict[int, tuple[Question, asyncio.Future[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._greeting: asyncio.Task[None] | None = None
        self._greeted = asyncio.Event()
        self._answered_greeting: set[NodeId] = set()
        self._expected: int | None = None
        self._looked_into: set[tuple[NodeId, bool]] = set()
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}

    @property
    def nodes(self) -> frozenset[NodeId]:
        """The workers that live, this one among them."""
        return frozenset(self._peers) | (frozenset() if self._pace.observer else {self._node})

    @property
    def uptime(self) -> float:
        """Seconds since the start of the manager."""
        return self._loop.time() - self._since

    @property
    def own_channels(self) -> list[Channel]:
        """What is held from start to close."""
        own = [self._channels.of_node(self._node)]
        return own if self._pace.observer else [*own, self._channels.of_workers()]

    async def start(self) -> None:
        """Greet the others, and let hear of this worker from time to time.

        Returns when the others have answered, so that whoever asks them next asks this worker too;
        at once when the adapter is not connected yet.
        """
        self.greet()
        self._schedule_beat()
        self._schedule_look()
        if self._adapter.health.connected:
            with suppress(TimeoutError):
                async with asyncio.timeout(GREETING):
                    await self._greeted.wait()

    def greet(self) -> None:
        """Find out who is there: at the start, and after this worker was cut off."""
        if self._greeting is not None:
            self._greeting.cancel()
        self._greeted.clear()
        self._answered_greeting.clear()
        self._expected = None
        self._greeting = asyncio.create_task(self._greet(), name="fastapi_rooms greeting")

    async def close(self) -> None:
        """Leave no task behind, and say goodbye."""
        for timer in self._timers.values():
            timer.cancel()
        tasks = [*self._tasks, *([self._greeting] if self._greeting is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _, answered in self._questions.values():
            if not answered.done():
                answered.set_result(None)
        if not self._pace.observer and self._adapter.health.connected:
            with suppress(AdapterUnavailable, TimeoutError):
                async with asyncio.timeout(GOODBYE):
                    await self._publish(self._channels.of_workers(), self._beat(Sign.BYE))

    # Asking.

    async def ask(self, namespace: str, ask: Ask, timeout: float) -> Question:
        """Ask the other workers that live, and return with what they have answered in time.

        Raises:
            AdapterUnavailable: the adapter did not accept the request.
        """
        deadline = self._loop.time() + timeout
        await self._know_who_is_there(timeout)
        asked = self._peers if ask.node is None else (ask.node,)
        question = Question(asked, everyone=ask.node is None)
        number = secrets.randbits(63) + 1
        answered: asyncio.Future[None] = self._loop.create_future()
        self._questions[number] = (question, answered)
        try:
            receivers = await self._request(namespace, ask, number)
            if ask.node is None:
                question.reached(receivers or 0)
                if question.strangers:
                    question.reached(await self._workers_among(receivers) or 0)
            elif receivers == 0:
                self._gone(ask.node)
            _settle(question, answered)
            while not answered.done() and (left := deadline - self._loop.time()) > 0:
                await asyncio.wait((answered,), timeout=min(LATE, left))
                if not answered.done():
                    await self._look_into_late(question)
                    _settle(question, answered)
        finally:
            del self._questions[number]
        return question

    async def _look_into_late(self, question: Question) -> None:
        for node in question.missing:
            self._look_into(node)
        if question.strangers:
            with suppress(AdapterUnavailable):  # it is tried again, as long as there is time
                receivers = await self._count(Sign.LOOK)
                if receivers is not None:
                    question.counted(receivers)

    async def tell(self, namespace: str, ask: Ask) -> None:
        """Ask for something without wanting to know what becomes of it."""
        await self._request(namespace, ask, 0)

    async def _request(self, namespace: str, ask: Ask, number: int) -> int | None:
        to = self._channels.of_workers() if ask.node is None else self._channels.of_node(ask.node)
        arguments = dict(ask.arguments)
        request = Request(self._node, 0, namespace, ask.target, number, ask.verb, arguments)
        return await self._publish(to, request)

    async def _know_who_is_there(self, timeout: float) -> None:
        if self._greeted.is_set():
            return
        try:
            async with asyncio.timeout(timeout):
                await self._greeted.wait()
        except TimeoutError:
            raise AdapterUnavailable(
                f"The adapter did not connect in {timeout:g} s: nobody could be asked."
            ) from None

    # What the others send.

    def received(self, message: Request | Reply | Beat) -> bool:
        """Take what another worker sent; false if it fits nothing here."""
        match message:
            case Request():
                self._requested(message)
            case Reply():
                return self._replied(message)
            case Beat():
                self._heard(message)
        return True

    def _requested(self, request: Request) -> None:
        """Do it, or begin to: what arrives later finds it done, unless it has to wait."""
        if len(self._tasks) >= 2 * MAX_RUNNING:
            return  # not even refusals get out: whoever asks finds out by the timeout
        refused = False
        try:
            answer = self._do(request)
        except Exception as error:  # noqa: BLE001 -- whoever asks is told
            answer, refused = _reason(request, error), True
        if request.id or isawaitable(answer):
            self._spawn(self._answer(request, answer, refused))

    def _do(self, request: Request) -> Any:
        verb = VERBS.get(request.verb)
        if verb is None:
            raise UsageError(f"The verb {request.verb!r} is unknown to this worker's version.")
        if len(self._tasks) >= MAX_RUNNING:
            raise UsageError(f"{MAX_RUNNING} requests are under way here already.")
        place = self._places.get(request.namespace, NOWHERE)
        return verb(place, request.target, request.arguments)

    async def _answer(self, request: Request, answer: Any, refused: bool) -> None:
        try:
            if isawaitable(answer):
                answer = await answer
            data = answer if refused else orjson.dumps(answer)
        except Exception as error:  # noqa: BLE001 -- as above
            data, refused = _reason(request, error), True
        if not request.id:
            return
        to = self._channels.of_node(request.origin)
        pieces = pieces_of(data)
        with suppress(AdapterUnavailable):  # whoever asks finds out by the timeout
            for number, piece in enumerate(pieces):
                last = number == len(pieces) - 1
                reply = Reply(self._node, 0, request.id, number, last, refused, piece)
                await self._publish(to, reply)

    def _replied(self, reply: Reply) -> bool:
        if reply.request not in self._questions:
            return True  # late: nobody waits for it any more
        question, answered = self._questions[reply.request]
        fits = question.answered(reply)
        if fits and reply.origin not in self._peers:
            self._met(reply.origin, self._pace.heartbeat, new=False)
        _settle(question, answered)
        return fits

    def _heard(self, beat: Beat) -> None:
        if beat.sign is Sign.BYE:
            self._gone(beat.origin, left=True)
            return
        if beat.sign is not Sign.LOOK:
            if beat.origin not in self._peers:
                self._met(beat.origin, beat.interval, new=beat.sign is Sign.HELLO)
            self._peers.heard(beat.origin, self._loop.time(), beat.interval)
            if not self._greeted.is_set() and len(self._answered_greeting) < MAX_PEERS:
                self._answered_greeting.add(beat.origin)
                self._check_greeted()
        if beat.sign in (Sign.HELLO, Sign.LOOK) and not self._pace.observer:
            self._publish_volatile(self._channels.of_node(beat.origin), self._beat(Sign.ALIVE))

    def _met(self, node: NodeId, interval: float, *, new: bool) -> None:
        """A worker that was not known lets hear of itself."""
        self._peers.heard(node, self._loop.time(), interval)
        self._strangers.introduced()
        for question, _ in self._questions.values():
            question.met(node, new=new)

    # Who lives.

    async def _greet(self) -> None:
        """Greet everybody, again and again until somebody can hear it, and wait for answers."""
        sign = Sign.LOOK if self._pace.observer else Sign.HELLO
        while True:
            try:
                await self._adapter.subscribe(self.own_channels)
                self._expected = await self._count(sign)
                break
            except AdapterUnavailable:
                await asyncio.sleep(self._pace.heartbeat)
        self._check_greeted()
        with suppress(TimeoutError):
            async with asyncio.timeout(GREETING):
                await self._greeted.wait()
        self._greeted.set()

    def _check_greeted(self) -> None:
        if self._expected is not None and len(self._answered_greeting) >= self._expected:
            self._greeted.set()

    def _schedule_beat(self) -> None:
        delay = self._pace.heartbeat * random.uniform(0.9, 1)  # noqa: S311 -- no secret
        self._timers[self._let_hear] = self._loop.call_later(delay, self._let_hear)

    def _let_hear(self) -> None:
        self._schedule_beat()
        if not self._adapter.health.connected:
            return  # nobody hears us
        sign = Sign.LOOK if self._pace.observer else Sign.ALIVE
        if self._strangers:
            self._spawn(self._count_strangers(sign))
        else:
            self._publish_volatile(self._channels.of_workers(), self._beat(sign))

    async def _count(self, sign: Sign) -> int | None:
        """Let all workers hear of this one, and return how many others do: see `_workers_among`."""
        receivers = await self._publish(self._channels.of_workers(), self._beat(sign))
        return await self._workers_among(receivers)

    async def _count_strangers(self, sign: Sign) -> None:
        with suppress(AdapterUnavailable):
            await self._count(sign)

    async def _workers_among(self, receivers: int | None) -> int | None:
        """How many of those who receive what goes to all workers are other workers that may live.

        Who has been silent for too long is taken for dead.
        """
        if receivers is None:
            return None
        if receivers > len(self._peers):
            receivers -= await self._watchers()
        now = self._loop.time()
        self._strangers.counted(max(receivers - len(self._peers), 0), now)
        dead = self._strangers.dead(now, self._pace.heartbeat)
        if dead > self._dead_strangers:
            logger.warning(
                "Requests to all workers reach %d that never let hear of themselves, and go on "
                "without them: connections that died without Redis noticing, or workers that hang",
                dead,
            )
        self._dead_strangers = dead
        return max(receivers - dead, 0)

    async def _watchers(self) -> int:
        """How many receive everything, by a pattern, as `redis-cli PSUBSCRIBE 'rooms#*'` does.

        They also receive what is sent to a worker that never was.
        """
        nobody = self._channels.of_node(new_node_id())
        return await self._publish(nobody, self._beat(Sign.LOOK)) or 0

    def _schedule_look(self) -> None:
        delay = self._pace.heartbeat / LOOKS
        self._timers[self._look] = self._loop.call_later(delay, self._look)

    def _look(self) -> None:
        self._schedule_look()
        if not self._adapter.health.connected or not self._greeted.is_set():
            return  # that we hear nobody says nothing of them, or they are about to answer
        for node in self._peers.expire(self._loop.time()):
            self._look_into(node, silent=True)

    def _look_into(self, node: NodeId, *, silent: bool = False) -> None:
        """A worker is late with an answer, or has let nothing hear: is there anybody at all?

        One question at a time: while the adapter is down they would pile up, for every request.
        """
        doubt = (node, silent)
        if doubt not in self._looked_into:
            self._looked_into.add(doubt)
            self._spawn(self._is_anybody_there(doubt))

    async def _is_anybody_there(self, doubt: tuple[NodeId, bool]) -> None:
        node, silent = doubt
        try:
            to = self._channels.of_node(node)
            receivers = await self._publish(to, self._beat(Sign.LOOK))
            if receivers:
                receivers -= await self._watchers()
            if (receivers is not None and receivers <= 0) or (receivers is None and silent):
                self._gone(node)
        except AdapterUnavailable:
            pass
        finally:
            self._looked_into.discard(doubt)

    def _gone(self, node: NodeId, *, left: bool = False) -> None:
        self._peers.left(node)
        for question, answered in self._questions.values():
            question.gone(node, left=left)
            _settle(question, answered)

    def _beat(self, sign: Sign) -> Beat:
        return Beat(self._node, 0, sign, self._pace.heartbeat)

    # Out.

    async def _publish(self, channel: Channel, message: Message) -> int | None:
        data = codec.encode(message._replace(sequence=self._number()))
        return await self._adapter.publish(channel, data)

    def _publish_volatile(self, channel: Channel, message: Message) -> None:
        data = codec.encode(message._replace(sequence=self._number()))
        self._adapter.publish_volatile(channel, data)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _settle(question: Question, answered: asyncio.Future[None]) -> None:
    """Wake up whoever asked, if that was the last answer."""
    if question.is_done() and not answered.done():
        answered.set_result(None)


def _reason(request: Request, error: Exception) -> bytes:
    """Why a request is refused, for whoever asks; for our own log, if it is not their fault."""
    if not isinstance(error, RoomsError):
        logger.error("%r, asked for by another worker, failed", request.verb, exc_info=error)
    return reason_of(error).encode(errors="backslashreplace")
