"""A client reads as fast as its user, and no faster."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms import Disconnected, UsageError
from fastapi_rooms.client import connect
from fastapi_rooms.testing import eventually
from tests.unit.client.scripts import all_of, listens
from tests.unit.client.server import FakeServer, Served

FILLER = "x" * 20_000


async def test_it_reads_only_as_its_user_does() -> None:
    sent = 0

    async def floods(served: Served) -> None:
        nonlocal sent
        await served.hello()
        for number in range(2_000):
            await served.place("tea", f"{number}", f"{number} {FILLER}")
            sent += 1
        await served.close()

    async with (
        FakeServer(floods) as server,
        connect(server.url, compression=None, max_queue=4) as socket,
    ):
        await eventually(lambda: server.served and server.served[0].connection.paused)
        await eventually(lambda: len(socket._inbox.resumption) == 4)
        assert sent < 1_900
        numbers = [int(message.text.split()[0]) async for message in socket]
    assert numbers == [*range(2_000)]


async def test_a_slow_user_has_no_more_waiting_than_was_asked_for() -> None:
    """Also once there was space again: what was watched for meanwhile wakes nobody later."""
    sent = 0

    async def floods(served: Served) -> None:
        nonlocal sent
        await served.hello()
        for number in range(3_000):
            await served.send(f"{number} {FILLER}")
            sent += 1
        await served.close()

    most = 0
    async with (
        FakeServer(floods) as server,
        connect(server.url, compression=None, max_queue=4) as socket,
    ):
        for number in range(200):
            message = await anext(socket)
            assert message.text.startswith(f"{number} ")
            for _ in range(20):  # turns in which too much could be received
                await asyncio.sleep(0)
            most = max(most, len(socket._inbox.resumption))
        assert sent < 2_900
    assert 0 < most <= 4


async def test_a_user_who_waits_for_the_next_connection_gets_it_and_loses_nothing() -> None:
    """As long as there is little enough that the end of the one before is read."""

    async def script(served: Served) -> None:
        resumed = await served.hello()
        begin = int(resumed["positions"].get("tea", -1)) + 1
        for number in range(begin, begin + 3):
            await served.place("tea", f"{number}", f"{number}")
        if len(server.served) < 4:
            await served.receive()
            await served.close(1011)
        else:
            await served.close()

    async with FakeServer(script) as server, connect(server.url, max_queue=3) as socket:
        numbers = []
        async for message in socket:
            numbers.append(message.text)
            if message.text == "1":
                for count in range(1, 4):
                    await eventually(lambda c=count: len(server.served) == c)  # type: ignore[misc]
                    await socket.wait_open()
                    await socket.send_text("close it")
                    await eventually(lambda: socket._writable() is None)
                await eventually(lambda: socket.state == "closed")
    assert numbers == [f"{number}" for number in range(9)]


async def test_too_much_that_nobody_asks_for_is_had_again() -> None:
    """A connection that is lost while the inbox is more than full leaves nothing in it."""

    async def script(served: Served) -> None:
        resumed = await served.hello()
        begin = int(resumed["positions"].get("tea", -1)) + 1
        last = min(begin + 10, 30)
        for number in range(begin, last):
            await served.place("tea", f"{number}", f"{number}")
        begins.append(begin)
        await served.close(1011 if last < 30 or len(begins) < 5 else 1000)

    begins: list[int] = []
    async with FakeServer(script) as server, connect(server.url, max_queue=3) as socket:
        while len(begins) < 4:
            await eventually(lambda: socket._writable() is None)
            await socket.wait_open()
        waiting = len(socket._inbox.resumption)
        assert begins[0] == 0
        assert begins[1:] == [10, 10, 10], "what was left of the first went in, of the others not"
        assert waiting == 10
        assert await all_of(socket) == [f"{number}" for number in range(30)]


async def test_what_came_before_the_end_is_read_by_a_slow_user_too() -> None:
    async def script(served: Served) -> None:
        await served.send("plain")
        for number in range(50):
            await served.send(f"{number}")
        await served.close(4003, "that is all")

    heard: list[str] = []

    async def read(url: str) -> None:
        async with connect(url, max_queue=2) as socket:
            await eventually(lambda: socket._inbox.is_full)
            async for message in socket:
                heard.append(message.text)
                await asyncio.sleep(0)

    async with FakeServer(script) as server:
        with pytest.raises(Disconnected, match="that is all"):
            await read(server.url)
    assert heard == ["plain", *(f"{number}" for number in range(50))]


async def test_iterations_can_be_cancelled_and_continued() -> None:
    async def script(served: Served) -> None:
        await served.hello()
        while (text := await served.receive()) != "end":
            await served.send(text)
        await served.close()

    async with FakeServer(script) as server, connect(server.url) as socket:
        for number in range(50):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await anext(socket)
            await socket.send_text(f"{number}")
            async for message in socket:
                assert message.text == f"{number}"
                break
        await socket.send_text("end")
        assert await all_of(socket) == []


async def test_only_one_task_may_iterate() -> None:
    async with FakeServer(listens) as server, connect(server.url) as socket:
        reading = asyncio.create_task(all_of(socket))
        await asyncio.sleep(0)
        with pytest.raises(UsageError, match="Two tasks"):
            await anext(socket)
        await socket.close()
        assert await reading == []


async def test_a_socket_is_for_one_block() -> None:
    async with FakeServer(listens) as server, connect(server.url) as socket:
        with pytest.raises(UsageError, match="one `async with` block"):
            await socket.__aenter__()
    with pytest.raises(UsageError):
        await socket.__aenter__()
    await connect(server.url).close()
