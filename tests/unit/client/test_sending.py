"""What a client sends while it is connected, while it is away, and when it is over."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms import Disconnected, NotConnected
from fastapi_rooms.client import BufferLimits, StateChange, connect
from fastapi_rooms.testing import eventually
from tests.unit.client.scripts import all_of, hears, listens
from tests.unit.client.server import FakeServer, Served


async def test_text_bytes_and_json_are_sent_so_that_they_arrive_as_they_are() -> None:
    frames = ("text", "\0.\0text", b"bytes", b"\0.\0\xff", '{"a":[1]}')
    async with FakeServer(hears(*frames)) as server, connect(server.url) as socket:
        await socket.send_text("text")
        await socket.send_text("\0text")
        await socket.send_bytes(bytearray(b"bytes"))
        await socket.send_bytes(memoryview(b"\0\xff"))
        await socket.send_json({"a": [1]})
        with pytest.raises(TypeError):
            await socket.send_text(b"bytes")  # type: ignore[arg-type]
        assert await all_of(socket) == []


async def test_while_there_is_no_connection_sending_is_refused() -> None:
    async with FakeServer(listens, hears("sent")) as server, connect(server.url) as socket:
        server.served[0].cut()
        await eventually(lambda: socket.state != "open")
        if socket.state == "waiting":
            with pytest.raises(NotConnected, match=r"^not connected$") as raised:
                await socket.send_text("lost")
            assert not raised.value.uncertain
            assert isinstance(raised.value, ConnectionError)
        await socket.wait_open()
        await socket.send_text("sent")
        assert await all_of(socket) == []


async def test_when_it_is_over_sending_says_why() -> None:
    async def script(served: Served) -> None:
        await served.hello()
        await served.close(4003, "logged out")

    async with FakeServer(script, listens) as server:
        async with connect(server.url) as socket:
            for call in (all_of(socket), socket.send_text("x"), socket.wait_open()):
                with pytest.raises(Disconnected, match="logged out"):
                    await call
        async with connect(server.url) as socket:
            await socket.close()
            for call in (socket.send_text("x"), socket.wait_open()):
                with pytest.raises(NotConnected, match="closed"):
                    await call


async def test_what_was_being_sent_when_the_connection_was_lost_is_uncertain_and_not_repeated() -> (
    None
):
    async def deaf(served: Served) -> None:
        await served.hello()
        served.connection.transport.pause_reading()
        await served.send("ready")
        await served.connection.wait_closed()

    buffer = BufferLimits()
    async with (
        FakeServer(deaf, hears("after")) as server,
        connect(server.url, compression=None, write_limit=1, buffer=buffer) as socket,
    ):
        await anext(socket)
        sending = asyncio.create_task(socket.send_bytes(bytes(50_000_000)))
        await asyncio.sleep(0)
        server.served[0].cut()
        with pytest.raises(NotConnected) as raised:
            await sending
        assert raised.value.uncertain
        await socket.send_text("after")
        assert await all_of(socket) == []


async def test_with_a_buffer_messages_wait_for_the_connection_in_their_order() -> None:
    texts = [f"{number}" for number in range(20)]
    async with (
        FakeServer(listens, hears(*texts)) as server,
        connect(server.url, buffer=BufferLimits()) as socket,
    ):
        await server.stop()
        await eventually(lambda: socket.state != "open")
        async with asyncio.TaskGroup() as tasks:
            for text in texts[:10]:
                tasks.create_task(socket.send_text(text))
            await asyncio.sleep(0)
            await server.listen()
            await eventually(lambda: len(server.served) == 2)
            for text in texts[10:]:
                tasks.create_task(socket.send_text(text))
        assert await all_of(socket) == []


async def test_what_is_sent_as_the_connection_opens_does_not_overtake_what_has_waited() -> None:
    late: list[asyncio.Task[None]] = []

    def state(change: StateChange) -> None:
        if change.state == "open" and len(server.served) == 2:
            late.append(asyncio.create_task(socket.send_text("late")))

    async with (
        FakeServer(listens, hears("early", "late")) as server,
        connect(server.url, buffer=BufferLimits(), on_state=state) as socket,
    ):
        await server.stop()
        await eventually(lambda: socket.state != "open")
        waiting = asyncio.create_task(socket.send_text("early"))
        await asyncio.sleep(0)
        await server.listen()
        await waiting
        await late[0]
        assert await all_of(socket) == []


@pytest.mark.parametrize(
    ("limits", "refused"),
    [(BufferLimits(messages=2), "too much"), (BufferLimits(bytes=5), "too much")],
    ids=["messages", "bytes"],
)
async def test_a_buffer_has_limits(limits: BufferLimits, refused: str) -> None:
    async with (
        FakeServer(listens, hears("ää", "b")) as server,
        connect(server.url, buffer=limits) as socket,
    ):
        await server.stop()
        await eventually(lambda: socket.state != "open")
        waiting = [asyncio.create_task(socket.send_text(text)) for text in ("ää", "b")]
        await asyncio.sleep(0)
        with pytest.raises(NotConnected, match=refused):
            await socket.send_text("c")
        await server.listen()
        await asyncio.gather(*waiting)
        assert await all_of(socket) == []


async def test_what_waits_too_long_or_is_cancelled_is_not_sent() -> None:
    limits = BufferLimits(age=0.05)
    async with (
        FakeServer(listens, hears("c")) as server,
        connect(server.url, buffer=limits) as socket,
    ):
        await server.stop()
        await eventually(lambda: socket.state != "open")
        cancelled = asyncio.create_task(socket.send_text("a"))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(NotConnected, match="in time"):
            await socket.send_text("b")
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await server.listen()
        await socket.wait_open()
        await socket.send_text("c")
        assert await all_of(socket) == []


async def test_what_has_left_may_take_longer_than_messages_may_wait() -> None:
    async def hesitates(served: Served) -> None:
        await served.hello()
        served.connection.transport.pause_reading()
        await asyncio.sleep(0.7)
        served.connection.transport.resume_reading()
        assert await served.receive() == b"x" * 20_000_000
        await served.close()

    async with (
        FakeServer(listens, hesitates) as server,
        connect(server.url, compression=None, buffer=BufferLimits(1, 50_000_000, 0.5)) as socket,
    ):
        server.served[0].cut()
        await eventually(lambda: socket.state != "open")
        await socket.send_bytes(b"x" * 20_000_000)
        assert await all_of(socket) == []


async def test_what_waits_is_refused_when_it_is_over() -> None:
    async with (
        FakeServer(listens, (403, "")) as server,
        connect(server.url, buffer=BufferLimits()) as socket,
    ):
        await server.stop()
        await eventually(lambda: socket.state != "open")
        sending = asyncio.create_task(socket.send_text("x"))
        await server.listen()
        with pytest.raises(Disconnected):
            await sending
