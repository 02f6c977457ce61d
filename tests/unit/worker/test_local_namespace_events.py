"""The events of a namespace: every change once, and gaps."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms import AdapterUnavailable, Gap, Outage, RoomManager, Socket, concurrency
from fastapi_rooms.testing import Member, eventually
from tests.unit.support import FakeAdapter, ShardedAdapter, all_is_over, channel_of


class _Log:
    """Every event of a namespace, in order, and what its maps said at that moment."""

    def __init__(self, rooms: RoomManager) -> None:
        self.events: list[tuple[str, ...]] = []
        rooms.on("connect")(lambda socket: self.add("connect", socket.sid))
        rooms.on("disconnect")(lambda socket: self.add("disconnect", socket.sid))
        rooms.on("create-room")(lambda room: self.add("create", room))
        rooms.on("delete-room")(lambda room: self.add("delete", room))
        rooms.on("join-room")(lambda room, socket: self.add("join", room, socket.sid))
        rooms.on("leave-room")(lambda room, socket: self.add("leave", room, socket.sid))

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
    rooms.on("join-room")(lambda room, socket: seen.append(socket.sid in rooms.rooms[room]))
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
    async def welcome(room: str, socket: Socket) -> None:
        await socket.send_text(f"welcome to {room}")

    async with Member(rooms, "lobby") as member:
        assert await member.receive_text() == "welcome to lobby"


async def test_a_handler_can_say_who_it_is_by_the_data_and_to_whom_by_the_namespace(
    rooms: RoomManager,
) -> None:
    chat = rooms.of("/chat")

    @chat.on("leave-room")
    async def tell(room: str, socket: Socket) -> None:
        assert socket.namespace is chat
        assert socket.rooms == set()
        await socket.namespace.to(room).send_text(f"{socket.data['name']} left {room}")

    async with Member(chat, "tea") as bob:
        async with Member(chat, "tea", data={"name": "ann"}):
            pass
        assert await bob.receive_text() == "ann left tea"


# Gaps.


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
    assert told == [Gap(10.0, 20.0, ("lobby", "bar", "news"))]
    assert told[0].namespace is rooms
    assert elsewhere == [], "nobody is there to have missed anything"


async def test_where_shards_are_lost_one_by_one_a_gap_is_of_the_rooms_it_concerns() -> None:
    adapter = ShardedAdapter()
    rooms = RoomManager(adapter)
    told: list[Gap] = []
    rooms.on("gap")(told.append)
    async with rooms, Member(rooms, "lobby", "bar") as member:
        node = f"rooms#{member.sid.partition('.')[0]}.#".encode()
        receiver = adapter.receiver
        assert receiver is not None
        lobby, other = (channel_of(room, sharded=True) for room in ("lobby", "elsewhere"))
        for lost in (lobby, b"rooms#/#", node, other):
            receiver.gap(Outage(10.0, 20.0, frozenset({lost})))
    receiver.gap(Outage(10.0, 20.0, frozenset({lobby})))
    assert [gap.rooms for gap in told] == [
        ("lobby",),
        ("lobby", "bar"),  # any of which a message to several may have been for
        (),  # what was sent to single sockets
    ]


async def test_a_lost_channel_of_one_socket_with_a_chosen_sid_is_a_gap() -> None:
    adapter, gaps = ShardedAdapter(), list[Gap]()
    async with RoomManager(adapter) as rooms, Member(rooms, sid="user-42"):
        rooms.on("gap")(gaps.append)
        assert adapter.receiver is not None
        adapter.receiver.gap(Outage(1.0, 2.0, frozenset((channel_of("user-42", sharded=True),))))
    assert gaps == [Gap(1.0, 2.0, ())]


async def test_a_gap_in_many_rooms_takes_many_turns_and_is_told_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(concurrency, "SLICE", 10)
    adapter = FakeAdapter()
    rooms = RoomManager(adapter)
    told: list[Gap] = []
    rooms.on("gap")(told.append)
    names = [f"room {number}" for number in range(100)]
    async with rooms, rooms.listen(*names):
        assert adapter.receiver is not None
        adapter.receiver.gap(Outage(10.0, 20.0, frozenset(adapter.subscribed)))
        turns = 0
        while not told:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 10
    assert [sorted(gap.rooms) for gap in told] == [sorted(names)]
