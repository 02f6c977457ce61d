"""Does what Node servers ask of everyone, and answers: each question once, and never twice.

A Node server waits for as many answers as the channel of requests has subscribers. Who subscribes
and stays silent makes it wait until its timeout; two answers of one stand in for somebody else's,
whose sockets it then does not see.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from inspect import isawaitable
from typing import Any, Final, Protocol

from fastapi_rooms.concurrency import FAULTS, Tasks, parts_of
from fastapi_rooms.core.json_codec import WIRE_JSON
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.printable import printable
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import AdapterUnavailable, RoomsError
from fastapi_rooms.types import Room, Sid
from fastapi_rooms.wire.socketio import responses
from fastapi_rooms.wire.socketio.requests import Kind, Request

logger = logging.getLogger("fastapi_rooms")

MAX_RUNNING: Final = 1024
"""Requests that may be under way here at a time; those beyond are dropped, and counted."""

_CLOSE_CODE: Final = 1000
"""What a socket is closed with that a Node server disconnects: it names no code."""


class SharedNamespace(Protocol):
    """A namespace on this worker, as far as Node servers have to do with it.

    See `worker.local_namespace.LocalNamespace`.
    """

    @property
    def rooms(self) -> Mapping[Room, AbstractSet[Sid]]:
        """Its rooms here."""

    def receive(self, target: Target, payload: Payload, *, volatile: bool) -> None:
        """Deliver a message to members and listeners here."""

    def crowd(self, target: Target, *, joining: bool = False) -> Mapping[Sid, Any]:
        """Whom a target addresses here; with `joining`, also who is on the way in."""

    def sockets(self, part: Iterable[tuple[Sid, Any]]) -> list[Any]:
        """The sockets of a part of a crowd that are in still."""

    def alone(self, sid: Sid) -> Mapping[Sid, Any]:
        """The one here that has a sid, as a crowd; nobody if there is none."""

    def join_crowd(self, crowd: Mapping[Sid, Any], rooms: tuple[Room, ...]) -> Awaitable[None]:
        """Put sockets into rooms."""

    def leave_crowd(
        self, crowd: Mapping[Sid, Any], rooms: tuple[Room, ...]
    ) -> Awaitable[None] | None:
        """Take sockets out of rooms."""

    def disconnect_crowd(
        self, crowd: Mapping[Sid, Any], code: int, reason: str
    ) -> Awaitable[None] | None:
        """Close sockets."""

    def handle(self, event: str, args: list[Any]) -> Any:
        """Call the handler of a server-side event; returns what it does, or an awaitable."""


Answer = Callable[[str, str | None, bytes], Coroutine[Any, Any, None]]
"""Sends an answer in a namespace, to a server by its uid, or to all."""


class Responder:
    """The requests of Node servers that are under way here."""

    def __init__(
        self, namespaces: Mapping[str, SharedNamespace], answer: Answer, drop: Callable[[], None]
    ) -> None:
        self._namespaces = namespaces
        self._answer = answer
        self._drop = drop
        self._tasks = Tasks()
        self._turn = asyncio.Lock()

    def requested(self, namespace: str, request: Request) -> None:
        """Carry it out, or begin to: what arrives later finds it done, unless it has to wait."""
        if len(self._tasks) >= MAX_RUNNING:
            self._drop()
            return
        found = self._namespaces.get(namespace)
        match request.kind:
            case Kind.JOIN | Kind.LEAVE | Kind.DISCONNECT:
                self._command(found, namespace, request)
            case Kind.SERVER_SIDE_EMIT:
                self._start(self._handle(found, namespace, request))
            case _ if request.id is None:
                self._drop()
            case Kind.SOCKETS | Kind.FETCH:
                self._start(self._tell_sockets(found, namespace, request))
            case Kind.ALL_ROOMS:
                self._start(self._tell_rooms(found, namespace, request))
            case Kind.BROADCAST | Kind.CLIENT_COUNT:
                self._drop()

    def count_clients(self, namespace: str, request: Request) -> None:
        """Say of a broadcast that is to be acknowledged that no client here will do it."""
        if request.id is not None:
            self.reply(namespace, request.uid, responses.of_count(request.id, 0))

    def reply(self, namespace: str, uid: str | None, answer: bytes) -> None:
        """Send an answer that is there already."""
        if len(self._tasks) >= MAX_RUNNING:
            self._drop()
        else:
            self._start(self._answer(namespace, uid, answer))

    async def wait(self, timeout: float) -> None:
        """Wait until what was asked is answered, for at most so many seconds."""
        await self._tasks.wait(timeout)

    async def close(self, timeout: float) -> None:
        """Cancel what is under way; it has `timeout` seconds to end by that."""
        await self._tasks.cancel(timeout)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.start(_logged(work), "The answer to a Socket.IO server")

    # Commands, which are done at once, or begun.

    def _command(self, namespace: SharedNamespace | None, name: str, request: Request) -> None:
        if namespace is None:
            return
        kind = request.kind
        if request.sid is not None:
            crowd = namespace.alone(request.sid)
        else:
            crowd = namespace.crowd(request.target, joining=kind is not Kind.JOIN)
        result: Awaitable[None] | None
        match kind:
            case Kind.JOIN:
                result = namespace.join_crowd(crowd, request.rooms)
            case Kind.LEAVE:
                result = namespace.leave_crowd(crowd, request.rooms)
            case _:
                result = namespace.disconnect_crowd(crowd, _CLOSE_CODE, "")
        owes_answer = request.sid is not None and request.id is not None and bool(crowd)
        if result is not None or owes_answer:
            self._start(self._finish(result, name, request, owes_answer=owes_answer))

    async def _finish(
        self, work: Awaitable[None] | None, name: str, request: Request, *, owes_answer: bool
    ) -> None:
        if work is not None:
            try:
                await work
            except RoomsError as error:  # a room's limit, or a carrier that is away
                logger.warning("A Socket.IO server asked for what could not be done: %s", error)
        if owes_answer and request.id is not None:
            await self._answer(name, request.uid, responses.of_done(request.id))

    # Questions. An answer may take megabytes, and who asks has sent a few bytes: there is one at a
    # time, until it is sent, and those that wait hold nothing.

    async def _tell_sockets(
        self, namespace: SharedNamespace | None, name: str, request: Request
    ) -> None:
        assert request.id is not None
        async with self._turn:
            crowd = {} if namespace is None else namespace.crowd(request.target)
            if request.kind is Kind.SOCKETS:
                answer = responses.of_sids(request.id, crowd)
            else:
                rows = [] if namespace is None else await _rows(namespace, crowd)
                answer = responses.of_rows(request.id, rows)
            await self._answer(name, request.uid, answer)

    async def _tell_rooms(
        self, namespace: SharedNamespace | None, name: str, request: Request
    ) -> None:
        assert request.id is not None
        async with self._turn:
            rooms = () if namespace is None else namespace.rooms
            await self._answer(name, request.uid, responses.of_rooms(request.id, rooms))

    async def _handle(self, namespace: SharedNamespace | None, name: str, request: Request) -> None:
        value = b"null"
        try:
            if namespace is not None:
                event, *args = request.data
                result = namespace.handle(event, args)
                if isawaitable(result):
                    result = await result
                value = WIRE_JSON.dumps(result)
        except RoomsError as error:  # there is no handler, most often
            logger.debug("The event of a Socket.IO server was not handled: %s", error)
        except FAULTS:
            logger.exception("The handler of a server-side event of a Socket.IO server failed")
        if request.id is not None:
            await self._answer(name, request.uid, responses.of_event(request.id, value))


async def _rows(namespace: SharedNamespace, crowd: Mapping[Sid, Any]) -> list[bytes]:
    rows: list[bytes] = []
    no_json: list[tuple[Sid, Exception]] = []
    async for some in parts_of(crowd.items(), 250):
        await asyncio.sleep(0)
        sockets = [(s.sid, rooms, s.data) for s in namespace.sockets(some) if (rooms := s.rooms)]
        for sid, rooms, data in sockets:
            try:
                rows.append(responses.row(sid, rooms, data))
            except (TypeError, ValueError) as error:
                no_json.append((sid, error))
                rows.append(responses.row(sid, rooms, {}))
    if no_json:
        sid, why = no_json[0]
        logger.error(
            "The data of %d sockets is no JSON, and was left out of an answer: %s: %s",
            len(no_json),
            printable(sid),
            printable(str(why)),
        )
    return rows


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        with suppress(AdapterUnavailable):  # whoever asks finds out by its timeout
            await work
    except Exception:
        logger.exception("A request of a Socket.IO server could not be carried out")
