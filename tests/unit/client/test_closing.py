"""How a client's block is entered and left, and what is closed then."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastapi_rooms import NotConnected
from fastapi_rooms.client import connect
from fastapi_rooms.client import connection as connection_module
from fastapi_rooms.client import socket as socket_module
from fastapi_rooms.testing import eventually
from tests.unit.client.scripts import all_of, codes_of, listens
from tests.unit.client.server import FakeServer, Served

FILLER = "x" * 20_000


async def test_after_a_close_nothing_more_is_read() -> None:
    async def script(served: Served) -> None:
        await served.hello()
        for number in range(5):
            await served.place("tea", f"{number}", f"{number}")
        await served.closed()

    async with FakeServer(script) as server, connect(server.url) as socket:
        assert (await anext(socket)).text == "0"
        await eventually(lambda: len(socket._inbox.resumption) == 4)
        await socket.close()
        assert await all_of(socket) == []
        assert socket.positions == {"tea": "0"}
        assert socket._lasted is not None
        assert socket._lasted.cancelled()


@pytest.mark.parametrize("how", ["leave", "error", "cancel", "close"])
async def test_leaving_the_block_closes_the_connection(how: str) -> None:
    entered = asyncio.Event()

    async def live(url: str) -> None:
        async with connect(url) as socket:
            entered.set()
            if how == "error":
                raise ZeroDivisionError
            if how == "cancel":
                await anext(socket)
            if how == "close":
                await asyncio.gather(socket.close(4000, "bye"), socket.close(), all_of(socket))
                await socket.close()
                assert socket.state == "closed"

    async with FakeServer(listens) as server:
        before = asyncio.all_tasks()
        living = asyncio.create_task(live(server.url))
        await entered.wait()
        if how == "cancel":
            living.cancel()
        await asyncio.wait((living,))
        assert not {task for task in asyncio.all_tasks() - before if "client" in repr(task)}
        assert living.cancelled() is (how == "cancel")
        if how != "cancel":
            error = living.exception()
            assert isinstance(error, ZeroDivisionError) if how == "error" else error is None
        assert await codes_of(server) == [4000 if how == "close" else 1000]


async def test_closing_needs_nobody_to_read_what_has_come() -> None:
    async def floods(served: Served) -> None:
        await served.hello()
        while True:
            await served.send(FILLER)

    async with FakeServer(floods) as server:
        async with (
            asyncio.timeout(30),
            connect(server.url, max_queue=1, compression=None) as socket,
        ):
            await eventually(lambda: server.served[0].connection.paused)
            await anext(socket)
        assert await codes_of(server) == [1000]


async def test_a_server_that_does_not_answer_a_close_is_not_waited_for_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 0.05)

    async def deaf(served: Served) -> None:
        await served.hello()
        served.connection.transport.pause_reading()
        await served.send("ready")
        await served.connection.wait_closed()

    async with FakeServer(deaf) as server, connect(server.url) as socket:
        await anext(socket)


async def test_a_close_that_is_cancelled_ends_the_connection_at_once() -> None:
    async def deaf(served: Served) -> None:
        await served.hello()
        served.connection.transport.pause_reading()
        await served.send("ready")
        await served.connection.wait_closed()

    async with FakeServer(deaf) as server, connect(server.url) as socket:
        await anext(socket)
        closing = asyncio.create_task(socket.close())
        await eventually(lambda: socket._connection and not socket._connection.is_open)
        closing.cancel()
        await asyncio.wait((closing,))
        assert closing.cancelled()
        assert socket._connection is None


@pytest.mark.parametrize("when", ["asking", "handshake", "hello", "waiting"])
async def test_entering_can_be_cancelled_at_any_time(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_module, "HELLO_TIMEOUT", 60.0)
    states: list[Any] = []
    asked = asyncio.Event()

    async def token(refresh: bool) -> str:
        asked.set()
        if when == "asking":
            await asyncio.sleep(3600)
        return "t"

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def says_nothing(served: Served) -> None:
        await served.closed()

    silent = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with silent, FakeServer((503, "") if when == "waiting" else says_nothing) as server:
        url = server.url
        if when == "handshake":
            url = f"ws://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        before = asyncio.all_tasks()
        entering = asyncio.create_task(
            connect(url, token=token, on_state=states.append).__aenter__()
        )
        await asked.wait()
        if when == "waiting":
            await eventually(lambda: len(states) > 1)
        if when == "hello":
            await eventually(lambda: server.served)
        entering.cancel()
        await asyncio.wait((entering,))
        assert entering.cancelled()
        assert not {task for task in asyncio.all_tasks() - before if "client" in repr(task)}


async def test_a_client_whose_task_is_cancelled_from_elsewhere_is_over() -> None:
    async with FakeServer(listens) as server, connect(server.url) as socket:
        assert socket._task is not None
        socket._task.cancel()
        with pytest.raises(NotConnected, match="cancelled"):
            await anext(socket)


async def test_a_mistake_of_ours_is_raised_where_messages_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(served: Served) -> None:
        await served.hello()
        await served.receive()
        await served.send("x")
        await served.closed()

    async with FakeServer(script) as server, connect(server.url) as socket:
        monkeypatch.setattr(socket._inbox, "receive", None)
        await socket.send_text("go")
        with pytest.raises(TypeError):
            await anext(socket)
    assert "A client failed" in caplog.text


async def test_the_subprotocol_is_the_server_s() -> None:
    async with FakeServer(listens) as server, connect(server.url) as socket:
        assert socket.subprotocol is None
        assert socket.state == "open"
