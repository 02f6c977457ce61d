"""What a fake server does with a client in many tests, and what comes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi_rooms.client import ClientSocket
from tests.unit.client.server import FakeServer, Served


async def listens(served: Served) -> None:
    await served.hello()
    await served.closed()


async def all_of(socket: ClientSocket) -> list[str]:
    return [message.text async for message in socket]


def hears(*expected: str | bytes) -> Callable[[Served], Awaitable[None]]:
    """Expect these frames, and close with 1000."""

    async def script(served: Served) -> None:
        await served.hello()
        assert [await served.receive() for _ in expected] == [*expected]
        await served.close()

    return script


async def codes_of(server: FakeServer) -> list[int | None]:
    for served in server.served:
        await served.connection.wait_closed()
    return [served.connection.protocol.close_code for served in server.served]
