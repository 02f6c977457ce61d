"""What an emitter has to say, on which channel, and in whose name.

Strategy: a draft has no number yet. It is signed when its turn to be published has come, so the
numbers of an origin arrive in the order in which they were drawn, and receivers can tell what was
sent twice from what is new.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from fastapi_rooms.core.names import Channels, check_event, new_node_id
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import MessageTooLarge
from fastapi_rooms.types import Channel
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Broadcast, Request

_UNSIGNED = ("", 0)
NO_ANSWER = 0
"""The id of a request that nobody is to answer."""


class Draft(NamedTuple):
    """A message that is yet to be signed."""

    channel: Channel
    message: Broadcast | Request

    @property
    def volatile(self) -> bool:
        """Whether it may be lost without a word."""
        return isinstance(self.message, Broadcast) and self.message.volatile


class Drafts:
    """Writes drafts; `None` where there is nobody to write to."""

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
        return Draft(channel, Broadcast(*_UNSIGNED, namespace, target, payload, volatile))

    def request(
        self, namespace: str, target: Target, verb: str, arguments: dict[str, Any]
    ) -> Draft | None:
        """Something to be done with sockets, on every worker."""
        if target.rooms == ():
            return None
        return self._to_workers(namespace, target, verb, arguments)

    def event(self, namespace: str, event: str, args: tuple[Any, ...]) -> Draft:
        """A server-side event, for every worker. Raises `UsageError` or `MessageTooLarge`."""
        arguments = {"event": check_event(event), "args": list(args)}
        self._check(Payload.of_json(arguments))
        return self._to_workers(namespace, Target(()), "emit", arguments)

    def _to_workers(
        self, namespace: str, target: Target, verb: str, arguments: dict[str, Any]
    ) -> Draft:
        message = Request(*_UNSIGNED, namespace, target, NO_ANSWER, verb, arguments)
        return Draft(self._channels.of_workers(), message)

    def _check(self, payload: Payload) -> None:
        if len(payload.data) > self._max_message_bytes:
            raise MessageTooLarge(len(payload.data), self._max_message_bytes)


class Origin:
    """An id as workers have, and numbers that rise. One message at a time may be under way."""

    def __init__(self) -> None:
        self.node = new_node_id()
        self._numbers = itertools.count(1)

    def sign(self, draft: Draft) -> bytes:
        """The draft as bytes to publish. Raises what `codec.encode` does."""
        message = draft.message
        return codec.encode(message._replace(origin=self.node, sequence=next(self._numbers)))
