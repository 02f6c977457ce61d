"""An emitter's messages, before they get an origin and a sequence number.

Receivers recognize repetitions by the sequence numbers of an origin, so these must be published in
ascending order. A message is therefore a draft, without a number, until it is its turn to be
published; only then an `Origin` numbers it.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from fastapi_rooms.core.names import Channels, check_event, new_node_id
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import MessageTooLarge
from fastapi_rooms.types import Channel
from fastapi_rooms.wire.envelope import Broadcast, Request
from fastapi_rooms.wire.verbs import Verb

_UNNUMBERED = ("", 0)
"""The origin and sequence number of a draft."""

_NO_REPLY = 0
"""The id of a request that is not answered."""


class Draft(NamedTuple):
    """A message without origin and sequence number, and the channel to publish it on."""

    channel: Channel
    message: Broadcast | Request

    @property
    def volatile(self) -> bool:
        """Whether it may be lost silently."""
        return isinstance(self.message, Broadcast) and self.message.volatile


class Drafts:
    """Makes drafts; `None` for a target that addresses nobody."""

    def __init__(self, channels: Channels, max_message_bytes: int) -> None:
        self._channels = channels
        self._max_message_bytes = max_message_bytes

    def broadcast(
        self, namespace: str, target: Target, payload: Payload, *, volatile: bool
    ) -> Draft | None:
        """A message to sockets. Raises `MessageTooLarge`."""
        self._check(payload)
        if target.rooms == ():
            return None
        channel = self._channels.of_target(namespace, target.rooms)
        return Draft(channel, Broadcast(*_UNNUMBERED, namespace, target, payload, volatile))

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
        self._check(Payload.of_json(arguments))
        return self._to_workers(namespace, Target(()), Verb.EMIT, arguments)

    def _to_workers(
        self, namespace: str, target: Target, verb: str, arguments: dict[str, Any]
    ) -> Draft:
        message = Request(*_UNNUMBERED, namespace, target, _NO_REPLY, verb, arguments)
        return Draft(self._channels.of_workers(), message)

    def _check(self, payload: Payload) -> None:
        if len(payload.data) > self._max_message_bytes:
            raise MessageTooLarge(len(payload.data), self._max_message_bytes)


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
