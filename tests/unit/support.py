"""Fakes of what surrounds the manager, and a look at the tasks it leaves."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.types import Message
from starlette.websockets import WebSocket

from fastapi_rooms import AdapterHealth, OutboxPolicy, Receiver, RoomManager
from fastapi_rooms.core.compression import Deflate
from fastapi_rooms.core.json_codec import DEFAULT_JSON
from fastapi_rooms.core.names import Channels
from fastapi_rooms.core.payload import Outgoing, Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.operators.dispatcher import ClusterRequest, Part, ResponseReader, T
from fastapi_rooms.testing import eventually
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Broadcast

OTHER_NODE = "fedcba9876543210"
"""The id of a worker that the tests play."""


WORKERS = Channels("rooms").of_workers()


class FakeAdapter:
    """An adapter in a test's hands: it records everything, and holds or refuses what it is told.

    Nothing arrives by itself: `receiver` is what to call for that.
    """

    def __init__(self, prefix: str = "rooms") -> None:
        self.prefix = prefix
        self.health = AdapterHealth(connected=False, since=0.0, last_received=None)
        self.receiver: Receiver | None = None
        self.subscribed: set[bytes] = set()
        """Without those that every worker has from its start, but for the one it is asked on."""
        self.published: list[tuple[bytes, bytes]] = []
        self.published_volatile: list[tuple[bytes, bytes]] = []
        self.hellos: list[bytes] = []
        """What went to all workers, HELLO and BYE: kept apart from what a test publishes."""
        self.wanted: list[set[bytes]] = []
        """What was wanted without waiting, by each call."""
        self.starts = 0
        self.closes = 0
        self.waiting = 0
        """How many calls of `subscribe` or `publish` are held."""
        self.start_error: Exception | None = None
        self.subscribe_error: Exception | None = None
        self.publish_error: Exception | None = None
        self._from_the_start: set[bytes] = set()
        self._open = asyncio.Event()
        self._open.set()

    def hold(self) -> None:
        """Confirm and accept nothing from now on."""
        self._open.clear()

    def release(self) -> None:
        """Confirm and accept everything, what was held first."""
        self._open.set()

    async def start(self, receiver: Receiver, channels: Iterable[bytes]) -> None:
        if self.start_error is not None:
            raise self.start_error
        self.starts += 1
        self.receiver = receiver
        self._from_the_start = {c for c in channels if c == WORKERS or c.endswith(b".#")}
        self.subscribed = set(channels) - self._from_the_start
        self.health = AdapterHealth(connected=True, since=time.time(), last_received=None)

    async def publish(self, channel: bytes, data: bytes) -> int | None:
        if channel == WORKERS:
            self.hellos.append(data)
            return 0
        self.published.append((channel, data))
        await self._pass()
        if self.publish_error is not None:
            raise self.publish_error
        return 0

    def publish_volatile(self, channel: bytes, data: bytes) -> None:
        self.published_volatile.append((channel, data))

    async def subscribe(self, channels: Iterable[bytes]) -> None:
        if WORKERS in channels:  # of the HELLO, and subscribed to from the start
            return
        self.subscribed |= set(channels) - self._from_the_start
        await self._pass()
        if self.subscribe_error is not None:
            raise self.subscribe_error

    def want(self, channels: Iterable[bytes]) -> None:
        self.subscribed |= set(channels)
        self.wanted.append(set(channels))

    def unsubscribe(self, channels: Iterable[bytes]) -> None:
        self.subscribed -= set(channels)

    async def close(self) -> None:
        self.closes += 1
        self.receiver = None
        self.subscribed.clear()
        self.health = AdapterHealth(connected=False, since=time.time(), last_received=None)

    async def _pass(self) -> None:
        self.waiting += 1
        try:
            await self._open.wait()
        finally:
            self.waiting -= 1


class ShardedAdapter(FakeAdapter):
    """One whose channels are in two shards: order holds, and messages are lost, within each."""

    def __init__(self) -> None:
        super().__init__()
        self.away: set[int] = set()
        """The shards that are out of reach."""

    def shard_of(self, channel: bytes) -> int:
        return len(channel) % 2

    def is_reachable(self, channel: bytes) -> bool:
        return self.shard_of(channel) not in self.away


class FakeTransport:
    """Takes what it is given, and tells what came in one write."""

    name = "fake"

    def __init__(self) -> None:
        self.fd: int | None = None
        self.deflate: Deflate | None = None
        self.receive: Callable[[], Awaitable[Message]] = asyncio.Event().wait  # type: ignore[assignment]
        self.pending = 0
        self.dropped = 0
        self.policy = OutboxPolicy()
        self.is_flushed = True
        self.sent: list[tuple[bytes, bool]] = []
        """What the endpoint itself has sent."""
        self.writes: list[list[str]] = []
        self.already_sent: list[int] = []
        """Of each write, how many bytes of its frame had been written before."""
        self.intercepted: dict[str, Callable[[], None]] = {}
        self.volatile: list[bool] = []

    def intercept(self, text: str, answer: Callable[[], None]) -> bool:
        self.intercepted[text] = answer
        return True

    def keep_up(self) -> None:
        """Take finished frames from now on, as a client with nothing in its way does."""
        # Of this kind, as it tells one write from another.
        self._socket, self._client = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._client.setblocking(False)
        self.fd = self._socket.fileno()

    def frames(self) -> list[bytes]:
        """What has come since somebody last looked, a write each."""
        frames: list[bytes] = []
        with suppress(BlockingIOError):
            while frame := self._client.recv(1 << 16):
                frames.append(frame)
        return frames

    def lose_client(self) -> None:
        """The client is gone, and its connection with it."""
        self._client.close()

    def hang_up(self) -> None:
        """Close both ends, as the test is over."""
        self._client.close()
        self._socket.close()

    def write(self, message: Outgoing, sent: int = 0) -> None:
        self.writes.append([payload.text for payload in message.parts])
        self.already_sent.append(sent)
        self.volatile.append(False)

    def never_drop(self) -> None:
        self.policy = self.policy.without_drops()

    def write_volatile(self, message: Outgoing) -> None:
        self.write(message)
        self.volatile[-1] = True

    async def send(self, payload: Payload) -> None:
        self.sent.append((payload.data, payload.binary))

    async def flush(self) -> bool:
        return True

    async def drain(self, timeout: float) -> None: ...

    def stop(self) -> None: ...

    def abort(self) -> bool:
        return False

    @property
    def texts(self) -> list[str]:
        return [text for write in self.writes for text in write]


class Sent(NamedTuple):
    """A message that an operator handed on."""

    target: Target
    data: bytes
    binary: bool
    local: bool
    volatile: bool


class RecordingDispatcher:
    """Notes what operators hand on; nobody answers their requests."""

    json = DEFAULT_JSON

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.emitted: list[tuple[Target, str, tuple[Any, ...], bool, bool]] = []
        self.requests: list[tuple[ClusterRequest, float | None]] = []

    async def send(self, target: Target, payload: Payload, *, local: bool, volatile: bool) -> None:
        self.sent.append(Sent(target, payload.data, payload.binary, local, volatile))

    async def emit(
        self, target: Target, event: str, args: tuple[Any, ...], *, local: bool, volatile: bool
    ) -> None:
        self.emitted.append((target, event, args, local, volatile))

    async def request(
        self, request: ClusterRequest, reader: ResponseReader[Part, T], timeout: float | None
    ) -> T:
        self.requests.append((request, timeout))
        return reader.merge([])


async def published(accepted: Awaitable[object] | None) -> None:
    """Return when a message that had to be published is accepted."""
    assert accepted is not None
    await accepted


def broadcast(
    sequence: int,
    target: Target,
    text: str,
    *,
    origin: str = OTHER_NODE,
    namespace: str = "/",
    volatile: bool = False,
) -> Broadcast:
    """What another worker sends."""
    return Broadcast(origin, sequence, namespace, target, Payload.of_text(text), volatile)


def channel_of(room: str, namespace: str = "/", *, sharded: bool = False) -> bytes:
    """The channel of a room, with the default prefix."""
    return Channels("rooms", sharded=sharded).of_room(namespace, room)


def app_of(endpoint: Callable[[WebSocket], Awaitable[None]]) -> Starlette:
    """An application of one WebSocket endpoint, at `/`."""
    return Starlette(routes=[WebSocketRoute("/", endpoint)])


def other_tasks() -> set[asyncio.Task[object]]:
    """Every task of this event loop but the one that asks."""
    return asyncio.all_tasks() - {asyncio.current_task()}


async def all_is_over(rooms: RoomManager) -> None:
    """Wait until nobody is in `rooms`, and no task is left but the test's own."""
    await eventually(lambda: not rooms.sids and not rooms.rooms, what="nobody in the maps")
    await eventually(lambda: not other_tasks(), what="no task left")


def decoded(data: bytes) -> Broadcast:
    """The broadcast that was published."""
    message = codec.decode(data)
    assert isinstance(message, Broadcast)
    return message
