"""Listeners among the members of a namespace's rooms."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms import (
    AdapterUnavailable,
    InvalidRoomName,
    Listener,
    ListenerOverflow,
    NotStarted,
    OutboxPolicy,
    RoomManager,
    UsageError,
)
from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import Member, eventually
from fastapi_rooms.wire import codec
from tests.unit.support import FakeAdapter, broadcast, channel_of, other_tasks

LOBBY = channel_of("lobby")


async def test_a_listener_hears_its_rooms_from_here_and_elsewhere(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    async with rooms.listen("lobby", "bar") as messages:
        await rooms.to("lobby").send_text("here")
        await rooms.to("bar").volatile.send_bytes(b"\xff")
        assert adapter.receiver is not None
        elsewhere = broadcast(1, Target(("x", "bar", "lobby")), "elsewhere")
        adapter.receiver.received(b"rooms#/#", codec.encode(elsewhere))
        heard = [await anext(messages) for _ in range(3)]
    assert [(m.room, m.bytes, m.binary) for m in heard] == [
        ("lobby", b"here", False),
        ("bar", b"\xff", True),
        ("bar", b"elsewhere", False),
    ]


async def test_a_listener_hears_a_message_to_several_of_its_rooms_once(rooms: RoomManager) -> None:
    async with rooms.listen("lobby", "bar") as messages:
        await rooms.to("lobby", "bar").send_text("once")
        await rooms.to("bar").send_text("end")
        assert [(await anext(messages)).text for _ in range(2)] == ["once", "end"]


async def test_a_listener_hears_what_is_sent_to_everyone_if_it_asks_to(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    async with (
        rooms.listen(everyone=True) as of_all,
        rooms.listen("lobby", everyone=True) as of_both,
    ):
        await rooms.to("lobby").send_text("to the room")
        await rooms.send_text("to all")
        assert adapter.receiver is not None
        elsewhere = broadcast(1, Target(), "elsewhere")
        adapter.receiver.received(b"rooms#/#", codec.encode(elsewhere))
        heard = [await anext(of_both) for _ in range(3)]
        assert [(m.room, m.text) for m in heard] == [
            ("lobby", "to the room"),
            ("", "to all"),
            ("", "elsewhere"),
        ]
        assert [(await anext(of_all)).text for _ in range(2)] == ["to all", "elsewhere"]
    await rooms.send_text("nobody listens any more")


async def test_a_listener_hears_neither_everyone_nor_what_leaves_its_room_out(
    rooms: RoomManager,
) -> None:
    async with rooms.listen("lobby", "muted") as messages:
        await rooms.send_text("everyone")
        await rooms.to("bar").send_text("another room")
        await rooms.to("lobby").except_("muted").send_text("left out")
        await rooms.to("lobby").send_text("end")
        assert (await anext(messages)).text == "end"


async def test_a_listener_whose_block_is_over_hears_no_more_and_ends(rooms: RoomManager) -> None:
    async with rooms.listen("lobby") as messages:
        await rooms.to("lobby").send_text("heard")
    await rooms.to("lobby").send_text("unheard")
    assert [message.text async for message in messages] == ["heard"]


async def test_a_listener_is_no_member(rooms: RoomManager) -> None:
    told: list[object] = []
    for event in ("create-room", "join-room", "connect", "leave-room", "delete-room"):
        rooms.on(event)(lambda *args: told.append(args))
    async with rooms.listen("lobby"):
        assert rooms.rooms == {}
        assert rooms.sids == {}
    assert told == []


async def test_a_listener_holds_its_rooms_for_as_long_as_it_is_there(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    async with rooms.listen("lobby"):
        assert {LOBBY, b"rooms#/#"} <= adapter.subscribed
        async with Member(rooms, "lobby"):
            pass
        async with rooms.listen("lobby", "other"):
            pass
        await eventually(lambda: channel_of("other") not in adapter.subscribed)
        assert LOBBY in adapter.subscribed
    await eventually(lambda: len(adapter.subscribed) == 1)


async def test_a_listener_that_is_refused_holds_nothing(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    adapter.subscribe_error = AdapterUnavailable("no")
    with pytest.raises(AdapterUnavailable):
        async with rooms.listen("lobby"):
            pytest.fail("it was not confirmed")
    await eventually(lambda: len(adapter.subscribed) == 1)


async def test_listening_to_nothing_or_to_a_bad_name_is_refused(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    before = set(adapter.subscribed)
    with pytest.raises(UsageError, match="at least one room"):
        async with rooms.listen():
            pytest.fail("there is nothing to hear")
    with pytest.raises(InvalidRoomName):
        async with rooms.listen("fine", ""):
            pytest.fail("no room has that name")
    assert adapter.subscribed == before


async def test_a_listener_that_does_not_keep_up_ends_by_the_managers_policy(
    adapter: FakeAdapter,
) -> None:
    async with (
        RoomManager(adapter, outbox=OutboxPolicy(max_bytes=3 + ENTRY_BYTES)) as rooms,
        rooms.listen("lobby") as messages,
        rooms.listen("lobby", outbox=OutboxPolicy(3 + ENTRY_BYTES, "drop_oldest")) as dropping,
    ):
        for text in ("aa", "bb", "cc"):
            await rooms.to("lobby").send_text(text)
        assert (await anext(messages)).text == "aa"
        with pytest.raises(ListenerOverflow):
            await anext(messages)
        assert (await anext(dropping)).text == "cc"
        assert dropping.dropped == 2


async def test_a_listener_that_has_overflowed_holds_its_rooms_no_longer(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    async with (
        rooms.listen("lobby", "bar", outbox=OutboxPolicy(max_bytes=3)) as messages,
        rooms.listen("bar"),
    ):
        assert {LOBBY, channel_of("bar")} <= adapter.subscribed
        for text in ("aa", "bb"):
            await rooms.to("lobby").send_text(text)
        await eventually(lambda: LOBBY not in adapter.subscribed)
        assert channel_of("bar") in adapter.subscribed  # by the other
        assert (await anext(messages)).text == "aa"
        with pytest.raises(ListenerOverflow):
            await anext(messages)
    await eventually(lambda: len(adapter.subscribed) == 1)


async def test_one_of_several_listeners_that_overflows_takes_nothing_from_the_others(
    rooms: RoomManager,
) -> None:
    async with (
        rooms.listen("lobby", everyone=True, outbox=OutboxPolicy(max_bytes=3)) as behind,
        rooms.listen("lobby", everyone=True) as messages,
    ):
        for text in ("aa", "bb", "cc"):
            await rooms.to("lobby").send_text(text)
            await rooms.send_text(text)
        heard = [(await anext(messages)).text for _ in range(6)]
        assert heard == ["aa", "aa", "bb", "bb", "cc", "cc"]
        assert (await anext(behind)).text == "aa"
        with pytest.raises(ListenerOverflow):
            await anext(behind)


async def test_an_overflow_ends_the_listeners_own_block_quietly_with_a_line_in_the_log(
    rooms: RoomManager, caplog: pytest.LogCaptureFixture
) -> None:
    async with rooms.listen("lobby", outbox=OutboxPolicy(max_bytes=3)) as messages:
        for text in ("aa", "bb"):
            await rooms.to("lobby").send_text(text)
        assert (await anext(messages)).text == "aa"
        await anext(messages)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.exc_info is None
    assert "'lobby'" in record.getMessage()
    assert "drop_oldest" in record.getMessage()


async def test_an_overflow_in_a_task_group_ends_the_block_quietly_too(
    rooms: RoomManager, caplog: pytest.LogCaptureFixture
) -> None:
    async with rooms.listen("lobby", outbox=OutboxPolicy(max_bytes=3)) as messages:
        for text in ("aa", "bb"):
            await rooms.to("lobby").send_text(text)
        assert (await anext(messages)).text == "aa"
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(heard_by(messages))
    (record,) = caplog.records
    assert record.getMessage().startswith("A listener has ended. More than 3 bytes")


async def test_a_task_group_that_fails_of_something_else_beside_an_overflow_is_an_error(
    rooms: RoomManager,
) -> None:
    kinds: set[type[Exception]] = set()
    try:
        async with rooms.listen("lobby", outbox=OutboxPolicy(max_bytes=3)) as messages:
            for text in ("aa", "bb"):
                await rooms.to("lobby").send_text(text)
            assert (await anext(messages)).text == "aa"
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(heard_by(messages))
                tasks.create_task(failing())
    except* (ListenerOverflow, ValueError) as failed:
        kinds = {type(cause) for cause in failed.exceptions}
    assert kinds == {ListenerOverflow, ValueError}


async def heard_by(messages: Listener) -> None:
    async for _ in messages:
        pass


async def failing() -> None:
    raise ValueError("mine")


async def test_the_overflow_of_another_listener_is_an_error_of_the_block(
    rooms: RoomManager,
) -> None:
    async with rooms.listen("lobby", outbox=OutboxPolicy(max_bytes=3)) as behind:
        for text in ("aa", "bb"):
            await rooms.to("lobby").send_text(text)
        assert (await anext(behind)).text == "aa"
        with pytest.raises(ListenerOverflow) as overflow:
            async with rooms.listen("lobby"):
                await anext(behind)
        assert overflow.value.listener is behind


async def test_a_block_that_raises_ends_the_listening(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    with pytest.raises(ValueError, match="mine"):
        async with rooms.listen("lobby"):
            raise ValueError("mine")
    await eventually(lambda: len(adapter.subscribed) == 1)


async def test_closing_the_manager_ends_a_listeners_iteration(adapter: FakeAdapter) -> None:
    heard: list[str] = []
    listening = asyncio.Event()

    async def background(rooms: RoomManager) -> None:
        async with rooms.listen("lobby") as messages:
            listening.set()
            heard.extend([message.text async for message in messages])

    async with RoomManager(adapter) as rooms:
        task = asyncio.ensure_future(background(rooms))
        await listening.wait()
        await rooms.to("lobby").send_text("last")
    await task
    assert heard == ["last"]
    assert not other_tasks()


async def test_a_listener_of_an_earlier_start_takes_nothing_from_the_present_one(
    adapter: FakeAdapter,
) -> None:
    rooms = RoomManager(adapter, linger=0)
    await rooms.__aenter__()
    former = rooms.listen("lobby")
    messages: Listener = await former.__aenter__()
    await rooms.__aexit__()
    async with rooms, rooms.listen("lobby") as present:
        assert [message async for message in messages] == []
        await former.__aexit__(None, None, None)
        async with rooms.listen("other"):
            pass
        await eventually(lambda: channel_of("other") not in adapter.subscribed)
        assert {LOBBY, b"rooms#/#"} <= adapter.subscribed
        await rooms.to("lobby").send_text("still heard")
        assert (await anext(present)).text == "still heard"


async def test_listening_to_a_manager_that_is_not_started_says_so() -> None:
    with pytest.raises(NotStarted):
        async with RoomManager().listen("lobby"):
            pytest.fail("it is not running")
