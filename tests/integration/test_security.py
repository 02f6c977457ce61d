"""Security on real servers: what a client sees that is refused, or does what it may not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.integration.servers import (
    WEBSOCKETS,
    Server,
    Start,
    granian,
    gunicorn,
    hypercorn,
    uvicorn,
)

APP = "tests.integration.security_app:app"
SERVERS = {
    **{f"uvicorn {ws}": uvicorn("--ws", ws, app=APP) for ws in WEBSOCKETS},
    "gunicorn": gunicorn(app=APP),
    "hypercorn": hypercorn(app=APP),
    "granian": granian(app=APP),
}


@pytest.fixture(params=[*SERVERS.values()], ids=[*SERVERS])
def server(request: pytest.FixtureRequest, start: Start) -> Iterator[Server]:
    command: Callable[[int], list[str]] = request.param
    server = start(command)
    server.wait_for_workers()
    yield server
    server.stop()
    # The one thing said is the first refusal of an origin, on each worker.
    assert all("A connection was refused (403)" in line for line in server.complaints)


async def end_of(client: ClientConnection) -> tuple[int | None, str | None]:
    """Wait for the end, and return how it was closed."""
    async with asyncio.timeout(20):
        await client.wait_closed()
    return client.close_code, client.close_reason


async def says_in(client: ClientConnection, room: str) -> bool:
    await client.send(room)
    return await client.recv() == f"in {room}"


async def test_whoever_does_what_it_may_not_is_refused_or_closed(
    server: Server,
) -> None:
    host = f"127.0.0.1:{server.port}"
    await pages_of_other_sites_get_403_before_the_handshake_is_answered(server, host)
    async with connect(server.url("/ann"), origin=f"http://{host}") as ann:  # type: ignore[arg-type]
        await a_room_that_is_not_for_it_ends_with_1008(ann)
    async with connect(server.url("/bob")) as bob:  # a program, which names no origin
        await too_many_rooms_end_with_1008(bob)
    async with connect(server.url("/cid")) as cid:
        await too_many_messages_end_with_4429(cid)
    async with connect(server.url("/ann")) as ann:
        assert await says_in(ann, "private-ann")


async def pages_of_other_sites_get_403_before_the_handshake_is_answered(
    server: Server, host: str
) -> None:
    for origin in ("http://evil.example", "http://127.0.0.1:1", "null", f"https://{host}.evil"):
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.url("/ann"), origin=origin)  # type: ignore[arg-type]
        assert refused.value.response.status_code == 403


async def a_room_that_is_not_for_it_ends_with_1008(client: ClientConnection) -> None:
    assert await says_in(client, "private-ann")
    await client.send("private-bob")
    assert await end_of(client) == (1008, "not allowed to join 'private-bob'")


async def too_many_rooms_end_with_1008(client: ClientConnection) -> None:
    for room in ("a", "b", "c", "a"):
        assert await says_in(client, room)
    await client.send("d")
    code, reason = await end_of(client)
    assert code == 1008
    assert "the limit is 3" in str(reason)


async def too_many_messages_end_with_4429(client: ClientConnection) -> None:
    for _ in range(10):
        assert await says_in(client, "a")
    await client.send("a")
    assert await end_of(client) == (4429, "too many messages")


@pytest.mark.parametrize("kind", [*WEBSOCKETS, "hypercorn"])
async def test_a_message_over_the_servers_limit_ends_with_1009(
    start: Start, tmp_path: Path, kind: str
) -> None:
    configuration = tmp_path / "hypercorn.toml"
    configuration.write_text("websocket_max_message_size = 1000\n")
    if kind == "hypercorn":
        command = hypercorn("-c", str(configuration), app=APP)
    else:
        command = uvicorn("--ws", kind, "--ws-max-size", "1000", app=APP)
    server = start(command)
    server.wait_for_workers()
    async with connect(server.url("/ann")) as client:
        assert await says_in(client, "a")
        await client.send("x" * 1001)
        code, _ = await end_of(client)
        assert code == 1009
    server.stop()
    assert server.complaints == []


@pytest.mark.parametrize(
    ("trusted", "proto", "status"),
    [
        ("127.0.0.1", "https", 403),  # TLS is known to be used, and the page is not under it
        ("127.0.0.1", "http", 101),
        ("10.0.0.1", "https", 101),  # anyone could say so
    ],
)
async def test_what_a_trusted_proxy_says_of_tls_counts(
    start: Start, trusted: str, proto: str, status: int
) -> None:
    server = start(uvicorn("--forwarded-allow-ips", trusted, app=APP))
    server.wait_for_workers()
    headers = {
        "Origin": f"http://127.0.0.1:{server.port}",
        "X-Forwarded-Proto": proto,
        "X-Forwarded-Host": "evil.example",
    }
    try:
        async with connect(server.url("/ann"), additional_headers=headers) as client:
            assert client.response is not None
            seen = client.response.status_code
    except InvalidStatus as refused:
        seen = refused.response.status_code
    assert seen == status
    evil = {**headers, "Origin": "http://evil.example"}
    with pytest.raises(InvalidStatus):
        await connect(server.url("/ann"), additional_headers=evil)
