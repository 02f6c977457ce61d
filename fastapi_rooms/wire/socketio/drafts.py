"""What an emitter tells Socket.IO's servers, beside what it tells the workers."""

from __future__ import annotations

from typing import Any, Final

from fastapi_rooms.core.json_codec import DEFAULT_JSON
from fastapi_rooms.core.target import Target
from fastapi_rooms.wire.drafts import ForeignDraft
from fastapi_rooms.wire.envelope import Broadcast, Request
from fastapi_rooms.wire.socketio import packets, requests
from fastapi_rooms.wire.socketio.packets import EventPayload
from fastapi_rooms.wire.socketio.requests import Kind
from fastapi_rooms.wire.socketio.settings import SocketIO
from fastapi_rooms.wire.socketio.values import check_name, check_server_name, json_values
from fastapi_rooms.wire.verbs import Verb

UID: Final = packets.uid_of("0" * 16)
"""What emitters are called: of the form of a worker's, so that workers pass it by."""

COMMANDS: Final = {
    Verb.JOIN: Kind.JOIN,
    Verb.LEAVE: Kind.LEAVE,
    Verb.DISCONNECT: Kind.DISCONNECT,
    Verb.EMIT: Kind.SERVER_SIDE_EMIT,
}
"""What Node servers do without an answer."""


class SocketIODrafts:
    """Makes them, by what the emitter was told of the servers."""

    def __init__(self, settings: SocketIO) -> None:
        self._settings = settings
        self._channels = settings.channels

    def payload(self, namespace: str, event: str, args: tuple[Any, ...]) -> EventPayload | bytes:
        """An event for both sides, or, encoded, for Socket.IO's alone. Raises `UsageError`."""
        self._settings.check_namespace(namespace)
        values = json_values(args, DEFAULT_JSON)
        return packets.event_payload(check_name(event), values, self._settings.codec)

    def broadcast(self, message: Broadcast) -> ForeignDraft | None:
        """A message to Socket.IO's clients; `None` if they get nothing."""
        if not self._settings.shares(message.namespace):
            return None
        packed = packets.packed_payload(message.payload, self._settings.codec)
        if packed is None:
            return None
        return self.packed(message.namespace, message.target, packed, volatile=message.volatile)

    def packed(
        self, namespace: str, target: Target, packed: bytes, *, volatile: bool
    ) -> ForeignDraft | None:
        """An event that is encoded."""
        if not self._settings.shares(namespace):
            return None
        data = packets.encode(UID, namespace, target, packed, volatile=volatile)
        return ForeignDraft(self._channels.of_target(namespace, target), data, volatile)

    def request(self, message: Request) -> ForeignDraft | None:
        """A command to the servers. Raises `UsageError` for an event that would end them."""
        kind = COMMANDS.get(Verb(message.verb))
        if kind is None or not self._settings.shares(message.namespace):
            return None
        rooms, data, arguments = (), None, message.arguments
        if kind is Kind.SERVER_SIDE_EMIT:
            check_server_name(arguments["event"])
            data = [arguments["event"], *arguments["args"]]
        elif kind is not Kind.DISCONNECT:
            rooms = tuple(arguments["rooms"])
        encoded = requests.encode(UID, kind, message.target, rooms=rooms, data=data)
        return ForeignDraft(self._channels.requests(message.namespace), encoded)
