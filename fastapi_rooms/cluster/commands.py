"""What a worker does for another that asks: the half of each cluster verb that is done locally.

Strategy: the asking worker does to its own sockets just what it asks of the others, through the
same function; so an answer does not depend on where it is asked. A verb returns JSON, or something
to wait for that gives it. It is begun in the order in which requests and broadcasts arrive: whom it
is about is found out at once, and who leaves or is disconnected is out of the rooms at once. The
rest, for many sockets, is done in slices, and others have the event loop in between.

Arguments come from the network: each verb says what it needs of them, and refuses the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any, Protocol, TypeAlias, TypeVar

import orjson

from fastapi_rooms.concurrency import in_slices
from fastapi_rooms.core.names import check_room, check_rooms
from fastapi_rooms.core.outbox import check_close_code
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import RoomsError, ShuttingDown, UsageError
from fastapi_rooms.types import Room, Sid

logger = logging.getLogger("fastapi_rooms")

MAX_REASON_BYTES = 123
"""What a close frame has room for (RFC 6455, section 5.5)."""

Arguments: TypeAlias = Mapping[str, Any]


class AddressedSocket(Protocol):
    """A socket, as far as the verbs need it."""

    sid: Sid
    data: dict[str, Any]

    @property
    def rooms(self) -> AbstractSet[Room]:
        """The rooms it is in."""


S = TypeVar("S", bound=AddressedSocket)


class CommandTarget(Protocol[S]):
    """A namespace on this worker, as far as the verbs need it."""

    @property
    def rooms(self) -> Mapping[Room, Any]:
        """Its rooms here."""

    def sockets(self, target: Target) -> list[S]:
        """The sockets here that a target addresses."""

    def socket(self, sid: Sid) -> S | None:
        """The socket here that has a sid."""

    async def put(self, sockets: list[S], rooms: tuple[Room, ...]) -> None:
        """Put sockets into rooms, those that have gone meanwhile left out."""

    def take_out(self, sockets: list[S], rooms: tuple[Room, ...]) -> None:
        """Take sockets out of rooms."""

    def disconnect(self, sockets: list[S], code: int, reason: str) -> Awaitable[None]:
        """Take sockets out of every room at once, and close them behind what was sent before.

        What it returns is done when the closing of all has begun.
        """

    def handle(self, event: str, args: list[Any]) -> Any:
        """Call the handler of a server-side event; returns what it does, or an awaitable."""

    def describe(self) -> dict[str, Any]:
        """What there is to know of this worker, as JSON values."""


class EmptyNamespace:
    """A namespace that this worker has never made: it has no sockets, rooms or handlers."""

    rooms: Mapping[Room, Any] = {}

    def sockets(self, target: Target) -> list[Any]:  # noqa: ARG002 -- as every place
        """None."""
        return []

    def socket(self, sid: Sid) -> None:  # noqa: ARG002
        """None."""
        return

    async def put(self, sockets: list[Any], rooms: tuple[Room, ...]) -> None:
        """There are none to put anywhere."""

    def take_out(self, sockets: list[Any], rooms: tuple[Room, ...]) -> None:
        """There are none to leave."""

    async def disconnect(self, sockets: list[Any], code: int, reason: str) -> None:
        """There are none to disconnect."""

    def handle(self, event: str, args: list[Any]) -> Any:  # noqa: ARG002
        """There is no handler."""
        raise UsageError(f"There is no handler of {event!r} here.")

    def describe(self) -> dict[str, Any]:
        """A place that is not there knows of no worker."""
        raise UsageError("A worker is described by its namespace `/` only.")


EMPTY_NAMESPACE: CommandTarget[Any] = EmptyNamespace()

Row: TypeAlias = tuple[Sid, list[Room], dict[str, Any]]
"""What is told of a socket."""

Verb: TypeAlias = Callable[[CommandTarget[Any], Target, Arguments], Any | Awaitable[Any]]


def fetch(
    place: CommandTarget[Any], target: Target, arguments: Arguments
) -> Awaitable[orjson.Fragment]:
    """The sid, rooms and data of each socket.

    Who they are, and in which rooms, is found out at once. Data that is no JSON is left out.
    """
    return _written([(s.sid, list(s.rooms), s.data) for s in _addressed(place, target, arguments)])


async def _written(rows: list[Row]) -> orjson.Fragment:
    no_json: list[tuple[Sid, TypeError]] = []
    lists = [_list_of(some, no_json) async for some in in_slices(rows)]
    if no_json:
        sid, error = no_json[0]
        logger.error(
            "The data of %d sockets is no JSON, and was left out of an answer: %s: %s",
            len(no_json),
            sid,
            error,
        )
    return orjson.Fragment(b"[%b]" % b",".join(lists))


def _list_of(rows: Sequence[Row], no_json: list[tuple[Sid, TypeError]]) -> bytes:
    """The rows as JSON, one after the other."""
    try:
        return orjson.dumps(rows)[1:-1]
    except TypeError:
        return b",".join([_row(row, no_json) for row in rows])


def _row(row: Row, no_json: list[tuple[Sid, TypeError]]) -> bytes:
    """A row as JSON, without data that is none."""
    try:
        return orjson.dumps(row)
    except TypeError as error:
        sid, rooms, _ = row
        no_json.append((sid, error))
        return orjson.dumps((sid, rooms, {}))


def count(place: CommandTarget[Any], target: Target, arguments: Arguments) -> int:
    """How many sockets there are."""
    return len(_addressed(place, target, arguments))


def join(place: CommandTarget[Any], target: Target, arguments: Arguments) -> Awaitable[None]:
    """Put the sockets into rooms; done when they are in.

    Who they are is found out at once: the next request may be that they leave what they are
    addressed by.
    """
    rooms = _rooms(arguments)
    return _put(place, _addressed(place, target, arguments), rooms)


async def _put(place: CommandTarget[Any], sockets: list[Any], rooms: tuple[Room, ...]) -> None:
    with suppress(ShuttingDown):  # the sockets of a leaving worker are as gone
        await place.put(sockets, rooms)


def leave(place: CommandTarget[Any], target: Target, arguments: Arguments) -> None:
    """Take the sockets out of rooms."""
    rooms = _rooms(arguments)
    place.take_out(_addressed(place, target, arguments), rooms)


def disconnect(place: CommandTarget[Any], target: Target, arguments: Arguments) -> Awaitable[None]:
    """Close the sockets, behind what was sent to them before."""
    code, reason = check_close(arguments.get("code"), arguments.get("reason"))
    return place.disconnect(_addressed(place, target, arguments), code, reason)


def rooms(place: CommandTarget[Any], target: Target, arguments: Arguments) -> list[Room]:  # noqa: ARG001 -- all verbs are alike
    """The names of all rooms."""
    return list(place.rooms)


def emit(place: CommandTarget[Any], target: Target, arguments: Arguments) -> Any | Awaitable[Any]:  # noqa: ARG001
    """Call the handler of a server-side event."""
    match arguments:
        case {"event": str(event), "args": list(args)}:
            return place.handle(event, args)
        case _:
            raise UsageError("A server-side event needs a name and a list of arguments.")


def describe(place: CommandTarget[Any], target: Target, arguments: Arguments) -> dict[str, Any]:  # noqa: ARG001
    """What there is to know of this worker."""
    return place.describe()


VERBS: Mapping[str, Verb] = {
    verb.__name__: verb for verb in (fetch, count, join, leave, disconnect, rooms, emit, describe)
}


def unknown_verb(verb: str) -> str:
    """The reason by which a worker of an older version refuses what it has never heard of."""
    return f"The verb {verb!r} is unknown to this worker's version."


def check_close(code: object, reason: object) -> tuple[int, str]:
    """A close code and reason that can be sent, or `UsageError`."""
    try:
        fits = isinstance(reason, str) and len(reason.encode()) <= MAX_REASON_BYTES
    except UnicodeEncodeError:  # a lone surrogate
        fits = False
    if not isinstance(reason, str) or not fits:
        raise UsageError(f"A close reason is text of at most {MAX_REASON_BYTES} UTF-8 bytes.")
    return check_close_code(code), reason


def reason_of(error: Exception) -> str:
    """Why a verb could not be done, for whoever asked."""
    return str(error) if isinstance(error, RoomsError) else f"{type(error).__name__}: {error}"


def _addressed(place: CommandTarget[Any], target: Target, arguments: Arguments) -> list[Any]:
    """Those that the target addresses, or the one that is named by its sid."""
    sid = arguments.get("sid")
    if sid is None:
        return place.sockets(target)
    socket = place.socket(check_room(sid))
    return [] if socket is None else [socket]


def _rooms(arguments: Arguments) -> tuple[Room, ...]:
    names = arguments.get("rooms")
    if not isinstance(names, list):
        raise UsageError("Which rooms? `rooms` has to be a list of names.")
    return check_rooms(tuple(names))
