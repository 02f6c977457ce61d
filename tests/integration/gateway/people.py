"""Clients of `rooms_app`, and what its backends make of them."""

from __future__ import annotations

import json
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from fastapi_rooms import Backend
from tests.integration.gateway.site import at


def state(backend: Backend) -> Any:
    """What the application of a backend has noted."""
    app: Any = backend._app
    return app.state


async def come(port: int, path: str) -> tuple[ClientConnection, list[Any]]:
    """A client, and what its endpoint says of its join; what is replayed comes before."""
    client = await connect(at(port, path))
    before = []
    while not (message := str(await client.recv())).startswith("["):
        before.append(message)
    return client, [*json.loads(message), before]


async def come_as(port: int, *users: str) -> list[ClientConnection]:
    """A client for each of the users, in a room that knows who is present."""
    return [(await come(port, f"/chat-tea?name={user}"))[0] for user in users]


async def until(client: ClientConnection, last: str) -> list[str]:
    """What a client hears before something."""
    heard = []
    while (message := str(await client.recv())) != last:
        heard.append(message)
    return heard


async def present(presence: Any, room: str, *users: str) -> bool:
    """Whether just these users are present in a room."""
    return {one.user for one in (await presence.users(room)).users} == set(users)


def told_once(backends: list[Backend]) -> list[tuple[str, str]]:
    """What handlers were told that are to be told on one worker of all."""
    told = [event for backend in backends for event in state(backend).told_once]
    return sorted((kind, user) for kind, _, user in told)
