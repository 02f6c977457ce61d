"""An emitter's messages, before they get an origin and a sequence number.

Receivers recognize repetitions by the sequence numbers of an origin, so these must be published in
ascending order. A message is therefore a draft, without a number, until it is its turn to be
published; only then an `Origin` numbers it.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple, Protocol

from fastapi_rooms.core.names import Channels, check_event, new_node_id
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import MessageTooLarge, UsageError
from fastapi_rooms.types import Channel
from fastapi_rooms.wire.envelope import Broadcast, Request
from fastapi_rooms.wire.verbs import Verb

_UNNUMBERED = ("", 0)
"""The origin and sequence number of a draft."""

_NO_REPLY = 0
"""The id of a request that is not answered."""


class ForeignDraft(NamedTuple):
    """What Socket.IO's servers are told, and the channel to publish it on."""

    channel: Channel
    data: bytes
    volatile: bool = False
    """Whether it may be lost silently."""


class Draft(NamedTuple):
    """A message without origin and sequence number, and the channel to publish it on."""

    channel: Channel
    message: Broadcast | Request
    foreign: ForeignDraft | None = None
    """What Socket.IO's servers are told of it, after it."""

    @property
    def volatile(self) -> bool:
        """Whether it may be lost silently."""
        return isinstance(self.message, Broadcast) and self.message.volatile


class ForeignDrafts(Protocol):
    """Makes what Socket.IO's servers are told: see `wire.socketio.drafts`."""

    def payload(self, namespace: str, event: str, args: tuple[Any, ...]) -> Payload | bytes:
        """An event for both sides, or, encoded, for Socket.IO's alone."""

    def broadcast(self, message: Broadcast) -> ForeignDraft | None:
        """A message to their clients."""

    def packed(
        self, namespace: str, target: Target, packed: bytes, *, volatile: bool
    ) -> ForeignDraft | None:
        """An event to them that is encoded."""

    def request(self, message: Request) -> ForeignDraft | None:
        """A command to the servers."""


class Drafts:
    """Makes drafts; `None` for a target that addresses nobody."""

    def __init__(
        self, channels: Channels, max_message_bytes: int, foreign: ForeignDrafts | None = None
    ) -> None:
        self._channels = channels
        self._max_message_bytes = max_message_bytes
        self._foreign = foreign

    def broadcast(
        self, namespace: str, target: Target, payload: Payload, *, volatile: bool
    ) -> Draft | None:
        """A message to sockets. Raises `MessageTooLarge`."""
        self._check(len(payload.data))
        if target.rooms == ():
            return None
        channel = self._channels.of_target(namespace, target.rooms)
        message = Broadcast(*_UNNUMBERED, namespace, target, payload, volatile)
        foreign = None if self._foreign is None else self._foreign.broadcast(message)
        return Draft(channel, message, foreign)

    def emit(
        self, namespace: str, target: Target, event: str, args: tuple[Any, ...], *, volatile: bool
    ) -> Draft | ForeignDraft | None:
        """An event to sockets. Raises `UsageError`, and what `BroadcastOperator.emit` does."""
        if self._foreign is None:
            raise UsageError(
                "`emit` sends events to Socket.IO's clients, too, and this emitter was not told "
                "of any: Emitter(url, socketio=SocketIO()). For native clients alone use "
                "`send_json`."
            )
        payload = self._foreign.payload(namespace, event, args)
        if not isinstance(payload, bytes):
            return self.broadcast(namespace, target, payload, volatile=volatile)
        self._check(len(payload))
        if target.rooms == ():
            return None
        return self._foreign.packed(namespace, target, payload, volatile=volatile)

    def request(
        self, namespace: str, target: Target, verb: str, arguments: dict[str, Any]
    ) -> Draft | None:
        """A command about sockets, which every worker carries out for its own."""
        if target.rooms == ():
            return None
        return self._to_workers(namespace, target, verb, arguments)

    def event(self, namespace: str, event: str, args: tuple[Any, ...]) -> Draft:
        """A server-side event, for every worker. Raises `UsageError` or `MessageTooLarge`."""
        arguments = {"event": check_event(event), "args": list(args)}
        self._check(len(Payload.of_json(arguments).data))
        return self._to_workers(namespace, Target(()), Verb.EMIT, arguments)

    def _to_workers(
        self, namespace: str, target: Target, verb: str, arguments: dict[str, Any]
    ) -> Draft:
        message = Request(*_UNNUMBERED, namespace, target, _NO_REPLY, verb, arguments)
        foreign = None if self._foreign is None else self._foreign.request(message)
        return Draft(self._channels.of_workers(), message, foreign)

    def _check(self, size: int) -> None:
        if size > self._max_message_bytes:
            raise MessageTooLarge(size, self._max_message_bytes)


class Origin:
    """A node id and its sequence numbers: emitters have them as workers do.

    A message must have been published before the next one is numbered.
    """

    def __init__(self) -> None:
        self._node = new_node_id()
        self._sequence = itertools.count(1)

    def number(self, draft: Draft) -> Broadcast | Request:
        """The message of a draft, as it is to be encoded and published."""
        return draft.message._replace(origin=self._node, sequence=next(self._sequence))
