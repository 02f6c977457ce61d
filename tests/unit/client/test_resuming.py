"""A client of a server that speaks the framing: it comes back, and goes on where it was."""

from __future__ import annotations

import asyncio
import logging

import pytest

from fastapi_rooms import Disconnected
from fastapi_rooms.client import ClientMessage, ClientSocket, StateChange, connect
from fastapi_rooms.client import socket as socket_module
from fastapi_rooms.testing import eventually
from tests.unit.client.server import TOKEN, FakeServer, Served


async def all_of(socket: ClientSocket) -> list[str | bytes]:
    return [message.data async for message in socket]


async def test_messages_come_as_they_were_sent_and_it_ends_with_1000() -> None:
    async def script(served: Served) -> None:
        assert await served.hello() == {"token": TOKEN, "positions": {}}
        await served.joined("tea", None)
        await served.send("plain")
        await served.send("\0.\0escaped")
        await served.send("\0b")
        await served.place("tea", "1", '{"n": 1}')
        await served.place("tea", "2", b"\xff")
        await served.close(1000, "the end")

    async with FakeServer(script) as server, connect(server.url) as socket:
        messages = [message async for message in socket]
    assert server.paths == ["/chat?a=1&fastapi_rooms=1"]
    assert messages == [
        ClientMessage("plain"),
        ClientMessage("\0escaped"),
        ClientMessage('{"n": 1}', "tea", "1"),
        ClientMessage(b"\xff", "tea", "2"),
    ]
    assert [message.binary for message in messages] == [False, False, False, True]
    assert messages[2].json() == {"n": 1}
    assert (messages[2].text, messages[2].bytes) == ('{"n": 1}', b'{"n": 1}')
    assert messages[3].bytes == b"\xff"
    with pytest.raises(ValueError, match="utf-8"):
        _ = messages[3].text
    assert socket.state == "closed"


@pytest.mark.parametrize("how", ["cut", "close"])
async def test_a_lost_connection_is_made_again_and_goes_on_where_it_was(how: str) -> None:
    async def first(served: Served) -> None:
        await served.hello()
        await served.joined("tea", None)
        await served.moved("tea", "0")
        await served.place("tea", "1", "one")
        await served.send("received")
        if how == "close":
            await served.close(1011)
        else:
            await served.receive()
            served.cut()

    async def second(served: Served) -> None:
        resumed = await served.hello(token="f" * 32)
        assert resumed == {"token": TOKEN, "positions": {"tea": "1"}}
        await served.joined("tea", True)
        await served.place("tea", "1", "one")
        await served.place("tea", "2", "two")
        await served.close()

    async with FakeServer(first, second) as server, connect(server.url) as socket:
        heard = []
        async for message in socket:
            heard.append(message.data)
            if message.data == "received" and how == "cut":
                await socket.send_text("cut it")
    assert heard == ["one", "received", "two"]


async def test_a_position_counts_when_the_next_message_is_asked_for() -> None:
    async def script(served: Served) -> None:
        await served.hello()
        await served.place("tea", "1", "one")
        await served.place("tea", "2", "two")
        await served.receive()

    async with FakeServer(script) as server:
        async with connect(server.url) as socket:
            assert (await anext(socket)).data == "one"
            assert socket.positions == {}
            assert (await anext(socket)).data == "two"
            assert socket.positions == {"tea": "1"}
        assert socket.positions == {"tea": "2"}, "the block was left without an error"
        socket = connect(server.url)
        with pytest.raises(ZeroDivisionError):
            await _fail_at_the_first_message(socket)
        assert socket.positions == {}, "it was not handled"


async def _fail_at_the_first_message(socket: ClientSocket) -> None:
    async with socket:
        async for message in socket:
            assert message.data == "one"
            raise ZeroDivisionError


async def test_another_process_goes_on_by_the_positions_of_the_one_before() -> None:
    async def script(served: Served) -> None:
        assert (await served.hello())["positions"] == {"tea": "7", "bar": "x"}
        await served.joined("bar", False)
        await served.joined("tea", True)
        await served.close()

    positions = {"tea": "7", "bar": "x"}
    async with FakeServer(script) as server, connect(server.url, positions=positions) as socket:
        positions.clear()
        assert await all_of(socket) == []
        assert socket.positions == {"tea": "7"}


async def test_what_became_of_a_room_is_told_in_its_place_among_the_messages() -> None:
    told: list[object] = []

    async def script(served: Served) -> None:
        await served.hello()
        await served.place("tea", "1", "before")
        await served.joined("tea", False)
        await served.place("tea", "2", "after")
        await served.joined("bar", None)
        await served.joined("old", True)
        await served.close()

    async def tell(room: str, recovered: bool) -> None:
        await asyncio.sleep(0)
        told.append((room, recovered, socket.positions))

    async with (
        FakeServer(script) as server,
        connect(server.url, positions={"old": "1"}, on_recovered=tell) as socket,
    ):
        async for message in socket:
            told += [message.data]
    assert told == [
        "before",
        ("tea", False, {"old": "1"}),
        "after",
        ("old", True, {"old": "1", "tea": "2"}),
    ]


async def test_frames_that_cannot_be_read_are_ignored_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def script(served: Served) -> None:
        await served.hello()
        for frame in ("\0x", "\0m{}\nx", b"\0j", "\0j{"):
            await served.send(frame)
        await served.send("after")
        await served.send('\0l{"room":"tea"}')
        await served.close()

    async with (
        FakeServer(script) as server,
        connect(server.url, positions={"tea": "1"}) as socket,
    ):
        assert await all_of(socket) == ["after"]
    assert socket.positions == {}
    assert len(caplog.records) == 4


async def test_states_are_told_and_an_error_of_who_is_told_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def first(served: Served) -> None:
        await served.hello(window=60)
        await served.close(1012, "restart")

    async def second(served: Served) -> None:
        await served.hello()
        await served.close(4404, "no such room")

    states: list[StateChange] = []

    def tell(change: StateChange) -> None:
        states.append(change)
        raise RuntimeError("a mistake")

    async with FakeServer(first, second) as server:
        with pytest.raises(Disconnected, match="4404: no such room") as raised:
            async with connect(server.url, on_state=tell) as socket:
                await all_of(socket)
    assert (raised.value.code, raised.value.reason) == (4404, "no such room")
    assert raised.value.status is None
    assert states == [
        StateChange("connecting"),
        StateChange("open"),
        StateChange("waiting", 1012, "restart", 0.6),
        StateChange("connecting"),
        StateChange("open"),
        StateChange("closed", 4404, "no such room"),
    ]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == len(states)


async def test_silence_is_the_end_of_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_module, "SILENCE", 0.0)
    states: list[StateChange] = []

    async def mute(served: Served) -> None:
        await served.hello(heartbeat=0.2)
        await served.closed()

    async def second(served: Served) -> None:
        await served.hello()
        await served.close()

    async with (
        FakeServer(mute, second) as server,
        connect(server.url, on_state=states.append) as socket,
    ):
        assert await all_of(socket) == []
    assert states[2] == StateChange("waiting", 1006, "silence", 0.0)


# Plain servers.


async def test_a_server_that_begins_with_a_message_is_a_plain_one() -> None:
    async def script(served: Served) -> None:
        await served.send("\0not hello")
        await served.send("\0m{}\nplain")
        assert await served.receive() == "\0unescaped"
        await served.close()

    async with FakeServer(script) as server, connect(server.url) as socket:
        await socket.send_text("\0unescaped")
        assert await all_of(socket) == ["\0not hello", "\0m{}\nplain"]


async def test_a_server_that_says_nothing_is_a_plain_one_and_not_waited_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def silent(served: Served) -> None:
        heard.append(await served.receive())
        await served.close(1011)

    async def answers(served: Served) -> None:
        heard.append(await served.receive())
        await served.send("hi")
        await served.close(1011)

    async def framed(served: Served) -> None:
        await served.hello()
        heard.append(await served.receive())
        await served.close()

    heard: list[str | bytes] = []
    async with (
        FakeServer(silent, answers, silent, framed) as server,
        connect(server.url) as socket,
    ):
        monkeypatch.setattr(socket_module, "HELLO_TIMEOUT", 60.0)
        for number in range(3):
            await eventually(lambda count=number + 1: len(server.served) == count)  # type: ignore[misc]
            await socket.wait_open()
            await socket.send_text("\0")
        assert (await anext(socket)).data == "hi"
        await eventually(lambda: socket._writable() is not None and socket._is_framed)
        await socket.send_text("\0")
        assert await all_of(socket) == []
    assert heard == ["\0", "\0", "\0", "\0.\0"]


async def test_what_is_sent_to_a_server_that_has_become_a_plain_one_is_sent_as_it_is() -> None:
    async def framed(served: Served) -> None:
        await served.hello()
        await served.close(1012)

    async def plain(served: Served) -> None:
        await served.send("hi")
        assert await served.receive() == "\0m"
        await served.send("\0l")
        await served.close()

    async with FakeServer(framed, plain) as server, connect(server.url) as socket:
        assert (await anext(socket)).data == "hi"
        await socket.send_text("\0m")
        assert await all_of(socket) == ["\0l"]
