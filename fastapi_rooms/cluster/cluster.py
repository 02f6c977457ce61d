"""This worker among the others: what they ask, what they answer.

Strategy: `discovery` says who lives and `question` who has answered; this file sends, listens and
waits. What makes a request end as soon as it can, and not before:

* Nobody is asked anything until the others have had a moment to answer our greeting. One that is
  too busy for that gets requests all the same: the carrier says to how many it gave them, so
  nothing is complete without it.
* Who leaves, or died, is not waited for: that is looked into when an answer is late.
* A worker that is merely frozen still has its subscriptions. So it is waited for, to the timeout;
  until it has been silent for so long that it is taken for dead: see `peers`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from inspect import isawaitable
from typing import Any

import orjson

from fastapi_rooms.adapters.base import Adapter
from fastapi_rooms.cluster.commands import (
    EMPTY_NAMESPACE,
    VERBS,
    CommandTarget,
    reason_of,
    unknown_verb,
)
from fastapi_rooms.cluster.heartbeat import HeartbeatMonitor, HeartbeatSettings
from fastapi_rooms.cluster.pending import PendingRequest, pieces_of
from fastapi_rooms.cluster.sender import Sender
from fastapi_rooms.concurrency import Tasks
from fastapi_rooms.core.names import Channels
from fastapi_rooms.errors import AdapterUnavailable, NotStarted, RoomsError, UsageError
from fastapi_rooms.operators.commands import ClusterRequest
from fastapi_rooms.types import Channel, NodeId
from fastapi_rooms.wire.envelope import Heartbeat, Reply, Request

logger = logging.getLogger("fastapi_rooms")

LATE = 0.5
"""Every so many seconds it is looked into whether workers that have not answered still live."""

MAX_RUNNING = 1024
"""Requests of others that may be under way here at a time; more are refused."""


class Cluster:
    """The other workers, from one start of the manager to its close."""

    def __init__(
        self,
        node: NodeId,
        adapter: Adapter,
        channels: Channels,
        pace: HeartbeatSettings,
        number: Callable[[], int],
        places: Mapping[str, CommandTarget[Any]],
    ) -> None:
        self._post = Sender(node, adapter, channels, number)
        self._pace = pace
        self._places = places
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._discovery = HeartbeatMonitor(self._post, pace, self)
        self._questions: dict[int, tuple[PendingRequest, asyncio.Future[None]]] = {}
        self._answering = Tasks()
        self._closed = False

    @property
    def nodes(self) -> frozenset[NodeId]:
        """The workers that live, this one among them."""
        here = frozenset[NodeId]() if self._pace.observer else {self._post.node}
        return frozenset(self._discovery.peers) | here

    @property
    def uptime(self) -> float:
        """Seconds since the start of the manager."""
        return self._loop.time() - self._since

    @property
    def own_channels(self) -> list[Channel]:
        """What is held from start to close."""
        own = [self._post.channel_of(self._post.node)]
        return own if self._pace.observer else [*own, self._post.channel_of(None)]

    async def start(self) -> None:
        """Find out who is there: see `HeartbeatMonitor.start`."""
        await self._discovery.start()

    def greet(self) -> None:
        """Find out again who is there, after this worker was cut off."""
        self._discovery.greet()

    async def close(self, timeout: float) -> None:
        """End what is under way, each kind of it in at most so many seconds, and say goodbye.

        Whoever waits for answers, or for the others to be found, gets `NotStarted`.
        """
        self._closed = True
        self._discovery.discovered.set()
        for _, answered in self._questions.values():
            if not answered.done():
                answered.set_result(None)
        await self._answering.end(timeout)
        await self._discovery.close(timeout)

    # Asking.

    async def ask(self, namespace: str, ask: ClusterRequest, timeout: float) -> PendingRequest:
        """Ask the other workers that live, and return with what they have answered in time.

        Raises:
            AdapterUnavailable: the adapter did not accept the request in time.
            NotStarted: the manager was closed in the meantime.
        """
        deadline = self._loop.time() + timeout
        try:
            async with asyncio.timeout_at(deadline):
                await self._discovery.discovered.wait()
        except TimeoutError:
            raise AdapterUnavailable(
                "The time was up before this worker had found the others, which were not asked: "
                "the adapter is not connected, or has been for less than a second."
            ) from None
        asked = self._discovery.peers if ask.node is None else (ask.node,)
        question = PendingRequest(asked, everyone=ask.node is None)
        number = secrets.randbits(63) + 1
        answered: asyncio.Future[None] = self._loop.create_future()
        self._questions[number] = (question, answered)
        try:
            self._check_open()
            async with asyncio.timeout_at(deadline):
                receivers = await self._request(namespace, ask, number)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._hear_out(question, answered, ask.node, receivers)
        except TimeoutError:
            raise AdapterUnavailable(
                "The time was up before the adapter had accepted the request."
            ) from None
        except AdapterUnavailable:
            self._check_open()
            raise
        finally:
            del self._questions[number]
        self._check_open()
        return question

    async def tell(self, namespace: str, ask: ClusterRequest) -> None:
        """Ask for something without wanting to know what becomes of it."""
        await self._request(namespace, ask, 0)

    async def _request(self, namespace: str, ask: ClusterRequest, number: int) -> int | None:
        arguments = dict(ask.arguments)
        request = Request(self._post.node, 0, namespace, ask.target, number, ask.verb, arguments)
        return await self._post.send(ask.node, request)

    async def _hear_out(
        self,
        question: PendingRequest,
        answered: asyncio.Future[None],
        node: NodeId | None,
        receivers: int | None,
    ) -> None:
        """Return when everyone has answered who got a request, or is gone."""
        if node is None:
            question.reached(receivers or 0)
            if question.unidentified:
                with suppress(AdapterUnavailable):  # they are counted again if they do not answer
                    question.reached(await self._discovery.workers_among(receivers) or 0)
        elif receivers == 0:
            self._discovery.gone(node)
        _settle(question, answered)
        while not answered.done():
            await asyncio.wait((answered,), timeout=LATE)
            if not answered.done():
                await self._look_into_late(question)
                _settle(question, answered)

    async def _look_into_late(self, question: PendingRequest) -> None:
        for node in question.missing:
            self._discovery.look_into(node)
        if question.unidentified:
            with suppress(AdapterUnavailable):  # it is tried again, as long as there is time
                receivers = await self._discovery.count()
                # Who has answered and died since would stand for a stranger that lives.
                await self._discovery.look_into_all(question.heard_out)
                if receivers is not None:
                    question.counted(receivers)

    def _check_open(self) -> None:
        if self._closed:
            raise NotStarted

    # What the others send.

    def received(self, message: Request | Reply | Heartbeat) -> bool:
        """Take what another worker sent; false if it fits nothing here."""
        match message:
            case Request():
                self._requested(message)
            case Reply():
                return self._replied(message)
            case Heartbeat():
                self._discovery.heard(message)
        return True

    def _requested(self, request: Request) -> None:
        """Do it, or begin to: what arrives later finds it done, unless it has to wait."""
        if len(self._answering) >= 2 * MAX_RUNNING:
            return  # not even refusals get out: whoever asks finds out by the timeout
        refused = False
        try:
            answer = self._do(request)
        except Exception as error:  # noqa: BLE001 -- whoever asks is told
            answer, refused = _reason(request, error), True
        if request.id or isawaitable(answer):
            self._answering.start(self._answer(request, answer, refused), _name_of(request))

    def _do(self, request: Request) -> Any:
        verb = VERBS.get(request.verb)
        if verb is None:
            raise UsageError(unknown_verb(request.verb))
        if len(self._answering) >= MAX_RUNNING:
            raise UsageError(f"{MAX_RUNNING} requests are under way here already.")
        place = self._places.get(request.namespace, EMPTY_NAMESPACE)
        return verb(place, request.target, request.arguments)

    async def _answer(self, request: Request, answer: Any, refused: bool) -> None:
        try:
            if isawaitable(answer):
                answer = await answer
            data = answer if refused else orjson.dumps(answer)
        except Exception as error:  # noqa: BLE001 -- as above
            data, refused = _reason(request, error), True
        if not request.id or self._closed:
            return
        pieces = pieces_of(data)
        with suppress(AdapterUnavailable):  # whoever asks finds out by the timeout
            for number, piece in enumerate(pieces):
                last = number == len(pieces) - 1
                reply = Reply(self._post.node, 0, request.id, number, last, refused, piece)
                await self._post.send(request.origin, reply)

    def _replied(self, reply: Reply) -> bool:
        if reply.request not in self._questions:
            return True  # late: nobody waits for it any more
        question, answered = self._questions[reply.request]
        fits = question.answered(reply)
        if fits and reply.origin not in self._discovery.peers:
            self._discovery.lives(reply.origin)
        _settle(question, answered)
        return fits

    # What discovery finds out.

    def met(self, node: NodeId, *, new: bool) -> None:
        """A worker that was not known lets hear of itself."""
        for question, _ in self._questions.values():
            question.met(node, new=new)

    def gone(self, node: NodeId, *, left: bool) -> None:
        """A worker is no more."""
        for question, answered in self._questions.values():
            question.gone(node, left=left)
            _settle(question, answered)


def _settle(question: PendingRequest, answered: asyncio.Future[None]) -> None:
    """Wake up whoever asked, if that was the last answer."""
    if question.is_done() and not answered.done():
        answered.set_result(None)


def _name_of(request: Request) -> str:
    """What the task does that answers, for whoever has to find it."""
    if request.verb == "emit":
        return f"The handler of the server-side event {str(request.arguments.get('event'))[:80]!r}"
    return f"The answer to {request.verb[:80]!r}"


def _reason(request: Request, error: Exception) -> bytes:
    """Why a request is refused, for whoever asks; for our own log, if it is not their fault."""
    if not isinstance(error, RoomsError):
        logger.error("%r, asked for by another worker, failed", request.verb, exc_info=error)
    return reason_of(error).encode(errors="backslashreplace")
