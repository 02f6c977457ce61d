"""Names and texts that cannot be used may be a client's: they close it, without a traceback."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import InvalidRoomName, MessageTooLarge, RoomManager, Socket, UsageError
from fastapi_rooms.testing import Rejected, WebSocketClient
from tests.unit.support import all_is_over, app_of

Act = Callable[[RoomManager, Socket, Any], Awaitable[object]]

BAD = ["", "x" * 256, "\ud800", "\x1b[2J\n" + "é" * 130]


async def send_as(rooms: RoomManager, act: Act, text: str) -> WebSocketClient:
    """A client that sends JSON, with whose value an endpoint does something in its block."""

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            async for value in socket.iter_json():
                await act(rooms, socket, value)

    async with WebSocketClient(app_of(endpoint)) as client:
        await client.send_text(text)
        await client.wait_closed()
        await client.wait_ended()
    await all_is_over(rooms)
    return client


async def joins(rooms: RoomManager, socket: Socket, name: Any) -> None:
    await socket.join(name and f"chat-{name}")


async def leaves(rooms: RoomManager, socket: Socket, name: Any) -> None:
    await socket.leave(name and f"chat-{name}")


async def sends_to(rooms: RoomManager, socket: Socket, name: Any) -> None:
    await rooms.to(name and f"chat-{name}").send_text("hello")


async def sends_in(rooms: RoomManager, socket: Socket, name: Any) -> None:
    await rooms.of(name and f"/chat#{name}").send_text("hello")


async def moves(rooms: RoomManager, socket: Socket, name: Any) -> None:
    await rooms.to("lobby").sockets_join(name and f"chat-{name}")


@pytest.mark.parametrize("act", [joins, leaves, sends_to, sends_in, moves])
@pytest.mark.parametrize("name", BAD, ids=["empty", "long", "surrogate", "control"])
async def test_a_name_that_a_client_chose_closes_it_with_one_line_of_the_log(
    rooms: RoomManager, caplog: pytest.LogCaptureFixture, act: Act, name: str
) -> None:
    caplog.set_level(logging.INFO, "fastapi_rooms")
    client = await send_as(rooms, act, json.dumps(name))
    assert client.close_code == 4400
    assert "must be a string of 1 to 255 UTF-8 bytes" in client.close_reason
    (line,) = caplog.messages
    assert "was closed (4400): A" in line
    assert line.isprintable()
    assert caplog.records[0].levelname == "WARNING"
    assert caplog.records[0].exc_info is None


async def sends_text(rooms: RoomManager, socket: Socket, text: Any) -> None:
    await socket.send_text(text)


async def broadcasts_text(rooms: RoomManager, socket: Socket, text: Any) -> None:
    await rooms.send_text(text)


async def closes_for(rooms: RoomManager, socket: Socket, text: Any) -> None:
    await rooms.disconnect_sockets(4000, text)


@pytest.mark.parametrize("act", [sends_text, broadcasts_text, closes_for])
async def test_half_a_surrogate_pair_from_a_clients_json_closes_it(
    rooms: RoomManager, caplog: pytest.LogCaptureFixture, act: Act
) -> None:
    client = await send_as(rooms, act, r'"caf\ud800"')
    assert client.close_code == 4400
    assert ("surrogate" in client.close_reason) is (act is not closes_for)
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is None


async def test_a_message_that_is_too_large_closes_the_client_that_sent_it(
    rooms: RoomManager, caplog: pytest.LogCaptureFixture
) -> None:
    limited = rooms.clone(max_message_bytes=100)
    async with limited:
        client = await send_as(limited, broadcasts_text, f'"{"x" * 101}"')
    assert client.close_code == 1009
    assert "101 bytes; the limit is 100" in client.close_reason
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is None


async def test_whoever_looks_for_a_bug_finds_where_it_was_raised(
    rooms: RoomManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "fastapi_rooms")
    await send_as(rooms, joins, '""')
    assert "await socket.join(name" in caplog.text


@pytest.mark.parametrize("name", ["5", "null", "[1]"])
async def test_a_name_of_a_wrong_type_is_a_bug_of_the_endpoint(
    rooms: RoomManager, name: str
) -> None:
    async def joins_it(rooms: RoomManager, socket: Socket, name: Any) -> None:
        await socket.join(name)

    with pytest.raises(InvalidRoomName, match="is of type"):
        await send_as(rooms, joins_it, name)


async def test_another_usage_error_is_an_exception_like_any_other(rooms: RoomManager) -> None:
    async def recent(rooms: RoomManager, socket: Socket, name: Any) -> None:
        await socket.join(name, recent=5)

    with pytest.raises(UsageError, match="for one room that remembers"):
        await send_as(rooms, recent, '"tea"')


async def test_outside_of_a_block_they_are_errors(rooms: RoomManager) -> None:
    with pytest.raises(InvalidRoomName) as named:
        rooms.to("x" * 256)
    assert named.value.text == "x" * 256
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed") as sent:
        await rooms.send_text("\ud800")
    assert isinstance(sent.value, UsageError)
    assert sent.value.text == "\ud800"
    async with rooms.clone(max_message_bytes=1) as limited:
        with pytest.raises(MessageTooLarge):
            await limited.send_text("xx")


# Sids.


def connecting(rooms: RoomManager, sid: Any, *, accepts: bool = False) -> WebSocketClient:
    async def endpoint(websocket: WebSocket) -> None:
        if accepts:
            await websocket.accept()
        async with rooms.connect(websocket, sid=sid):
            raise AssertionError("it came in")

    return WebSocketClient(app_of(endpoint))


@pytest.mark.parametrize("sid", ["", "x" * 256, "\ud800"])
async def test_a_sid_that_a_client_chose_is_refused_by_a_status_before_it_is_accepted(
    rooms: RoomManager, caplog: pytest.LogCaptureFixture, sid: str
) -> None:
    caplog.set_level(logging.INFO, "fastapi_rooms")
    with pytest.raises(Rejected) as refused:
        async with connecting(rooms, sid):
            pass
    assert refused.value.status == 400
    assert "must be a string of 1 to 255 UTF-8 bytes" in refused.value.body.decode()
    assert [record.exc_info for record in caplog.records] == [None]
    await all_is_over(rooms)


@pytest.mark.parametrize("accepts", [True, False])
async def test_a_sid_is_refused_by_a_code_where_there_can_be_no_status(
    rooms: RoomManager, accepts: bool
) -> None:
    client = connecting(rooms, "x" * 256, accepts=accepts)
    client._scope["extensions"] = {}
    async with client:
        assert await client.wait_closed() == 4400
        assert "UTF-8 bytes" in client.close_reason
        await client.wait_ended()
    await all_is_over(rooms)


async def test_a_sid_of_a_wrong_type_is_a_bug_of_the_endpoint(rooms: RoomManager) -> None:
    with pytest.raises(InvalidRoomName, match="is of type int"):
        async with connecting(rooms, 5) as client:
            await client.wait_ended()
