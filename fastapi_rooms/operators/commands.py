"""The asking half of the cluster verbs: what to ask, what to make of the answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import orjson

from fastapi_rooms.cluster.commands import check_close, unknown_verb
from fastapi_rooms.cluster.pending import PendingRequest
from fastapi_rooms.concurrency import in_slices
from fastapi_rooms.core.names import check_room, check_rooms
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import RequestRefused, RequestTimeout
from fastapi_rooms.types import NodeId, Room, Sid

T = TypeVar("T")
Part = TypeVar("Part")


class ResponseReader(NamedTuple, Generic[Part, T]):
    """What to make of the answers to a verb."""

    read: Callable[[NodeId, Any], Part]
    """One worker's answer, as JSON has it. May raise anything: then it counts as a refusal."""
    merge: Callable[[list[Part]], T]
    """The answer of all."""
    in_parts: bool = False
    """Whether it is a list, which can be read in parts."""


class ClusterRequest(NamedTuple):
    """What is asked of the workers."""

    verb: str
    target: Target
    arguments: Mapping[str, Any]
    here: bool = True
    """Whether this worker is asked, too."""
    elsewhere: bool = True
    """Whether the others are."""
    node: NodeId | None = None
    """The one worker that is asked, if it is not all of them."""


async def collect(
    ask: ClusterRequest, answer: ResponseReader[Part, T], question: PendingRequest, timeout: float
) -> T:
    """The answer of all workers, or the error that holds the answer of some.

    Raises:
        RequestTimeout: some have not answered.
        RequestRefused: some have answered that they would not, or could not.
    """
    parts = []
    refusals = dict(question.refusals)
    for node, data in question.answers.items():
        try:
            parts += [part async for part in _read(answer, node, orjson.loads(data))]
        except Exception as error:  # noqa: BLE001 -- it is told to the caller
            refusals[node] = f"its answer makes no sense: {error}"
    result = answer.merge(parts)
    never_heard_of_it = unknown_verb(ask.verb)
    unsupported = frozenset(
        node for node, reason in refusals.items() if reason == never_heard_of_it
    )
    if question.missing or question.unidentified:
        silent = frozenset(question.missing)
        raise RequestTimeout(
            ask.verb, timeout, silent, result, refusals, question.unidentified, unsupported
        )
    if refusals:
        raise RequestRefused(ask.verb, result, refusals, unsupported)
    return result


async def _read(answer: ResponseReader[Part, T], node: NodeId, said: Any) -> AsyncIterator[Part]:
    if answer.in_parts and isinstance(said, list):
        async for some in in_slices(said):
            yield answer.read(node, some)
    else:
        yield answer.read(node, said)


class Dispatcher(Protocol):
    """A namespace, as far as asking needs it."""

    async def ask(
        self, ask: ClusterRequest, answer: ResponseReader[Part, T], timeout: float | None
    ) -> T:
        """Ask, wait for all answers, and make one of them."""

    async def deliver(
        self, target: Target, payload: Payload, *, local: bool, volatile: bool
    ) -> None:
        """Deliver a message to a target, wherever it is."""


class RemoteSocket:
    """A socket of any worker, as it was when it was fetched."""

    __slots__ = ("_asker", "data", "node", "rooms", "sid")

    def __init__(
        self,
        asker: Dispatcher,
        node: NodeId,
        sid: Sid,
        rooms: frozenset[Room],
        data: dict[str, Any],
    ) -> None:
        self._asker = asker
        self.node = node
        """The id of the worker that it is connected to."""
        self.sid = sid
        """Its sid."""
        self.rooms = rooms
        """The rooms it was in, its sid among them."""
        self.data = data
        """What the application knew of it: a copy, in JSON values; empty if it was no JSON."""

    async def join(self, *names: Room, timeout: float | None = None) -> None:
        """Put it into rooms: see `BroadcastOperator.sockets_join`."""
        await self._ask("join", {"rooms": list(check_rooms(names))}, timeout)

    async def leave(self, *names: Room, timeout: float | None = None) -> None:
        """Take it out of rooms: see `BroadcastOperator.sockets_leave`."""
        await self._ask("leave", {"rooms": list(check_rooms(names))}, timeout)

    async def disconnect(
        self, code: int = 1000, reason: str = "", *, timeout: float | None = None
    ) -> None:
        """Close it: see `BroadcastOperator.disconnect_sockets`."""
        check_close(code, reason)
        await self._ask("disconnect", {"code": code, "reason": reason}, timeout)

    async def send_text(self, data: str) -> None:
        """Send text to it: see `BroadcastOperator.send_text`."""
        await self._send(Payload.of_text(data))

    async def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes to it."""
        await self._send(Payload.of_bytes(data))

    async def send_json(self, data: Any) -> None:
        """Send JSON to it."""
        await self._send(Payload.of_json(data))

    async def _send(self, payload: Payload) -> None:
        await self._asker.deliver(Target((self.sid,)), payload, local=False, volatile=False)

    async def _ask(self, verb: str, arguments: dict[str, Any], timeout: float | None) -> None:
        ask = ClusterRequest(verb, Target(()), {**arguments, "sid": self.sid}, node=self.node)
        await self._asker.ask(ask, NOTHING, timeout)

    def __repr__(self) -> str:
        return f"<RemoteSocket {self.sid} on {self.node}>"


class ServerReply(NamedTuple):
    """What one worker's handler made of a server-side event."""

    node: NodeId
    """The id of the worker."""
    value: Any
    """What its handler returned, in JSON values; `None` where it failed."""
    error: str | None
    """Why there is no value: the handler raised, or there is none."""


def _read_nothing(node: NodeId, answer: Any) -> None:  # noqa: ARG001 -- as every reader
    if answer is not None:
        raise ValueError("nothing was to be said")


def _read_count(node: NodeId, answer: Any) -> int:  # noqa: ARG001
    if type(answer) is not int or answer < 0:
        raise ValueError("not a count")
    return answer


def _read_rooms(node: NodeId, answer: Any) -> Iterable[Room]:  # noqa: ARG001
    if not isinstance(answer, list):
        raise TypeError("not a list")
    return check_rooms(tuple(answer))


def sockets_for(asker: Dispatcher) -> ResponseReader[list[RemoteSocket], list[RemoteSocket]]:
    """Reads the sockets that workers tell of."""

    def read(node: NodeId, answer: Any) -> list[RemoteSocket]:
        sockets = []
        for row in answer:
            match row:
                case [str(sid), list(rooms), dict(data)]:
                    names = frozenset(check_rooms(tuple(rooms)))
                    sockets.append(RemoteSocket(asker, node, check_room(sid), names, data))
                case _:
                    raise ValueError("not a socket")
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
    lambda node, answer: ServerReply(node, answer, None), list
)


class SocketCommands:
    """The verbs over sockets that are addressed, on whichever worker they are.

    Each waits for every worker that lives. In the call, `timeout` is in seconds; the manager's
    `request_timeout` when left out. All of them raise:

    * `RequestTimeout` when workers did not answer in time: it has their ids and what the others
      answered.
    * `RequestRefused` when workers would not or could not do it, and why.
    * `AdapterUnavailable` when the adapter did not confirm a join on this worker in time, and then
      nobody else was asked; or did not accept the request in time, and then what was to be done on
      this worker is done.
    * `NotStarted` when the manager is not running, or is closed meanwhile.

    None takes longer than its `timeout`, whatever the manager's other timeouts are.
    """

    __slots__ = ()

    async def _ask(
        self,
        verb: str,
        arguments: Mapping[str, Any],
        answer: ResponseReader[Part, T],
        timeout: float | None,
    ) -> T:
        raise NotImplementedError

    @property
    def _asker(self) -> Dispatcher:
        raise NotImplementedError

    async def fetch_sockets(self, *, timeout: float | None = None) -> list[RemoteSocket]:
        """The sockets: their sids, rooms, data, and the workers they are on.

        Data that is no JSON (what orjson cannot write, or nested deeper than 254 levels) comes as
        an empty dict, and the log of the socket's worker says so.
        """
        return await self._ask("fetch", {}, sockets_for(self._asker), timeout)

    async def count(self, *, timeout: float | None = None) -> int:
        """How many sockets there are."""
        return await self._ask("count", {}, COUNT, timeout)

    async def sockets_join(self, *names: Room, timeout: float | None = None) -> None:
        """Put the sockets into rooms.

        Returns when they are in, wherever they are: what anybody sends to those rooms from then on
        reaches them.
        """
        await self._ask("join", {"rooms": list(check_rooms(names))}, NOTHING, timeout)

    async def sockets_leave(self, *names: Room, timeout: float | None = None) -> None:
        """Take the sockets out of rooms; returns when they are out."""
        await self._ask("leave", {"rooms": list(check_rooms(names))}, NOTHING, timeout)

    async def disconnect_sockets(
        self, code: int = 1000, reason: str = "", *, timeout: float | None = None
    ) -> None:
        """Close the sockets.

        They have left every room when this returns, and are closed once they have what was sent to
        them before. Raises `UsageError` for a code or reason that cannot be sent.
        """
        check_close(code, reason)
        arguments = {"code": code, "reason": reason}
        await self._ask("disconnect", arguments, NOTHING, timeout)
