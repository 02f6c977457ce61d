"""A client whose endpoint is a forger's, and that has a socket at its edge."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp

from fastapi_rooms import Gateway
from fastapi_rooms.testing import WebSocketClient, eventually
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import FrameKind
from tests.unit.gateway.support import ACCEPT, Peer, Site


class Entered:
    """The edge, its client, and the backend that speaks for it."""

    def __init__(self, edge: Gateway, forger: Peer, client: WebSocketClient, opened: bytes) -> None:
        self.edge = edge
        self.forger = forger
        self.client = client
        self._connection = opened
        self._sequence = 0
        self._number = 0

    def say(self, *said: tuple[FrameKind, bytes]) -> None:
        """Say something to the edge, behind all that was said before."""
        to = self.edge.manager.node
        self.forger.say(to, self._connection, *said, first=self._sequence + 1)
        self._sequence += len(said)

    def ask(self, verb: str, **about: Any) -> int:
        """Ask the edge for something, and return the number of the call."""
        self._number += 1
        call = {"id": self._number, "verb": verb, "namespace": "/", "users": {}, "rooms": []}
        self.say((FrameKind.CALL, wire.to_json(call | about)))
        return self._number

    def reply_to(self, number: int) -> dict[str, Any] | None:
        """What the edge has replied, if it has."""
        replies = [
            wire.read_json(frame.body)
            for frame in self.forger.heard
            if frame.kind is FrameKind.REPLY
        ]
        return next((reply for reply in replies if reply["id"] == number), None)

    async def reply(self, number: int) -> dict[str, Any]:
        """What the edge replies."""
        await eventually(lambda: self.reply_to(number) is not None)
        reply = self.reply_to(number)
        assert reply is not None
        return reply

    async def is_lost(self) -> None:
        """Return when the edge has given the backend up."""
        await eventually(lambda: FrameKind.RESET in self.forger.kinds())


@asynccontextmanager
async def entered(
    site: Site, edge: Gateway, *, enters: bool = True, app: ASGIApp | None = None
) -> AsyncIterator[Entered]:
    """A client, accepted by a forger; with a socket in the default namespace if it `enters`.

    `app` is what the client is a client of, if not of the edge itself.
    """
    forger = await site.forger(edge)
    client = WebSocketClient(app or edge, "/")
    opening = asyncio.create_task(client.open())
    await eventually(lambda: forger.heard)
    opened = forger.heard.pop()
    found = Entered(edge, forger, client, opened.connection)
    found.say(ACCEPT)
    await opening
    if enters:
        sid = wire.read_json(opened.body)["sid"]
        assert "error" not in await found.reply(found.ask("enter", sid=sid, data={}))
    try:
        yield found
    finally:
        client.leave(1006)
        await client.wait_ended()
