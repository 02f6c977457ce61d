"""Native endpoints behind edges, unchanged: edges and backends in one process, clients real."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import pytest
import uvicorn
from fastapi import FastAPI
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from fastapi_rooms import Backend, Gateway, MemoryAdapter, RoomManager
from fastapi_rooms.testing import RedisServer, eventually
from fastapi_rooms.wire.gateway import Frame, FrameKind
from tests.integration.gateway_app import application, reader_app

MakeApp = Callable[[RoomManager], FastAPI]


class Site:
    """Edges and backends on one carrier."""

    def __init__(self, stack: AsyncExitStack, url: str, settings: dict[str, Any]) -> None:
        self._stack = stack
        self.url = url
        self._settings = {"prefix": uuid4().hex} | settings
        self.backends: list[Backend] = []
        self.edges: list[Gateway] = []
        self.ports: list[int] = []

    def manager(self) -> RoomManager:
        """One more, on the same carrier."""
        return RoomManager(self.url, **self._settings)

    async def edge(self, **options: Any) -> int:
        """Start an edge; returns its port."""
        gateway = Gateway(self.manager(), **{"routes": {"/": "app"}, **options})
        port = await self.serve(gateway)
        self.edges.append(gateway)
        self.ports.append(port)
        return port

    async def serve(self, app: Any, **options: Any) -> int:
        """Serve an application; returns its port."""
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", **options))
        serving = asyncio.create_task(server.serve([listener]))

        async def stop() -> None:
            server.should_exit = True
            await serving
            listener.close()

        self._stack.push_async_callback(stop)
        await eventually(lambda: server.started)
        return int(listener.getsockname()[1])

    async def backend(
        self, make: MakeApp = application, *, name: str = "app", **options: Any
    ) -> Backend:
        """Start a backend, and have all edges know it."""
        rooms = self.manager()
        backend = Backend(make(rooms), name=name, adapter=rooms, **options)
        await backend.__aenter__()
        self.backends.append(backend)
        await eventually(lambda: all(self._knows(edge, backend) for edge in self.edges))
        return backend

    def _knows(self, edge: Gateway, backend: Backend) -> bool:
        return backend.manager.node in edge.backends

    async def stop(self, backend: Backend) -> None:
        """Stop a backend in order."""
        self.backends.remove(backend)
        await backend.__aexit__()

    def kill(self, backend: Backend) -> None:
        """Have a backend say and hear nothing more, as if it had been killed."""
        frames = backend.frames
        frames.receivers.remove(backend)
        frames.publish = _unheard  # type: ignore[assignment, method-assign]  # nobody hears it any more

    def revive(self, backend: Backend) -> None:
        """Only so that it can be stopped in order."""
        del backend.frames.publish
        backend.frames.receivers.append(backend)


async def _unheard(*_: Any) -> None:
    """Nobody hears it."""


@asynccontextmanager
async def site(url: str, **settings: Any) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        made = Site(stack, url, settings)
        yield made
        for backend in list(made.backends):
            await made.stop(backend)


@pytest.fixture(params=["memory", "redis"])
async def both(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """Edges and backends on each carrier."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis")
        url = server.url
    else:
        url = f"memory://{uuid4().hex}"
    async with site(url) as made:
        yield made


@pytest.fixture
async def inmemory() -> AsyncIterator[Site]:
    async with site(f"memory://{uuid4().hex}") as made:
        yield made


def at(port: int, path: str) -> str:
    return f"ws://127.0.0.1:{port}{path}"


async def closed(client: ClientConnection) -> tuple[int, str]:
    with suppress(ConnectionClosed):
        while True:
            await client.recv()
    return client.close_code or 0, client.close_reason or ""


async def test_an_endpoint_sees_the_request_of_the_client_and_answers_it(both: Site) -> None:
    port = await both.edge()
    backend = await both.backend()
    headers = {"x-agent": "test", "cookie": "cookie=sweet"}
    async with connect(
        at(port, "/echo/Ann%20Lee?q=a%26b"),
        additional_headers=headers,
        subprotocols=["a", "b"],  # type: ignore[list-item]  # Subprotocol is a str
    ) as client:
        assert client.subprotocol == "b"
        assert client.response is not None
        assert client.response.headers["x-answer"] == "yes"
        expected = ["Ann Lee", "a&b", "test", "sweet", "open", "127.0.0.1"]
        assert json.loads(await client.recv()) == expected
        await client.send(b"\x00\xff")
        assert await client.recv() == b"\x00\xff"
        assert await closed(client) == (4321, "enough")
    app: Any = backend._app
    await eventually(lambda: app.state.ended == ["resource"])


async def test_a_refusal_before_accept_is_an_http_answer(inmemory: Site) -> None:
    port = await inmemory.edge(open_timeout=0.2)
    with pytest.raises(InvalidStatus) as away:
        await connect(at(port, "/code"))
    assert away.value.response.status_code == 503
    await inmemory.backend()
    for path, status in [("/refuse/418", 418), ("/nothing", 403), ("/a/../code", 400)]:
        with pytest.raises(InvalidStatus) as refused:
            await connect(at(port, path))
        assert refused.value.response.status_code == status


async def test_an_endpoint_that_fails_closes_with_1011(
    inmemory: Site, caplog: pytest.LogCaptureFixture
) -> None:
    port = await inmemory.edge()
    await inmemory.backend()
    async with connect(at(port, "/broken")) as client:
        assert (await closed(client))[0] == 1011
    assert "broken on purpose" in caplog.text


async def test_an_endpoint_hears_the_code_of_its_client(both: Site) -> None:
    port = await both.edge()
    backend = await both.backend()
    client = await connect(at(port, "/code"))
    await client.close(4002)
    app: Any = backend._app
    await eventually(lambda: app.state.ended == [4002])
    await eventually(lambda: backend.clients == 0)


async def test_a_message_over_the_limit_of_the_edge_s_server_closes_with_1009(
    inmemory: Site,
) -> None:
    edge = Gateway(inmemory.manager(), routes={"/": "app"})
    inmemory.edges.append(edge)
    port = await inmemory.serve(edge, ws_max_size=1000)
    backend = await inmemory.backend()
    async with connect(at(port, "/code"), compression=None) as client:
        await client.send("x" * 1001)
        assert (await closed(client))[0] == 1009
    app: Any = backend._app
    await eventually(lambda: app.state.ended)
    assert app.state.ended == [1009]


async def test_rooms_are_at_the_edges_and_reach_all_clients(both: Site) -> None:
    ports = [await both.edge(), await both.edge()]
    backend = await both.backend()
    ann = await connect(at(ports[0], "/chat/tea?name=ann"))
    bob = await connect(at(ports[1], "/chat/tea?name=bob"))
    for client in (ann, bob):
        assert await client.recv() == "hello 0"
    await ann.send("who")
    assert json.loads(await ann.recv()) == ["ann", "bob"]
    await bob.send("I am rob")
    await bob.send("who")
    assert json.loads(await bob.recv()) == ["ann", "rob"]
    await ann.send("hi")
    assert [await ann.recv(), await bob.recv()] == ["hi", "hi"]
    assert not backend.manager.rooms
    assert [len(edge.manager.rooms["tea"]) for edge in both.edges] == [1, 1]
    await backend.manager.to("tea").sockets_join("late")
    await ann.send("rooms")
    assert json.loads(await ann.recv()) == ["late", "tea"]
    await backend.manager.to("tea").disconnect_sockets(4000, "over")
    assert await closed(ann) == await closed(bob) == (4000, "over")
    await eventually(lambda: backend.clients == 0)


async def test_a_join_that_is_not_allowed_closes_with_1008(inmemory: Site) -> None:
    port = await inmemory.edge()
    await inmemory.backend()
    async with connect(at(port, "/chat/secret")) as client:
        assert (await closed(client))[0] == 1008


async def test_a_broadcast_costs_one_publish_however_many_members(inmemory: Site) -> None:
    ports = [await inmemory.edge(), await inmemory.edge()]
    backend = await inmemory.backend()
    clients = [await connect(at(ports[n % 2], "/chat/tea")) for n in range(12)]
    for client in clients:
        await client.recv()
    adapter = backend.manager._runtime.adapter
    assert isinstance(adapter, MemoryAdapter)
    published = []
    original = adapter.publish

    def publish(channel: bytes, data: bytes) -> Any:
        published.append(channel)
        return original(channel, data)

    adapter.publish = publish  # type: ignore[method-assign]  # to count
    await backend.manager.to("tea").send_text("all")
    assert [await client.recv() for client in clients] == ["all"] * 12
    assert len([channel for channel in published if b"tea" in channel]) == 1
    for client in clients:
        await client.close()


async def test_a_client_keeps_its_connection_sid_data_and_rooms_when_its_backend_stops(
    both: Site,
) -> None:
    port = await both.edge()
    first = await both.backend()
    client = await connect(at(port, "/chat/tea?name=ann"))
    assert await client.recv() == "hello 0"
    await client.send("I am anna")
    await client.send("join side")
    assert await client.recv() == "joined"
    await client.send("state")
    sid, data, _ = json.loads(await client.recv())
    second = await both.backend()
    await both.stop(first)
    assert await client.recv() == "hello 1"
    await client.send("state")
    assert json.loads(await client.recv()) == [sid, data, 1]
    await second.manager.to("side").send_text("still here")
    assert await client.recv() == "still here"
    await client.send("tidy")
    edge = both.edges[0]
    await eventually(lambda: "side" not in edge.manager.rooms)
    assert edge.manager.rooms["tea"] == {sid}
    await client.close()


async def test_no_message_of_a_client_is_lost_or_doubled_by_a_rolling_restart(both: Site) -> None:
    port = await both.edge()
    backends = [await both.backend(), await both.backend()]
    listener = await connect(at(port, "/chat/tea"))
    speaker = await connect(at(port, "/chat/tea"))
    heard: list[int] = []

    async def hear() -> None:
        async for text in listener:
            if not str(text).startswith("hello"):
                heard.append(int(text))  # noqa: PERF401 -- it is looked at meanwhile

    async def ignore() -> None:
        async for _ in speaker:
            pass

    async def speak() -> None:
        for number in range(300):
            await speaker.send(str(number))
            await asyncio.sleep(0.002)

    hearing, speaking = asyncio.create_task(hear()), asyncio.create_task(speak())
    ignoring = asyncio.create_task(ignore())
    for backend in backends:
        await both.stop(backend)
        await both.backend()
    await speaking
    await eventually(lambda: len(heard) >= 300)
    assert heard == list(range(300))
    await asyncio.gather(listener.close(), speaker.close())
    await asyncio.gather(hearing, ignoring)


async def test_a_backend_that_is_killed_is_replaced_and_what_it_had_is_told(
    inmemory: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("member", "edge", "backend"):
        monkeypatch.setattr(f"fastapi_rooms.gateway.{module}.INTERVAL", 0.1)
    port = await inmemory.edge()
    first = await inmemory.backend()
    client = await connect(at(port, "/chat/tea"))
    assert await client.recv() == "hello 0"
    second = await inmemory.backend()
    inmemory.kill(first)
    await client.send("into the void")
    assert await client.recv() == "hello 1"
    (connection,) = second._connections.values()
    assert connection.lost == 1
    await client.close()
    inmemory.revive(first)


async def test_data_that_no_edge_can_keep_is_an_error_in_the_endpoint_alone(inmemory: Site) -> None:
    port = await inmemory.edge()
    first = await inmemory.backend()
    client = await connect(at(port, "/chat/tea"))
    assert await client.recv() == "hello 0"
    await client.send("keep 1200000")
    assert "as JSON, of which it takes 1,048,576" in str(await client.recv())
    await client.send("keep 500000")
    assert await client.recv() == "kept"
    await inmemory.backend()
    await inmemory.stop(first)
    assert await client.recv() == "hello 1"
    await client.send("state")
    assert len(json.loads(await client.recv())[1]["kept"]) == 500_000
    await client.close()


async def test_a_client_waits_for_a_backend_and_is_closed_when_none_comes(inmemory: Site) -> None:
    port = await inmemory.edge(reattach_timeout=0.5)
    first = await inmemory.backend()
    client = await connect(at(port, "/chat/tea"))
    await inmemory.stop(first)
    assert (await closed(client))[0] == 1013


async def test_a_client_that_must_not_be_reattached_is_closed_with_1012(inmemory: Site) -> None:
    port = await inmemory.edge(reattach=False)
    first = await inmemory.backend()
    client = await connect(at(port, "/chat/tea"))
    await inmemory.backend()
    await inmemory.stop(first)
    assert (await closed(client))[0] == 1012


async def test_a_gap_of_the_carrier_opens_every_endpoint_again(inmemory: Site) -> None:
    port = await inmemory.edge()
    await inmemory.backend()
    client = await connect(at(port, "/chat/tea"))
    assert await client.recv() == "hello 0"
    inmemory.edges[0].gap()
    assert await client.recv() == "hello 1"
    inmemory.backends[0].gap()
    assert await client.recv() == "hello 2"
    await client.close()


async def test_a_client_that_does_not_read_stops_its_endpoint_and_gets_all_later(
    inmemory: Site,
) -> None:
    port = await inmemory.edge()
    backend = await inmemory.backend(reader_app)
    app: Any = backend._app
    async with connect(at(port, "/flood"), compression=None, max_queue=1) as client:
        first = await client.recv()
        assert isinstance(first, bytes)
        for number in range(1, 500):
            message = await client.recv()
            assert isinstance(message, bytes)
            assert message[:4] == number.to_bytes(4)
            ahead = app.state.sent - number
            assert ahead < 450
        assert (await closed(client))[0] == 1000


async def test_an_endpoint_that_does_not_read_stops_its_client_and_gets_all_later(
    inmemory: Site,
) -> None:
    port = await inmemory.edge()
    backend = await inmemory.backend(reader_app)
    app: Any = backend._app
    async with connect(at(port, "/slow"), compression=None) as client:

        async def send() -> None:
            for number in range(500):
                await client.send(number.to_bytes(4) + bytes(20_000))

        sending = asyncio.create_task(send())
        await eventually(lambda: backend.clients == 1)
        (connection,) = backend._connections.values()
        await eventually(lambda: len(connection._incoming) > 10)
        assert sum(len(body) for _, body in connection._incoming) < 300 * 1024
        app.state.go.set()
        await sending
        assert (await closed(client))[0] == 4000


@pytest.mark.parametrize("step", ["open", "accept", "enter", "join", "greet"])
async def test_a_backend_that_dies_at_any_step_of_an_opening_is_replaced(
    inmemory: Site, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    for module in ("member", "edge", "backend"):
        monkeypatch.setattr(f"fastapi_rooms.gateway.{module}.INTERVAL", 0.1)
    port = await inmemory.edge()
    first = await inmemory.backend()
    frames = first.frames
    steps = iter(["open", "accept", "enter", "join", "greet"])
    publish = frames.publish

    def dying(to: str | None, frame: Frame) -> Any:
        if frame.kind is not FrameKind.BEAT and next(steps) == step:
            inmemory.kill(first)
            return _unheard()
        return publish(to, frame)

    next(steps) if step != "open" else inmemory.kill(first)
    if step != "open":
        frames.publish = dying  # type: ignore[method-assign]  # dies in it
    connecting = asyncio.create_task(connect(at(port, "/chat/tea?name=ann")).__aenter__())
    await eventually(lambda: first not in frames.receivers)
    await inmemory.backend()
    client = await connecting
    attempt = 0 if step in ("open", "accept") else 1
    assert await client.recv() == f"hello {attempt}"
    await client.send("hi")
    assert await client.recv() == "hi"
    await client.close()
    inmemory.revive(first)


async def test_clients_stay_when_the_carrier_drops_every_connection(redis: RedisServer) -> None:
    async with site(redis.url) as made:
        port = await made.edge()
        await made.backend()
        client = await connect(at(port, "/chat/cut?name=ann"))
        assert await client.recv() == "hello 0"
        async with Redis.from_url(redis.url) as admin:
            for kind in ("pubsub", "normal"):
                await admin.client_kill_filter(_type=kind, skipme=True)
        greeting = str(await client.recv())
        assert greeting.startswith("hello ")
        assert greeting != "hello 0"
        await eventually(lambda: made.backends[0].manager.health.connected)
        await client.send("hi")
        while (heard := await client.recv()) != "hi":
            assert str(heard).startswith("hello ")
        await client.close()


async def test_an_edge_that_dies_is_noticed_by_its_endpoints(
    inmemory: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("member", "edge", "backend"):
        monkeypatch.setattr(f"fastapi_rooms.gateway.{module}.INTERVAL", 0.1)
    port = await inmemory.edge()
    backend = await inmemory.backend()
    client = await connect(at(port, "/code"))
    frames = inmemory.edges[0].frames
    frames.publish = _unheard  # type: ignore[assignment, method-assign]  # as if it were dead
    app: Any = backend._app
    await eventually(lambda: app.state.ended == [1006])
    del frames.publish
    await client.close()
