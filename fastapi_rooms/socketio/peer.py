"""A worker as one of the servers on Socket.IO's channels, from one start of a manager to its close.

It is counted among the servers while it can answer: it subscribes to the channel of requests once
for each namespace, when it can publish, and unsubscribes as soon as it cannot.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Any, Final

from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import MalformedEnvelope
from fastapi_rooms.socketio.adapter import CapableAdapter
from fastapi_rooms.socketio.requester import Answers, Requester
from fastapi_rooms.socketio.responder import Responder, SharedNamespace
from fastapi_rooms.types import Channel, NodeId, Room
from fastapi_rooms.wire.socketio import packets, requests, responses
from fastapi_rooms.wire.socketio.requests import Kind
from fastapi_rooms.wire.socketio.settings import SocketIO

logger = logging.getLogger("fastapi_rooms")

NODE: Final = "socket.io"
"""Where sockets of Node servers live, as `RemoteSocket.node`: which server it is, none tells."""


class Peer:
    """This worker among Node servers."""

    def __init__(
        self,
        settings: SocketIO,
        node: NodeId,
        adapter: CapableAdapter,
        namespaces: Mapping[str, SharedNamespace],
    ) -> None:
        self.settings = settings
        self._adapter = adapter
        self._namespaces = namespaces
        self._channels = settings.channels
        self._uid = packets.uid_of(node)
        self._requester = Requester(adapter, self._channels, self._uid, self._dropped)
        self._responder = Responder(namespaces, self._answer, self._dropped)
        self._is_ready = False
        self._closed = False
        self.dropped = 0
        """How many messages came in that made no sense, or were too many."""

    # Its beginning and end.

    def start(self) -> None:
        """Be counted as soon as the adapter is connected: everything is ready to answer."""
        self._is_ready = True
        self.connection_changed(self._adapter.health.connected)

    def connection_changed(self, connected: bool) -> None:
        """Be counted, or no longer."""
        if not self._is_ready or self.settings.mode != "peer":
            return
        if connected:
            self._adapter.ask_for(self._requests)
        else:
            self._adapter.unsubscribe(self._requests)

    async def close(self, timeout: float) -> None:
        """Be counted no longer, answer what was asked until then, and end what is under way."""
        self._requester.close()
        was_ready, self._is_ready = self._is_ready, False
        try:
            if was_ready and self.settings.mode == "peer":
                with suppress(TimeoutError):
                    async with asyncio.timeout(timeout):
                        await self._adapter.withdraw(self._requests)
                        await self._responder.wait(timeout)
        finally:
            self._closed = True
            await self._responder.close(timeout)

    @property
    def _requests(self) -> list[Channel]:
        return [self._channels.requests(name) for name in self.settings.namespaces]

    # Out.

    def shares(self, namespace: str) -> bool:
        """Whether a namespace is shared, and Node servers are told anything."""
        return self.settings.shares(namespace)

    def packed(self, payload: Payload) -> bytes | None:
        """The event that a message is, encoded; `None` if it is for native clients alone.

        Raises `UsageError` for what cannot be sent.
        """
        return packets.packed_payload(payload, self.settings.codec)

    def broadcast(
        self, namespace: str, target: Target, packed: bytes, *, volatile: bool
    ) -> Awaitable[int] | None:
        """Send an event to Node servers' clients; `None` if there is nothing to wait for."""
        data = packets.encode(self._uid, namespace, target, packed, volatile=volatile)
        channel = self._channels.of_target(namespace, target)
        if volatile:
            self._adapter.publish_volatile(channel, data)
            return None
        return self._adapter.publish_once(channel, data)

    def command(
        self,
        namespace: str,
        kind: Kind,
        target: Target = Target(()),  # noqa: B008 -- immutable
        *,
        rooms: tuple[Room, ...] = (),
        data: list[Any] | None = None,
    ) -> Awaitable[int]:
        """Have Node servers do something that none of them answers."""
        request = requests.encode(self._uid, kind, target, rooms=rooms, data=data)
        return self._adapter.publish_once(self._channels.requests(namespace), request)

    async def ask(
        self,
        namespace: str,
        kind: Kind,
        target: Target,
        timeout: float,
        data: list[Any] | None = None,
    ) -> Answers:
        """Ask Node servers: see `Requester.ask`."""
        return await self._requester.ask(namespace, kind, target, timeout, data)

    # In.

    def received(self, channel: Channel, data: bytes) -> None:
        """Take what came on one of Socket.IO's channels; drop and count what makes no sense."""
        if self._closed or packets.is_own(data):
            return
        heard = self._channels.heard(channel)
        if heard is None:
            return
        try:
            match heard.kind:
                case "broadcast":
                    self._deliver(heard.namespace, packets.decode(data, heard.namespace))
                case "request":
                    self._requested(heard.namespace, data)
                case _:
                    self._requester.replied(data)
        except MalformedEnvelope as error:
            self._dropped()
            logger.debug("Dropped a malformed message on %r: %s", channel, error)
        except Exception:
            self._dropped()
            logger.exception("A message of a Socket.IO server could not be delivered")

    def _deliver(self, name: str, message: packets.Broadcast | None) -> None:
        namespace = self._namespaces.get(name)
        if message is None or namespace is None:
            return
        try:
            payload = packets.native_payload(message.event, self.settings.codec)
        except RecursionError:
            raise MalformedEnvelope("an event that is nested too deeply") from None
        if payload is not None:
            namespace.receive(message.target, payload, volatile=message.volatile)

    def _requested(self, name: str, data: bytes) -> None:
        if requests.is_own(data):
            question = requests.own_question(data)
            if question is not None:
                self._reached(name, *question)
            return
        request = requests.decode(data)
        if request is None:
            return
        if request.kind is Kind.BROADCAST:
            self._responder.count_clients(name, request)
            self._deliver(name, packets.read(request.packet, request.opts, name))
        else:
            self._responder.requested(name, request)

    def _reached(self, name: str, uid: str, request_id: str) -> None:
        """A worker of ours has asked Node servers, and counts who of us got that."""
        if uid == self._uid:
            self._requester.reached(request_id)
        else:
            self._responder.reply(name, uid, responses.of_own(request_id))

    async def _answer(self, namespace: str, uid: str | None, data: bytes) -> None:
        """Answer on the channel of whoever asks; on that of all if it has none."""
        if uid is not None:
            channel = self._channels.responses(namespace, uid)
            if await self._adapter.publish_once(channel, data):
                return
        await self._adapter.publish_once(self._channels.responses(namespace), data)

    def _dropped(self) -> None:
        self.dropped += 1
