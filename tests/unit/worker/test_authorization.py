"""Who may join what: asked before the adapter is, and refused in doubt."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import (
    AdapterUnavailable,
    ClientError,
    ConfigurationError,
    JoinRefused,
    RoomManager,
    Socket,
    SocketClosed,
    TooManyRooms,
)
from fastapi_rooms.core.patterns import check_pattern
from fastapi_rooms.testing import Member, WebSocketClient, eventually
from fastapi_rooms.worker.authorization import matches
from tests.unit.strategies import room_names
from tests.unit.support import FakeAdapter, all_is_over, app_of, channel_of

# Patterns.


@pytest.mark.parametrize(
    ("pattern", "room", "expected"),
    [
        ("tea", "tea", True),
        ("tea", "teapot", False),
        ("tea", "Tea", False),
        ("private-*", "private-tea", True),
        ("private-*", "private-", True),
        ("private-*", "private-*", True),
        ("private-*", "private", False),
        ("private-*", "Private-tea", False),
        ("private-*", "a private-tea", False),
        ("private-*", "private-tea\n#", True),
        ("*", "*", True),
        ("*", "anything", True),
        ("[ab]?", "a1", False),
        ("caf\u00e9", "cafe\u0301", False),
    ],
)
def test_a_star_at_the_end_stands_for_any_rest_and_everything_else_for_itself(
    pattern: str, room: str, expected: bool
) -> None:
    check_pattern(pattern, "authorize", "")
    assert matches(pattern, room) is expected


@given(room_names.filter(lambda name: "*" not in name))
def test_every_name_is_matched_by_itself_and_by_a_star(room: str) -> None:
    check_pattern(room, "authorize", "")
    assert matches(room, room)
    assert matches("*", room)
    for length in range(1, len(room)):
        assert matches(room[:length] + "*", room)


@pytest.mark.parametrize("pattern", ["", "x" * 256, "x" * 256 + "*", "\ud800", 3, None, b"tea"])
def test_a_pattern_that_no_name_matches_is_refused_at_once(pattern: Any) -> None:
    with pytest.raises(ConfigurationError, match="matches no room"):
        RoomManager().authorize(pattern)


@pytest.mark.parametrize("pattern", ["a:*:b", "*-private", "**", "a*b*"])
def test_a_star_before_the_end_would_guard_nothing_and_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Use '.*\*' instead"):
        RoomManager().authorize(pattern)


# Asking.


@pytest.fixture
def adapter() -> FakeAdapter:
    return FakeAdapter()


@pytest.fixture
async def rooms(adapter: FakeAdapter) -> AsyncIterator[RoomManager]:
    async with RoomManager(adapter, linger=0) as rooms:
        yield rooms


@pytest.fixture
async def ann(rooms: RoomManager) -> AsyncIterator[Socket]:
    async with Member(rooms, sid="ann", data={"user": "ann"}) as ann:
        yield ann.socket


async def test_a_handler_is_asked_with_the_socket_and_each_room_its_pattern_matches(
    rooms: RoomManager, ann: Socket
) -> None:
    asked: list[tuple[str, Socket, str]] = []

    @rooms.authorize("private-*")
    def plain(socket: Socket, room: str) -> bool:
        asked.append(("plain", socket, room))
        return True

    @rooms.authorize("private-tea")
    async def asynchronous(socket: Socket, room: str) -> bool:
        await asyncio.sleep(0)
        asked.append(("async", socket, room))
        return True

    await ann.join("private-tea", "open", "private-tea", "private-coffee")
    assert asked == [
        ("plain", ann, "private-tea"),
        ("async", ann, "private-tea"),
        ("plain", ann, "private-coffee"),
    ]
    assert ann.rooms == {"ann", "private-tea", "open", "private-coffee"}


@pytest.mark.parametrize("answer", [False, None, 0, "", []], ids=repr)
async def test_a_refused_join_joins_nothing_and_asks_the_adapter_for_nothing(
    rooms: RoomManager, adapter: FakeAdapter, ann: Socket, answer: Any
) -> None:
    rooms.authorize("private-*")(lambda socket, room: answer)
    before = set(adapter.subscribed)
    with pytest.raises(JoinRefused) as refused:
        await ann.join("open", "private-tea")
    assert (refused.value.room, refused.value.code) == ("private-tea", 1008)
    assert isinstance(refused.value, ClientError)
    assert ann.rooms == {"ann"}
    assert adapter.subscribed == before
    assert channel_of("open") not in adapter.subscribed
    await ann.join("open")


async def test_nobody_is_asked_about_more_rooms_than_a_socket_can_be_in() -> None:
    asked: list[str] = []
    async with RoomManager(max_rooms_per_socket=2) as rooms, Member(rooms, "tea") as ann:
        rooms.authorize()(lambda socket, room: not asked.append(room))  # type: ignore[func-returns-value]
        with pytest.raises(TooManyRooms):
            await ann.socket.join("tea", *map(str, range(1000)))
        assert asked == []
        await ann.socket.join("tea", "coffee")
        assert asked == ["coffee"]


async def test_every_handler_that_matches_has_to_allow_it(rooms: RoomManager, ann: Socket) -> None:
    rooms.authorize("private-*")(lambda socket, room: True)
    rooms.authorize()(lambda socket, room: room != "private-tea")
    await ann.join("private-coffee", "open")
    with pytest.raises(JoinRefused):
        await ann.join("private-tea")


async def test_a_room_it_is_in_already_is_not_asked_about_again(
    rooms: RoomManager, ann: Socket
) -> None:
    await ann.join("tea")
    rooms.authorize()(lambda socket, room: False)
    await ann.join("tea", "ann")
    with pytest.raises(JoinRefused):
        await ann.join("tea", "coffee")
    await ann.leave("tea")
    with pytest.raises(JoinRefused):
        await ann.join("tea")


class _Awaitable:
    def __await__(self) -> Any:
        return asyncio.sleep(0, False).__await__()


async def test_whatever_can_be_awaited_is(rooms: RoomManager, ann: Socket) -> None:
    rooms.authorize("tea")(lambda socket, room: _Awaitable())
    with pytest.raises(JoinRefused):
        await ann.join("tea")


async def test_a_handler_that_raises_lets_nobody_in_and_is_logged(
    rooms: RoomManager, ann: Socket, caplog: pytest.LogCaptureFixture
) -> None:
    @rooms.authorize("plain")
    def plain(socket: Socket, room: str) -> bool:
        raise ZeroDivisionError

    @rooms.authorize("async")
    async def asynchronous(socket: Socket, room: str) -> bool:
        raise ZeroDivisionError

    @rooms.authorize("exits")
    def exits(socket: Socket, room: str) -> bool:
        raise SystemExit(3)

    for room in ("plain", "async", "exits"):
        with pytest.raises(JoinRefused):
            await ann.join(room)
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 3
    for record, room in zip(caplog.records, ("plain", "async", "exits"), strict=True):
        assert f"{room!r} could not be found out" in record.message
        assert record.exc_info is not None
    assert ann.rooms == {"ann"}


@pytest.mark.parametrize(
    "error", [JoinRefused("tea", "banned"), WebSocketDisconnect(1001), ClientError("x", code=4000)]
)
async def test_a_handler_may_say_no_in_its_own_words(
    rooms: RoomManager, ann: Socket, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    @rooms.authorize("tea")
    def handler(socket: Socket, room: str) -> bool:
        raise error

    with pytest.raises(type(error)) as raised:
        await ann.join("tea")
    assert raised.value is error
    assert not caplog.records


async def test_a_handler_that_is_cancelled_has_joined_nothing(
    rooms: RoomManager, ann: Socket
) -> None:
    asked = asyncio.Event()

    @rooms.authorize("tea")
    async def handler(socket: Socket, room: str) -> bool:
        asked.set()
        return await asyncio.Event().wait()

    joining = asyncio.create_task(ann.join("tea"))
    await asked.wait()
    joining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joining
    assert ann.rooms == {"ann"}


async def test_a_socket_that_leaves_while_it_is_asked_about_joins_nothing(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    answer = asyncio.Event()

    @rooms.authorize("tea")
    async def handler(socket: Socket, room: str) -> bool:
        return await answer.wait()

    async with Member(rooms) as ann:
        socket = ann.socket
        joining = asyncio.create_task(socket.join("tea"))
    await eventually(lambda: not rooms.sids)
    answer.set()
    with pytest.raises(SocketClosed):
        await joining
    assert channel_of("tea") not in adapter.subscribed
    rooms.authorize("coffee")(lambda socket, room: pytest.fail("asked about one that has gone"))
    with pytest.raises(SocketClosed):
        await socket.join("coffee")


async def test_a_namespace_has_handlers_of_its_own(rooms: RoomManager) -> None:
    chat = rooms.of("/chat")
    chat.authorize()(lambda socket, room: False)
    async with Member(rooms, "tea"), Member(chat) as ann:
        with pytest.raises(JoinRefused):
            await ann.socket.join("tea")


async def test_a_sockets_own_room_and_listeners_need_no_authorization(rooms: RoomManager) -> None:
    rooms.authorize()(lambda socket, room: False)
    async with Member(rooms, sid="ann") as ann, rooms.listen("tea"):
        assert ann.socket.rooms == {"ann"}


async def test_an_endpoint_that_does_not_catch_it_ends_quietly_with_1008(
    rooms: RoomManager, caplog: pytest.LogCaptureFixture
) -> None:
    rooms.authorize("private-*")(lambda socket, room: False)

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("private-tea")

    async with WebSocketClient(app_of(endpoint)) as client:
        assert await client.wait_closed() == 1008
        assert client.close_reason == "not allowed to join 'private-tea'"
        await client.wait_ended()
    await all_is_over(rooms)
    assert not caplog.records


async def test_an_allowed_join_can_still_fail_for_the_adapter(
    rooms: RoomManager, adapter: FakeAdapter, ann: Socket
) -> None:
    rooms.authorize()(lambda socket, room: True)
    adapter.subscribe_error = AdapterUnavailable("no")
    with pytest.raises(AdapterUnavailable):
        await ann.join("tea")
    assert ann.rooms == {"ann"}
