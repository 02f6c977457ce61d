"""Endpoints and managers that several tests of this worker need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from starlette.websockets import WebSocket

from fastapi_rooms import OutboxPolicy, RoomManager, Socket
from fastapi_rooms.cluster.heartbeat import HeartbeatSettings
from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.testing import eventually
from fastapi_rooms.worker.settings import Settings
from tests.unit.support import FakeAdapter, all_is_over

Endpoint = Callable[[WebSocket], Awaitable[None]]


async def until_gone(socket: Socket) -> None:
    async for _ in socket.iter_text():
        pass


def echo_endpoint(rooms: RoomManager, **settings: Any) -> Endpoint:
    """An endpoint that joins the lobby and says everything back."""

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket, **settings) as socket:
            await socket.join("lobby")
            async for text in socket.iter_text():
                await socket.send_text(f"{text}!")

    return endpoint


def member_endpoint(rooms: RoomManager, sockets: list[Socket]) -> Endpoint:
    """An endpoint that joins the lobby, shows its socket to the test, and stays."""

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            sockets.append(socket)
            await socket.join("lobby")
            await until_gone(socket)

    return endpoint


async def nothing_is_left(rooms: RoomManager, adapter: FakeAdapter) -> None:
    await all_is_over(rooms)
    await eventually(lambda: len(adapter.subscribed) == 1, what="only the worker's own channel")


LARGE = "x" * 400

BOUND = 2 * (500 + ENTRY_BYTES)
"""Room for two large messages."""


def bounded_manager(
    adapter: FakeAdapter, overflow: Literal["close", "drop_oldest", "drop_newest"] = "close"
) -> RoomManager:
    """A manager whose outboxes hold two large messages."""
    return RoomManager(adapter, linger=0, outbox=OutboxPolicy(BOUND, overflow))


async def overfill(rooms: RoomManager, count: int = 5) -> None:
    """Send more than fits: one is on its way out, two fit into the outbox, the rest does not."""
    for number in range(count):
        await rooms.to("lobby").send_text(f"{number}{LARGE}")


def run_settings(*, join_timeout: float = 60, linger: float = 0, limit: int = 1024) -> Settings:
    return Settings(
        join_timeout=join_timeout,
        linger=linger,
        max_message_bytes=limit,
        heartbeat=HeartbeatSettings(interval=60),
    )
