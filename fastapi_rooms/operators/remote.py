"""What workers tell of theirs: sockets and replies, and how each response to a verb is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from fastapi_rooms.core.close_codes import check_close
from fastapi_rooms.core.names import check_room, check_rooms
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import UsageError
from fastapi_rooms.operators.dispatcher import ClusterRequest, Dispatcher, ResponseReader
from fastapi_rooms.types import NodeId, Room, Sid
from fastapi_rooms.wire.verbs import Verb


class _Reached:
    """What the verbs of a remote socket go by: no field, as it is nothing that is known of it."""

    __slots__ = ("_dispatcher",)

    _dispatcher: Dispatcher

    if not TYPE_CHECKING:  # type checkers would take it that a socket has any attribute

        def __getattr__(self, name: str) -> Any:
            if name == "_dispatcher":
                raise UsageError(
                    "This RemoteSocket is a copy, or made by hand: it can be read, and nothing can "
                    "be done with it. `fetch_sockets` gives those that can."
                )
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")


@dataclass(frozen=True, slots=True)
class RemoteSocket(_Reached):
    """A socket of any worker, as it was when it was fetched.

    A route may return it: its sid, worker, rooms and data.
    """

    sid: Sid
    """Its sid."""
    node: NodeId
    """The id of the worker that it is connected to; `socket.io` if that is a Node server."""
    rooms: tuple[Room, ...]
    """The rooms it was in, its sid among them, in the order of their names."""
    data: dict[str, Any] = field(hash=False)
    """A copy of its `data`, in JSON values; empty if it could not be written as JSON."""

    def _reached_by(self, dispatcher: Dispatcher) -> Self:
        """Have its verbs go by `dispatcher`."""
        object.__setattr__(self, "_dispatcher", dispatcher)
        return self

    async def join(self, *names: Room, timeout: float | None = None) -> None:
        """Put it into rooms: see `BroadcastOperator.sockets_join`."""
        await self._request(Verb.JOIN, {"rooms": list(check_rooms(names))}, timeout)

    async def leave(self, *names: Room, timeout: float | None = None) -> None:
        """Take it out of rooms: see `BroadcastOperator.sockets_leave`."""
        await self._request(Verb.LEAVE, {"rooms": list(check_rooms(names))}, timeout)

    async def disconnect(
        self, code: int = 1000, reason: str = "", *, timeout: float | None = None
    ) -> None:
        """Close it: see `BroadcastOperator.disconnect_sockets`."""
        check_close(code, reason)
        await self._request(Verb.DISCONNECT, {"code": code, "reason": reason}, timeout)

    async def send_text(self, data: str) -> None:
        """Send text to it: see `BroadcastOperator.send_text`."""
        await self._send(Payload.of_text(data))

    async def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes to it."""
        await self._send(Payload.of_bytes(data))

    async def send_json(self, data: Any) -> None:
        """Send JSON to it."""
        await self._send(Payload.of_json(data, self._dispatcher.json))

    async def emit(self, event: str, *args: Any) -> None:
        """Send it an event: see `BroadcastOperator.emit`."""
        await self._dispatcher.emit(Target((self.sid,)), event, args, local=False, volatile=False)

    async def _send(self, payload: Payload) -> None:
        await self._dispatcher.send(Target((self.sid,)), payload, local=False, volatile=False)

    async def _request(self, verb: Verb, arguments: dict[str, Any], timeout: float | None) -> None:
        request = ClusterRequest(verb, Target(()), {**arguments, "sid": self.sid}, node=self.node)
        await self._dispatcher.request(request, NOTHING, timeout)


@dataclass(frozen=True, slots=True)
class ServerReply:
    """What one worker's handler replied to a server-side event."""

    node: NodeId
    """The id of the worker; `socket.io` for a Node server."""
    value: Any = field(hash=False)
    """What its handler returned, in JSON values; `None` where it failed."""
    error: str | None
    """Why there is no value: the handler raised, or there is none."""


def _read_nothing(node: NodeId, response: Any) -> None:  # noqa: ARG001 -- as every reader
    if response is not None:
        raise ValueError("expected null")


def _read_count(node: NodeId, response: Any) -> int:  # noqa: ARG001
    if type(response) is not int or response < 0:
        raise ValueError("expected a count")
    return response


def _read_rooms(node: NodeId, response: Any) -> Iterable[Room]:  # noqa: ARG001
    if not isinstance(response, list):
        raise TypeError("expected a list")
    return check_rooms(tuple(response))


def sockets_for(
    dispatcher: Dispatcher,
) -> ResponseReader[list[RemoteSocket], list[RemoteSocket]]:
    """Reads sockets; what is done with one of them goes by `dispatcher`."""

    def read(node: NodeId, response: Any) -> list[RemoteSocket]:
        sockets = []
        for row in response:
            match row:
                case [str(sid), list(rooms), dict(data)]:
                    names = tuple(sorted(set(check_rooms(tuple(rooms)))))
                    found = RemoteSocket(check_room(sid), node, names, data)
                    sockets.append(found._reached_by(dispatcher))
                case _:
                    raise ValueError("expected sid, rooms and data")
        return sockets

    return ResponseReader(
        read, lambda parts: [socket for part in parts for socket in part], in_parts=True
    )


NOTHING: ResponseReader[None, None] = ResponseReader(_read_nothing, lambda _: None)
COUNT: ResponseReader[int, int] = ResponseReader(_read_count, sum)
ROOMS: ResponseReader[Iterable[Room], set[Room]] = ResponseReader(
    _read_rooms, lambda parts: set().union(*parts), in_parts=True
)
REPLIES: ResponseReader[ServerReply, list[ServerReply]] = ResponseReader(
    lambda node, response: ServerReply(node, response, None), list
)
