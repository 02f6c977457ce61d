"""A client of `rooms.mux.v1`, as little as there can be of one, for tests of the edge."""

from __future__ import annotations

import asyncio
import json
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from fastapi_rooms.wire import mux as wire
from tests.integration.gateway.site import Site

ROUTES = {"/chat": "chat", "/": "else"}


class ChannelClient:
    """One connection. Credit is given for what is received by `of`, unless it is told not to."""

    def __init__(self, url: str, **options: Any) -> None:
        self._url, self._options = url, options
        self._queues: dict[int, asyncio.Queue[Any]] = {}
        self.connection: ClientConnection
        self._reading: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        offered = [Subprotocol(wire.SUBPROTOCOL)]
        self.connection = await connect(self._url, subprotocols=offered, **self._options)
        assert self.connection.subprotocol == wire.SUBPROTOCOL
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.connection.close()
        await self._reading

    async def _read(self) -> None:
        try:
            async for message in self.connection:
                number, said = _heard(message)
                self._of(number).put_nowait(said)
        except ConnectionClosed:
            pass
        finally:
            over = self.connection.close_code, self.connection.close_reason
            for queue in self._queues.values():
                queue.put_nowait({"over": list(over)})

    def _of(self, number: int) -> asyncio.Queue[Any]:
        return self._queues.setdefault(number, asyncio.Queue())

    async def control(self, **said: Any) -> None:
        """Send a control message."""
        await self.connection.send("0:" + json.dumps(said))

    async def open(self, number: int, path: str, **more: Any) -> Any:
        """Open a channel, and return the answer."""
        await self.control(open=number, path=path, **more)
        return await self.hear(number)

    async def say(self, number: int, payload: str | bytes) -> None:
        """Send a message on a channel."""
        if isinstance(payload, str):
            await self.connection.send(f"{number}:{payload}")
        else:
            await self.connection.send(wire.bytes_prefix(number) + payload)

    async def hear(self, number: int, *, credit: bool = True) -> Any:
        """The next that is said of a channel: a message, or what a control message says."""
        said = await asyncio.wait_for(self._of(number).get(), 10)
        if credit and isinstance(said, str | bytes):
            size = len(said.encode() if isinstance(said, str) else said) + 64
            await self.control(credit=number, bytes=size)
        return said


def _heard(message: str | bytes) -> tuple[int, Any]:
    if isinstance(message, bytes):
        data = wire.read_bytes(message)
        return data.channel, data.payload
    number, _, payload = message.partition(":")
    if number != "0":
        return int(number), payload
    said = json.loads(payload)
    return said[next(iter(said))], said


async def two_names(made: Site, **options: Any) -> int:
    """Start an edge and a backend of each name."""
    port = await made.edge(routes=ROUTES, **options)
    await made.backend(name="chat")
    await made.backend(name="else")
    return port


async def refused(client: ChannelClient) -> list[Any]:
    """How the whole connection is closed."""
    await client.connection.wait_closed()
    return [client.connection.close_code, client.connection.close_reason]
