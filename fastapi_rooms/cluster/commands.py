"""What a worker does for another that asks: the part of each verb that is done on one worker.

The asking worker does to its own sockets just what it asks of the others, by the same function; so
an answer does not depend on where it is asked. A command returns JSON values, or something to
await that gives them. It is begun in the order in which requests and broadcasts arrive: which
sockets it is about is found out at once, and those that leave or are disconnected are out of the
rooms at once. The rest, for many sockets, is done in slices, with the event loop free in between.

Arguments come from the network: each command checks them, and refuses what it cannot use.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeAlias, TypeVar

from fastapi_rooms import concurrency
from fastapi_rooms.concurrency import in_slices, parts_of
from fastapi_rooms.core.close_codes import check_close
from fastapi_rooms.core.json_codec import WIRE_JSON
from fastapi_rooms.core.names import check_room, check_rooms
from fastapi_rooms.core.printable import printable
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import UsageError
from fastapi_rooms.types import NodeId, Room, Sid
from fastapi_rooms.wire.verbs import Verb

logger = logging.getLogger("fastapi_rooms")

Arguments: TypeAlias = Mapping[str, Any]


class AddressedSocket(Protocol):
    """A socket, as far as commands need it."""

    sid: Sid
    data: dict[str, Any]

    @property
    def rooms(self) -> AbstractSet[Room]:
        """The rooms it is in."""


S = TypeVar("S", bound=AddressedSocket)


class CommandTarget(Protocol[S]):
    """A namespace on this worker, as far as commands need it.

    See `worker.local_namespace.LocalNamespace`, and `EmptyNamespace` below.
    """

    @property
    def rooms(self) -> Mapping[Room, Any]:
        """Its rooms here."""

    @property
    def sids(self) -> Mapping[Sid, Any]:
        """The sids here, each of which is the name of a room as well."""

    def crowd(self, target: Target, *, joining: bool = False) -> Mapping[Sid, Any]:
        """Whom a target addresses here, as it is now; with `joining`, also who is on the way in."""

    def sockets(self, part: Iterable[tuple[Sid, Any]]) -> list[S]:
        """The sockets of a part of a crowd that are in still."""

    def count(self, target: Target) -> int:
        """How many sockets here a target addresses."""

    def alone(self, sid: Sid) -> Mapping[Sid, Any]:
        """The one here that has a sid, as a crowd; nobody if there is none."""

    def join_crowd(self, crowd: Mapping[Sid, Any], rooms: tuple[Room, ...]) -> Awaitable[None]:
        """Put sockets into rooms; those that have left the namespace meanwhile are passed over.

        What it returns is done when they are in. What they leave from the call on is not joined.
        """

    def leave_crowd(
        self, crowd: Mapping[Sid, Any], rooms: tuple[Room, ...]
    ) -> Awaitable[None] | None:
        """Take sockets out of rooms, at once for all to see.

        What it returns, if it takes longer, is done when it has been done for each.
        """

    def disconnect_crowd(
        self, crowd: Mapping[Sid, Any], code: int, reason: str
    ) -> Awaitable[None] | None:
        """Take sockets out of every room at once, and close them behind what was sent before.

        What it returns, if it takes longer, is done when all of them are being closed.
        """

    def handle(self, event: str, args: list[Any]) -> Any:
        """Call the handler of a server-side event; returns what it does, or an awaitable."""

    def forget_history(self, room: Room) -> None:
        """Forget what was said in a room with a history."""

    def describe(self) -> dict[str, Any]:
        """What there is to know of this worker, as JSON values."""


class EmptyNamespace:
    """A namespace that has no sockets, rooms or handlers on this worker."""

    rooms: Mapping[Room, Any] = {}
    sids: Mapping[Sid, Any] = {}

    def crowd(self, target: Target, *, joining: bool = False) -> Mapping[Sid, Any]:  # noqa: ARG002 -- as every command target
        """Nobody."""
        return {}

    def sockets(self, part: Iterable[tuple[Sid, Any]]) -> list[Any]:  # noqa: ARG002
        """None."""
        return []

    def count(self, target: Target) -> int:  # noqa: ARG002
        """None."""
        return 0

    def alone(self, sid: Sid) -> Mapping[Sid, Any]:  # noqa: ARG002
        """Nobody."""
        return {}

    async def join_crowd(self, crowd: Mapping[Sid, Any], rooms: tuple[Room, ...]) -> None:
        """There are none to join."""

    def leave_crowd(self, crowd: Mapping[Sid, Any], rooms: tuple[Room, ...]) -> None:
        """There are none to leave."""

    def disconnect_crowd(self, crowd: Mapping[Sid, Any], code: int, reason: str) -> None:
        """There are none to disconnect."""

    wants_losses = False

    def worker_lost(self, node: NodeId, rooms: tuple[Room, ...]) -> None:
        """There is nobody to tell."""

    def handle(self, event: str, args: list[Any]) -> Any:  # noqa: ARG002
        """There is no handler."""
        raise UsageError(f"There is no handler of {event!r} here.")

    def forget_history(self, room: Room) -> None:
        """Nothing is known of it here."""

    def describe(self) -> dict[str, Any]:
        """It knows of no worker."""
        raise UsageError("A worker is described by its namespace `/` only.")


EMPTY_NAMESPACE: CommandTarget[Any] = EmptyNamespace()

Row: TypeAlias = tuple[Sid, list[Room], dict[str, Any]]
"""What is told of a socket."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An answer that is JSON already: it may be long, and every copy of it takes its time."""

    data: bytes


class LongList(Awaitable[Encoded]):
    """An answer that takes many turns, and much memory while it is made."""

    def __init__(self, work: Coroutine[Any, Any, Encoded]) -> None:
        self._work = work

    def __await__(self) -> Generator[Any, Any, Encoded]:
        return self._work.__await__()

    def close(self) -> None:
        """Never begin it."""
        self._work.close()


def bytes_of(result: Any) -> bytes:
    """What a command returned, as JSON."""
    return result.data if isinstance(result, Encoded) else WIRE_JSON.dumps(result)


Command: TypeAlias = Callable[[CommandTarget[Any], Target, Arguments], Any | Awaitable[Any]]


def fetch(
    namespace: CommandTarget[Any], target: Target, arguments: Arguments
) -> Awaitable[Encoded]:
    """The sid, rooms and data of each socket.

    Which sockets is found out at once; the rooms of the first thousand, too, and those of the
    others as their turn comes, without those that have left meanwhile. Data that is not JSON is
    left out.
    """
    others = iter(_addressed(namespace, target, arguments).items())
    size = concurrency.SLICE
    first = list(islice(others, size))
    work = _to_json(namespace, _rows_of(namespace.sockets(first)), others)
    return LongList(work) if len(first) == size else work


def _rows_of(sockets: Sequence[Any]) -> list[Row]:
    return [(s.sid, list(rooms), s.data) for s in sockets if (rooms := s.rooms)]


async def _to_json(
    namespace: CommandTarget[Any], rows: list[Row], others: Iterator[tuple[Sid, Any]]
) -> Encoded:
    no_json: list[tuple[Sid, Exception]] = []
    lists = [_list_of(rows, no_json)] if rows else []
    async for some in parts_of(others):
        await asyncio.sleep(0)
        if rows := _rows_of(namespace.sockets(some)):
            lists.append(_list_of(rows, no_json))
    if no_json:
        sid, error = no_json[0]
        logger.error(
            "The data of %d sockets is no JSON, and was left out of an answer: %s: %s",
            len(no_json),
            printable(sid),
            printable(str(error)),
        )
    return _lines(lists)


def _lines(lists: list[bytes]) -> Encoded:
    """Parts of a list as lists of their own, in lines, so that nobody has to read all at once."""
    return Encoded(b"\n".join([b"[%b]" % some for some in lists]) or b"[]")


def _list_of(rows: Sequence[Row], no_json: list[tuple[Sid, Exception]]) -> bytes:
    """The rows as JSON, without brackets around them."""
    try:
        return WIRE_JSON.dumps(rows)[1:-1]
    except (TypeError, ValueError):
        return b",".join([_row(row, no_json) for row in rows])


def _row(row: Row, no_json: list[tuple[Sid, Exception]]) -> bytes:
    """A row as JSON, without its data if that is not JSON."""
    try:
        return WIRE_JSON.dumps(row)
    except (TypeError, ValueError) as error:
        sid, rooms, _ = row
        no_json.append((sid, error))
        return WIRE_JSON.dumps((sid, rooms, {}))


def count(namespace: CommandTarget[Any], target: Target, arguments: Arguments) -> int:
    """How many sockets there are."""
    if "sid" in arguments:
        return len(_addressed(namespace, target, arguments))
    return namespace.count(target)


def join(namespace: CommandTarget[Any], target: Target, arguments: Arguments) -> Awaitable[None]:
    """Put the sockets into rooms; done when they are in.

    Which sockets is found out at once: the next request may have them leave the rooms they are
    addressed by.
    """
    rooms = _rooms(arguments)
    return namespace.join_crowd(_addressed(namespace, target, arguments), rooms)


def leave(
    namespace: CommandTarget[Any], target: Target, arguments: Arguments
) -> Awaitable[None] | None:
    """Take the sockets out of rooms.

    It is for those on their way into an addressed room as well, as `disconnect` is: they have
    passed every check, so nothing else would keep them out.
    """
    rooms = _rooms(arguments)
    return namespace.leave_crowd(_addressed(namespace, target, arguments, joining=True), rooms)


def disconnect(
    namespace: CommandTarget[Any], target: Target, arguments: Arguments
) -> Awaitable[None] | None:
    """Close the sockets, behind what was sent to them before."""
    code, reason = check_close(arguments.get("code"), arguments.get("reason"))
    crowd = _addressed(namespace, target, arguments, joining=True)
    return namespace.disconnect_crowd(crowd, code, reason)


def rooms(
    namespace: CommandTarget[Any],
    target: Target,  # noqa: ARG001 -- all commands are alike
    arguments: Arguments,
) -> Awaitable[Encoded]:
    """The names of all rooms; of so many at most, or without those of sids, if that is asked."""
    sids, limit = arguments.get("sids", True), arguments.get("limit")
    if not isinstance(sids, bool) or not (limit is None or (type(limit) is int and limit >= 0)):
        raise UsageError("Which rooms? `sids` has to be true or false, and `limit` a number.")
    names: Iterable[Room] = namespace.rooms
    if not sids:
        names = (name for name in names if name not in namespace.sids)
    found = list(islice(names, limit))
    return LongList(_names(found)) if len(found) > concurrency.SLICE else _names(found)


async def _names(names: list[Room]) -> Encoded:
    return _lines([WIRE_JSON.dumps(some)[1:-1] async for some in in_slices(names)])


def emit(
    namespace: CommandTarget[Any],
    target: Target,  # noqa: ARG001
    arguments: Arguments,
) -> Any | Awaitable[Any]:
    """Call the handler of a server-side event."""
    match arguments:
        case {"event": str(event), "args": list(args)}:
            return namespace.handle(event, args)
        case _:
            raise UsageError("A server-side event needs a name and a list of arguments.")


def forget(
    namespace: CommandTarget[Any],
    target: Target,  # noqa: ARG001
    arguments: Arguments,
) -> None:
    """Forget what was said in rooms with a history."""
    for room in _rooms(arguments):
        namespace.forget_history(room)


def describe(
    namespace: CommandTarget[Any],
    target: Target,  # noqa: ARG001
    arguments: Arguments,  # noqa: ARG001
) -> dict[str, Any]:
    """What there is to know of this worker."""
    return namespace.describe()


COMMANDS: Mapping[str, Command] = {
    Verb.FETCH: fetch,
    Verb.COUNT: count,
    Verb.JOIN: join,
    Verb.LEAVE: leave,
    Verb.DISCONNECT: disconnect,
    Verb.ROOMS: rooms,
    Verb.EMIT: emit,
    Verb.FORGET: forget,
    Verb.DESCRIBE: describe,
}


def _addressed(
    namespace: CommandTarget[Any], target: Target, arguments: Arguments, *, joining: bool = False
) -> Mapping[Sid, Any]:
    """Those that the target addresses, or the one that is named by its sid."""
    sid = arguments.get("sid")
    if sid is None:
        return namespace.crowd(target, joining=joining)
    return namespace.alone(check_room(sid))


def _rooms(arguments: Arguments) -> tuple[Room, ...]:
    names = arguments.get("rooms")
    if not isinstance(names, list):
        raise UsageError("Which rooms? `rooms` has to be a list of names.")
    return check_rooms(tuple(names))
