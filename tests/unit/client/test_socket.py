"""What a client does with its connection: it sends, reads as fast as its user, and closes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fastapi_rooms import Disconnected, NotConnected, UsageError
from fastapi_rooms.client import BufferLimits, ClientSocket, StateChange, connect
from fastapi_rooms.client import connection as connection_module
from fastapi_rooms.client import socket as socket_module
from fastapi_rooms.testing import eventually
from tests.unit.client.server import FakeServer, Served

FILLER = "x" * 20_000


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


# Sending.


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


# Reading.


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


# Closing.


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


async def codes_of(server: FakeServer) -> list[int | None]:
    for served in server.served:
        await served.connection.wait_closed()
    return [served.connection.protocol.close_code for served in server.served]


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
