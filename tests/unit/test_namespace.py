"""A namespace: its members, its listeners, its events, and the path of a broadcast."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import (
    AdapterUnavailable,
    Gap,
    InvalidRoomName,
    Listener,
    ListenerOverflow,
    MessageTooLarge,
    NotStarted,
    Outage,
    OutboxPolicy,
    RequestRefused,
    RoomManager,
    SocketClosed,
    TooManyRooms,
    UsageError,
)
from fastapi_rooms.core.names import new_sid
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import Member, WebSocketClient, eventually
from fastapi_rooms.wire import codec
from fastapi_rooms.worker.fanout import IMMEDIATE_MAX
from tests.unit.support import (
    OTHER_NODE,
    FakeAdapter,
    all_is_over,
    app_of,
    broadcast,
    channel_of,
    decoded,
    other_tasks,
)

LOBBY = channel_of("lobby")


@pytest.fixture
def adapter() -> FakeAdapter:
    return FakeAdapter()


@pytest.fixture
async def rooms(adapter: FakeAdapter) -> AsyncIterator[RoomManager]:
    """A manager that runs, on an adapter in the test's hands, without a linger."""
    async with RoomManager(adapter, linger=0, max_message_bytes=1000) as rooms:
        yield rooms


@pytest.fixture
async def people(rooms: RoomManager) -> AsyncIterator[dict[str, Member]]:
    """Ann is in lobby and bar, Bob in lobby, Cid in none."""
    async with (
        Member(rooms, "lobby", "bar", sid="ann") as ann,
        Member(rooms, "lobby", sid="bob") as bob,
        Member(rooms, sid="cid") as cid,
    ):
        yield {"ann": ann, "bob": bob, "cid": cid}


async def _who_heard(people: dict[str, Member], text: str) -> set[str]:
    """Who had `text`, and had it once; everyone is sent a last word to know."""
    heard = set()
    for name, member in people.items():
        await member.socket.send_text("end")
        got = await member.receive_until("end")
        assert got in ([], [text])
        if got:
            heard.add(name)
    return heard


# The maps.


async def test_the_views_show_rooms_and_sids_of_this_worker(
    rooms: RoomManager, people: dict[str, Member]
) -> None:
    assert rooms.rooms == {
        "ann": {"ann"},
        "bob": {"bob"},
        "cid": {"cid"},
        "lobby": {"ann", "bob"},
        "bar": {"ann"},
    }
    assert rooms.sids == {
        "ann": {"ann", "lobby", "bar"},
        "bob": {"bob", "lobby"},
        "cid": {"cid"},
    }


async def test_the_views_are_live_and_an_empty_room_is_gone_at_once(
    rooms: RoomManager, people: dict[str, Member]
) -> None:
    views = rooms.rooms, rooms.sids
    await people["ann"].socket.leave("bar", "lobby")
    assert "bar" not in views[0]
    assert views[0]["lobby"] == {"bob"}
    assert views[1]["ann"] == {"ann"}


async def test_the_views_cannot_be_written_to(rooms: RoomManager) -> None:
    view: Any = rooms.rooms
    with pytest.raises(TypeError):
        view["lobby"] = {"eve"}


# Joining and leaving.


async def test_join_returns_when_the_adapter_has_confirmed(
    rooms: RoomManager, adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    cid = people["cid"].socket
    adapter.hold_up()
    join = asyncio.ensure_future(cid.join("new"))
    await eventually(lambda: adapter.waiting)
    assert "new" not in rooms.rooms
    assert not join.done()
    adapter.let_go()
    await join
    assert rooms.rooms["new"] == {"cid"}


async def test_joining_several_rooms_is_one_wish_to_the_adapter(
    adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    adapter.hold_up()
    join = asyncio.ensure_future(people["cid"].socket.join("a", "b", "c"))
    await eventually(lambda: adapter.waiting)
    assert adapter.waiting == 1
    assert {channel_of(room) for room in "abc"} <= adapter.subscribed
    adapter.let_go()
    await join


async def test_joining_again_asks_and_changes_nothing(
    rooms: RoomManager, adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    adapter.hold_up()  # so that asking would wait
    await people["ann"].socket.join("lobby", "bar", "ann")
    await people["ann"].socket.join()
    assert rooms.sids["ann"] == {"ann", "lobby", "bar"}


@pytest.mark.parametrize("reason", ["refused", "timed out", "cancelled"])
async def test_a_join_that_fails_leaves_the_socket_in_none_of_the_rooms(
    adapter: FakeAdapter, reason: str
) -> None:
    timeout = 0.01 if reason == "timed out" else 60
    rooms = RoomManager(adapter, linger=0, join_timeout=timeout)
    async with rooms, Member(rooms, "lobby", sid="ann") as ann:
        adapter.hold_up()
        join = asyncio.ensure_future(ann.socket.join("a", "b", "lobby"))
        await eventually(lambda: adapter.waiting)
        if reason == "refused":
            adapter.subscribe_error = AdapterUnavailable("no")
            adapter.let_go()
        elif reason == "cancelled":
            join.cancel()
        with pytest.raises(asyncio.CancelledError if reason == "cancelled" else AdapterUnavailable):
            await join
        assert rooms.sids == {"ann": {"ann", "lobby"}}
        await eventually(lambda: not {channel_of("a"), channel_of("b")} & adapter.subscribed)
        assert LOBBY in adapter.subscribed
        adapter.subscribe_error = None
        adapter.let_go()


async def test_two_tasks_that_join_a_socket_to_one_room_count_as_one_member(
    rooms: RoomManager, adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    told: list[tuple[str, str]] = []
    rooms.on("join-room")(lambda room, sid: told.append((room, sid)))
    cid = people["cid"].socket
    adapter.hold_up()
    joins = [asyncio.ensure_future(cid.join("new", f"own {n}")) for n in range(2)]
    await eventually(lambda: adapter.waiting == 2)
    adapter.let_go()
    await asyncio.gather(*joins)
    assert sorted(told) == [("new", "cid"), ("own 0", "cid"), ("own 1", "cid")]
    await cid.leave("new")
    await eventually(lambda: channel_of("new") not in adapter.subscribed)


async def test_a_join_that_the_end_of_the_block_overtakes_joins_nothing(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    async with Member(rooms, sid="ann") as ann:
        adapter.hold_up()
        join = asyncio.ensure_future(ann.socket.join("lobby"))
        await eventually(lambda: adapter.waiting)
    adapter.let_go()
    with pytest.raises(SocketClosed, match="ann"):
        await join
    assert rooms.rooms == {}
    await eventually(lambda: len(adapter.subscribed) == 1)


async def test_a_join_that_the_close_of_the_manager_overtakes_joins_nothing(
    adapter: FakeAdapter,
) -> None:
    rooms = RoomManager(adapter)
    async with AsyncExitStack() as running:
        await running.enter_async_context(rooms)
        async with Member(rooms, sid="ann") as ann:
            adapter.hold_up()
            join = asyncio.ensure_future(ann.socket.join("lobby"))
            await eventually(lambda: adapter.waiting)
            await running.aclose()
            adapter.let_go()
            with pytest.raises(NotStarted):
                await join
    assert rooms.rooms == rooms.sids == {}


async def test_a_socket_can_be_in_so_many_rooms_besides_its_own(adapter: FakeAdapter) -> None:
    rooms = RoomManager(adapter, linger=0, max_rooms_per_socket=3)
    async with rooms, Member(rooms, "a", "b", sid="ann") as ann, Member(rooms, sid="bob") as bob:
        before = set(adapter.subscribed)
        with pytest.raises(TooManyRooms) as raised:
            await ann.socket.join("a", "c", "d", "d")
        assert (raised.value.rooms, raised.value.limit, raised.value.code) == (4, 3, 1008)
        assert ann.socket.rooms == {"ann", "a", "b"}
        assert adapter.subscribed == before
        await ann.socket.join("a", "b", "c", "c", "ann")
        await ann.socket.join("a")
        with pytest.raises(TooManyRooms):
            await ann.socket.join("d")
        await ann.socket.leave("a")
        await ann.socket.join("d")
        await bob.socket.join("a", "b", "c")


async def test_a_socket_that_is_in_enough_rooms_does_not_keep_others_out(
    adapter: FakeAdapter,
) -> None:
    rooms = RoomManager(adapter, linger=0, max_rooms_per_socket=1)
    async with rooms, Member(rooms, "a", sid="ann") as ann, Member(rooms, sid="bob") as bob:
        # No `TooManyRooms`: that would close the client whose endpoint asked for it.
        with pytest.raises(RequestRefused, match="the limit is 1") as raised:
            await rooms.local.sockets_join("b")
        assert set(raised.value.refusals) == rooms.nodes()
        assert (ann.socket.rooms, bob.socket.rooms) == ({"ann", "a"}, {"bob", "b"})
        await bob.socket.leave("b")
        await eventually(lambda: channel_of("b") not in adapter.subscribed)


async def test_joins_at_the_same_time_do_not_pass_the_limit_together(adapter: FakeAdapter) -> None:
    rooms = RoomManager(adapter, linger=0, max_rooms_per_socket=3)
    async with rooms, Member(rooms, sid="ann") as ann:
        adapter.hold_up()
        joins = [asyncio.ensure_future(ann.socket.join(f"{n}a", f"{n}b")) for n in range(3)]
        await eventually(lambda: adapter.waiting == 3)
        adapter.let_go()
        results = await asyncio.gather(*joins, return_exceptions=True)
        assert [type(result) for result in results] == [type(None), TooManyRooms, TooManyRooms]
        assert ann.socket.rooms == {"ann", "0a", "0b"}
        await eventually(lambda: channel_of("1a") not in adapter.subscribed)
        assert channel_of("0a") in adapter.subscribed


async def test_a_client_that_wants_too_many_rooms_is_closed_with_1008(
    adapter: FakeAdapter,
) -> None:
    rooms = RoomManager(adapter, max_rooms_per_socket=2)

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            async for room in socket.iter_text():
                await socket.join(room)

    async with rooms:
        async with WebSocketClient(app_of(endpoint)) as client:
            for room in ("a", "b", "c"):
                await client.send_text(room)
            assert await client.wait_closed() == 1008
            assert "max_rooms_per_socket" in client.close_reason
            await client.wait_ended()
        await all_is_over(rooms)


async def test_a_room_left_and_joined_again_at_once_is_never_unsubscribed(
    rooms: RoomManager, adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    unsubscribed: list[bytes] = []
    adapter.unsubscribe = unsubscribed.extend  # type: ignore[method-assign, assignment]
    bob = people["bob"].socket
    await people["ann"].socket.leave("lobby")
    for _ in range(10):
        await bob.leave("lobby")
        await bob.join("lobby")
    await people["ann"].socket.leave("bar")
    await eventually(lambda: channel_of("bar") in unsubscribed)
    assert LOBBY not in unsubscribed


async def test_a_socket_does_not_leave_its_own_room(
    rooms: RoomManager, people: dict[str, Member]
) -> None:
    await people["ann"].socket.leave("ann", "lobby")
    assert rooms.sids["ann"] == {"ann", "bar"}


async def test_leaving_a_room_one_is_not_in_changes_nothing(
    rooms: RoomManager, people: dict[str, Member]
) -> None:
    before = set(rooms.sids["cid"])
    await people["cid"].socket.leave("lobby", "nowhere")
    assert rooms.sids["cid"] == before
    assert rooms.rooms["lobby"] == {"ann", "bob"}


async def test_a_worker_subscribes_at_the_first_member_and_leaves_at_the_last(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    assert LOBBY not in adapter.subscribed
    async with Member(rooms, "lobby") as first:
        assert LOBBY in adapter.subscribed
        async with Member(rooms, "lobby") as second:
            await first.socket.leave("lobby")
            assert LOBBY in adapter.subscribed
            await second.socket.leave("lobby")
            await eventually(lambda: LOBBY not in adapter.subscribed)


async def test_sockets_with_generated_sids_need_no_channels_of_their_own(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    async with Member(rooms):
        before = set(adapter.subscribed)
        async with Member(rooms), Member(rooms), Member(rooms, sid="chosen"):
            assert adapter.subscribed == before | {channel_of("chosen")}


# Who gets a broadcast.


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target(), {"ann", "bob", "cid"}),
        (Target(("lobby",)), {"ann", "bob"}),
        (Target(("lobby", "bar")), {"ann", "bob"}),
        (Target(("bar", "cid")), {"ann", "cid"}),
        (Target(("nowhere",)), set()),
        (Target(()), set()),
        (Target(None, ("lobby",)), {"cid"}),
        (Target(("lobby",), ("bar",)), {"bob"}),
        (Target(("lobby",), ("bob", "nowhere")), {"ann"}),
        (Target(("bob",)), {"bob"}),
    ],
)
@pytest.mark.parametrize("sender", ["here", "here, local", "here, volatile", "another worker"])
async def test_a_broadcast_reaches_those_it_addresses_once_and_no_other(
    rooms: RoomManager,
    adapter: FakeAdapter,
    people: dict[str, Member],
    target: Target,
    expected: set[str],
    sender: str,
) -> None:
    if sender == "another worker":
        assert adapter.receiver is not None
        adapter.receiver.received(LOBBY, codec.encode(broadcast(1, target, "hello")))
    else:
        operator = rooms.except_(*target.except_)
        if target.rooms is not None:
            operator = operator.to(*target.rooms)
        if sender == "here, local":
            operator = operator.local
        if sender == "here, volatile":
            operator = operator.volatile
        await operator.send_text("hello")
    assert await _who_heard(people, "hello") == expected
    sent = [decoded(data) for _, data in adapter.published]
    sent_volatile = [decoded(data) for _, data in adapter.published_volatile]
    assert [b.target for b in sent] == ([target] if sender == "here" and target.rooms != () else [])
    assert [b.target for b in sent_volatile] == (
        [target] if sender == "here, volatile" and target.rooms != () else []
    )


async def test_the_namespaces_own_verbs_address_everyone(
    rooms: RoomManager, people: dict[str, Member]
) -> None:
    await rooms.send_text("text")
    await rooms.send_bytes(b"\xff")
    await rooms.send_json({"n": 1})
    for member in people.values():
        assert [await member.receive() for _ in range(3)] == ["text", b"\xff", '{"n":1}']


async def test_a_sockets_own_broadcasts_leave_it_out(people: dict[str, Member]) -> None:
    await people["ann"].socket.to("lobby", "cid").send_text("hello")
    assert await _who_heard(people, "hello") == {"bob", "cid"}
    await people["ann"].socket.broadcast.send_text("hello")
    assert await _who_heard(people, "hello") == {"bob", "cid"}


async def test_a_room_named_after_a_sid_can_be_joined_by_others(people: dict[str, Member]) -> None:
    await people["bob"].socket.join("ann")
    await people["cid"].socket.to("ann").send_text("hello")
    assert await _who_heard(people, "hello") == {"ann", "bob"}


async def test_what_is_sent_to_another_workers_sid_goes_to_that_worker(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    sid = new_sid(OTHER_NODE)
    await rooms.to(sid).send_text("hello")
    [(channel, data)] = adapter.published
    assert channel == f"rooms#{OTHER_NODE}#".encode()
    assert decoded(data).target == Target((sid,))


async def test_another_workers_message_reaches_a_generated_sid(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    async with Member(rooms) as member:
        channel = channel_of(member.sid)
        assert channel in adapter.subscribed
        assert adapter.receiver is not None
        message = broadcast(1, Target((member.sid,)), "hello")
        adapter.receiver.received(channel, codec.encode(message))
        assert await member.receive_text() == "hello"


async def test_namespaces_know_nothing_of_each_other(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    chat = rooms.of("/chat")
    async with Member(rooms, "lobby", sid="ann") as ann, Member(chat, "lobby", sid="ann") as other:
        assert rooms.sids == chat.sids == {"ann": {"ann", "lobby"}}
        await rooms.to("lobby").send_text("in /")
        await chat.to("lobby").send_text("in /chat")
        await rooms.send_text("everyone in /")
        await chat.to("ann").send_text("ann in /chat")
        assert [await ann.receive_text() for _ in range(2)] == ["in /", "everyone in /"]
        assert [await other.receive_text() for _ in range(2)] == ["in /chat", "ann in /chat"]
        assert ann.unread == other.unread == []
        channels = [channel for channel, _ in adapter.published]
        assert channels == [
            b"rooms#/#lobby#",
            b"rooms#/chat#lobby#",
            b"rooms#/#",
            b"rooms#/chat#ann#",
        ]


# In which order, and whether the adapter takes it or not.


async def test_local_members_have_a_message_before_the_adapter_has_accepted_it(
    rooms: RoomManager, adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    adapter.hold_up()
    send = asyncio.ensure_future(rooms.to("lobby").send_text("hello"))
    assert await people["ann"].receive_text() == "hello"
    assert not send.done()
    adapter.let_go()
    await send


async def test_local_members_have_a_message_that_the_adapter_did_not_accept(
    rooms: RoomManager, adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    adapter.publish_error = AdapterUnavailable("Redis is away")
    with pytest.raises(AdapterUnavailable):
        await rooms.to("lobby").send_text("hello")
    assert await _who_heard(people, "hello") == {"ann", "bob"}


async def test_a_volatile_message_neither_waits_for_the_adapter_nor_raises(
    rooms: RoomManager, adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    adapter.hold_up()
    adapter.publish_error = AdapterUnavailable("Redis is away")
    await rooms.to("lobby").volatile.send_text("typing")
    assert await _who_heard(people, "typing") == {"ann", "bob"}
    assert len(adapter.published_volatile) == 1


async def test_a_local_message_is_not_published(
    rooms: RoomManager, adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    await rooms.local.send_text("hello")
    await rooms.to("lobby").local.volatile.send_text("hello")
    assert adapter.published == adapter.published_volatile == []


async def test_a_message_for_members_elsewhere_is_published_though_nobody_is_here(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    await rooms.to("elsewhere").send_text("hello")
    assert [channel for channel, _ in adapter.published] == [channel_of("elsewhere")]


async def test_a_message_over_the_limit_reaches_nobody(
    rooms: RoomManager, adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    for operator in (rooms.to("lobby"), rooms.local, rooms.volatile):
        with pytest.raises(MessageTooLarge, match="1001 bytes; the limit is 1000"):
            await operator.send_text("x" * 1001)
    assert await _who_heard(people, "") == set()
    assert adapter.published == adapter.published_volatile == []
    await rooms.to("lobby").send_text("x" * 1000)
    assert await _who_heard(people, "x" * 1000) == {"ann", "bob"}


async def test_more_rooms_than_a_message_can_name_are_refused_before_anybody_has_it(
    rooms: RoomManager, adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    with pytest.raises(UsageError, match="65535"):
        await rooms.to("lobby", *map(str, range(65_535))).send_text("hello")
    assert await _who_heard(people, "hello") == set()
    assert adapter.published == []


async def test_two_thousand_messages_of_one_sender_arrive_in_order(
    rooms: RoomManager, people: dict[str, Member]
) -> None:
    for number in range(2000):
        await rooms.to("lobby").send_text(str(number))
    for name in ("ann", "bob"):
        assert [await people[name].receive_text() for _ in range(2000)] == [
            str(number) for number in range(2000)
        ]


async def test_a_room_that_is_more_than_a_handful_is_told_in_order_and_each_once(
    rooms: RoomManager,
) -> None:
    async with AsyncExitStack() as stack:
        crowd = [
            await stack.enter_async_context(Member(rooms, "crowd", sid=f"s{n}"))
            for n in range(IMMEDIATE_MAX + 3)
        ]
        for number in range(20):
            await crowd[0].socket.to("crowd").send_text(str(number))
            await rooms.to("s1").send_text(f"{number} for you")
        assert crowd[0].unread == []
        for member in crowd[2:]:
            assert [await member.receive() for _ in range(20)] == [str(n) for n in range(20)]
            assert member.unread == []
        expected = [text for n in range(20) for text in (str(n), f"{n} for you")]
        assert [await crowd[1].receive() for _ in range(40)] == expected


class _Prompt(FakeAdapter):
    """Writes what was published as the Redis adapter does: once the present turn is over."""

    def __init__(self) -> None:
        super().__init__()
        self.write: Callable[[], None] = lambda: None

    def publish(self, channel: bytes, data: bytes) -> Awaitable[int]:  # type: ignore[override]
        asyncio.get_running_loop().call_soon(self.write)
        return super().publish(channel, data)


class _Rude(FakeAdapter):
    """Raises where others give something to wait for."""

    def publish(self, channel: bytes, data: bytes) -> Awaitable[int]:  # type: ignore[override]
        if channel == LOBBY:
            raise AdapterUnavailable("Not now.")
        return super().publish(channel, data)


async def test_an_adapter_that_raises_at_once_keeps_a_message_from_nobody_here() -> None:
    async with RoomManager(_Rude()) as rooms, Member(rooms, "lobby") as member:
        with pytest.raises(AdapterUnavailable, match="Not now"):
            await rooms.to("lobby").send_text("hello")
        assert await member.receive_text() == "hello"


async def test_other_workers_are_not_kept_waiting_while_a_crowd_here_is_written_to() -> None:
    adapter = _Prompt()
    async with RoomManager(adapter) as rooms, AsyncExitStack() as stack:
        crowd = [
            await stack.enter_async_context(Member(rooms, "crowd", sid=f"s{n}"))
            for n in range(IMMEDIATE_MAX + 1)
        ]
        pending: list[list[int]] = []
        adapter.write = lambda: pending.append([member.socket.pending for member in crowd])
        await rooms.to("crowd").send_text("hello")
        assert pending == [[0] * len(crowd)]
        assert {await member.receive_text() for member in crowd} == {"hello"}


async def test_a_sender_to_a_crowd_that_is_cancelled_takes_no_other_with_it(
    rooms: RoomManager,
) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(IMMEDIATE_MAX + 1):
            await stack.enter_async_context(Member(rooms, "crowd"))
        crowd = rooms.to("crowd").local
        one, two = (asyncio.ensure_future(crowd.send_text(text)) for text in "ab")
        await asyncio.sleep(0)  # both wait for the fan-out
        one.cancel()
        await two


async def test_a_direct_send_does_not_overtake_a_broadcast_that_was_not_accepted(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    adapter.publish_error = AdapterUnavailable("Redis is away")
    async with AsyncExitStack() as stack:
        crowd = [
            await stack.enter_async_context(Member(rooms, "crowd"))
            for _ in range(IMMEDIATE_MAX + 1)
        ]
        with pytest.raises(AdapterUnavailable):
            await rooms.to("crowd").send_text("first")
        await crowd[0].socket.send_text("second")
        assert [await crowd[0].receive() for _ in range(2)] == ["first", "second"]


# Listening.


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


async def test_a_listener_wants_its_rooms_from_the_adapter_for_as_long_as_it_is_there(
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


async def test_a_listener_that_is_refused_wants_nothing_any_more(
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
        RoomManager(adapter, outbox=OutboxPolicy(max_bytes=3)) as rooms,
        rooms.listen("lobby") as messages,
        rooms.listen("lobby", outbox=OutboxPolicy(3, "drop_oldest")) as dropping,
    ):
        for text in ("aa", "bb", "cc"):
            await rooms.to("lobby").send_text(text)
        assert (await anext(messages)).text == "aa"
        with pytest.raises(ListenerOverflow):
            await anext(messages)
        assert (await anext(dropping)).text == "cc"
        assert dropping.dropped == 2


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


# Events.


class _Log:
    """Every event of a namespace, in order, and what its maps said at that moment."""

    def __init__(self, rooms: RoomManager) -> None:
        self.events: list[tuple[str, ...]] = []
        rooms.on("connect")(lambda socket: self.add("connect", socket.sid))
        rooms.on("disconnect")(lambda socket: self.add("disconnect", socket.sid))
        rooms.on("create-room")(lambda room: self.add("create", room))
        rooms.on("delete-room")(lambda room: self.add("delete", room))
        rooms.on("join-room")(lambda room, sid: self.add("join", room, sid))
        rooms.on("leave-room")(lambda room, sid: self.add("leave", room, sid))

    def add(self, *event: str) -> None:
        self.events.append(event)

    def take(self) -> list[tuple[str, ...]]:
        events, self.events = self.events, []
        return events


async def test_events_tell_every_change_once_and_nothing_else(rooms: RoomManager) -> None:
    log = _Log(rooms)
    async with Member(rooms, "lobby", "bar", "lobby", sid="ann") as ann:
        assert log.take() == [
            ("connect", "ann"),
            ("create", "lobby"),
            ("create", "bar"),
            ("join", "lobby", "ann"),
            ("join", "bar", "ann"),
        ]
        await ann.socket.join("lobby", "bar", "ann")
        await ann.socket.leave("nowhere", "ann")
        assert log.take() == []
        async with Member(rooms, "lobby", sid="bob"):
            assert log.take() == [("connect", "bob"), ("join", "lobby", "bob")]
            await ann.socket.leave("lobby")
            assert log.take() == [("leave", "lobby", "ann")]
        assert log.take() == [("leave", "lobby", "bob"), ("delete", "lobby"), ("disconnect", "bob")]
    assert log.take() == [("leave", "bar", "ann"), ("delete", "bar"), ("disconnect", "ann")]


async def test_a_join_that_fails_makes_no_event(rooms: RoomManager, adapter: FakeAdapter) -> None:
    async with Member(rooms, sid="ann") as ann:
        log = _Log(rooms)
        adapter.subscribe_error = AdapterUnavailable("no")
        with pytest.raises(AdapterUnavailable):
            await ann.socket.join("lobby")
        assert log.take() == []
        adapter.subscribe_error = None


async def test_a_handler_finds_the_maps_as_the_event_says(rooms: RoomManager) -> None:
    seen: list[object] = []
    rooms.on("join-room")(lambda room, sid: seen.append(sid in rooms.rooms[room]))
    rooms.on("delete-room")(lambda room: seen.append(room not in rooms.rooms))
    rooms.on("connect")(lambda socket: seen.append(set(socket.rooms) == {socket.sid}))
    rooms.on("disconnect")(lambda socket: seen.append(set(socket.rooms) == set()))
    async with Member(rooms, "lobby"):
        pass
    assert seen == [True] * 4


async def test_a_handler_that_raises_is_logged_and_the_join_has_happened(
    rooms: RoomManager, adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    @rooms.on("join-room")
    @rooms.on("connect")
    @rooms.on("disconnect")
    def broken(*args: object) -> None:
        raise ValueError("broken")

    async with Member(rooms, "lobby", sid="ann"):
        assert rooms.rooms["lobby"] == {"ann"}
    assert caplog.text.count("ValueError: broken") == 3
    await all_is_over(rooms)
    await eventually(lambda: len(adapter.subscribed) == 1)


async def test_an_async_handler_can_send_to_the_room(rooms: RoomManager) -> None:
    @rooms.on("join-room")
    async def welcome(room: str, sid: str) -> None:
        await rooms.to(sid).send_text(f"welcome to {room}")

    async with Member(rooms, "lobby") as member:
        assert await member.receive_text() == "welcome to lobby"


async def test_a_gap_tells_the_rooms_that_had_members_or_listeners_here(
    rooms: RoomManager, adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    told: list[Gap] = []
    rooms.on("gap")(told.append)
    elsewhere: list[Gap] = []
    rooms.of("/elsewhere").on("gap")(elsewhere.append)
    async with rooms.listen("news"):
        channels = frozenset(adapter.subscribed)
        await people["cid"].socket.join("joined later")
        assert adapter.receiver is not None
        adapter.receiver.gap(Outage(10.0, 20.0, channels))
    assert told == [Gap(10.0, 20.0, frozenset({"lobby", "bar", "news"}))]
    assert elsewhere == [], "nobody is there to have missed anything"


class _Shards(FakeAdapter):
    """An adapter whose channels can be lost one by one."""

    def shard_of(self, channel: bytes) -> int:
        return hash(channel)


async def test_where_shards_are_lost_one_by_one_a_gap_is_of_the_rooms_it_concerns() -> None:
    adapter = _Shards()
    rooms = RoomManager(adapter)
    told: list[Gap] = []
    rooms.on("gap")(told.append)
    async with rooms, Member(rooms, "lobby", "bar") as member:
        node = f"rooms#{member.sid.partition('.')[0]}#".encode()
        receiver = adapter.receiver
        assert receiver is not None
        for lost in (channel_of("lobby"), b"rooms#/#", node, b"rooms#/#elsewhere#"):
            receiver.gap(Outage(10.0, 20.0, frozenset({lost})))
    receiver.gap(Outage(10.0, 20.0, frozenset({channel_of("lobby")})))
    assert [gap.rooms for gap in told] == [
        {"lobby"},
        {"lobby", "bar"},  # any of which a message to several may have been for
        set(),  # what was sent to single sockets
    ]


async def test_closing_the_manager_forgets_everyone_and_stops_their_handlers(
    adapter: FakeAdapter,
) -> None:
    rooms = RoomManager(adapter, drain_timeout=0.01)

    @rooms.on("connect")
    async def endless(socket: object) -> None:
        await asyncio.Event().wait()

    await rooms.__aenter__()
    async with Member(rooms, "lobby") as member:
        await rooms.__aexit__()
        assert rooms.rooms == {}
        assert rooms.sids == {}
        assert member.socket.rooms == set()
        member.leave()
        await member.wait_ended()
    await all_is_over(rooms)
    assert adapter.subscribed == set()


async def test_a_namespace_is_its_own_dependency(rooms: RoomManager) -> None:
    assert await rooms() is rooms
    assert await rooms.of("/chat")() is rooms.of("/chat")
