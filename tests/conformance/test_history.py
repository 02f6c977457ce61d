"""Rooms that remember, over several workers: one order, healing, resuming, newcomers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial

import pytest

from fastapi_rooms import (
    ConfigurationError,
    Gap,
    JoinRefused,
    MemoryAdapter,
    MemoryBus,
    Outage,
    RoomManager,
    Socket,
    UsageError,
)
from fastapi_rooms.adapters import Adapter
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.position import Position
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import (
    Member,
    RedisCluster,
    RedisClusterNode,
    RedisServer,
    eventually,
)
from fastapi_rooms.wire import codec, kept
from fastapi_rooms.wire.envelope import Broadcast

SIZE = 20
OTHER_NODE = "0123456789abcdef"
ROOM = "chat-tea"
Make = Callable[..., RoomManager]


@pytest.fixture(params=["memory", "redis", "cluster"])
def make(request: pytest.FixtureRequest, own_redis: RedisServer) -> Iterator[Make]:
    """Make a worker's manager, which remembers what is said in `chat-*`."""
    adapters: dict[str, Callable[[], Adapter | str]] = {
        "memory": partial(MemoryAdapter, MemoryBus()),
        "redis": lambda: own_redis.url,
    }
    nodes: list[RedisClusterNode] = []
    if request.param == "cluster":
        cluster: RedisCluster = request.getfixturevalue("redis_cluster")
        nodes = cluster.nodes
        adapters["cluster"] = lambda: cluster.url

    def make(**settings: object) -> RoomManager:
        rooms = RoomManager(adapters[request.param](), **settings)  # type: ignore[arg-type]
        rooms.history("chat-*", size=SIZE, ttl=60)
        return rooms

    yield make
    for node in nodes:
        node.command("FLUSHALL")


@pytest.fixture
async def pair(make: Make) -> AsyncIterator[tuple[RoomManager, RoomManager]]:
    """Two workers."""
    async with make() as one, make() as two:
        yield one, two


async def _heard(member: Member, count: int) -> list[str]:
    return [str(await member.receive()) for _ in range(count)]


async def test_everyone_hears_one_order_whoever_sends(
    pair: tuple[RoomManager, RoomManager],
) -> None:
    one, two = pair
    async with Member(one, ROOM) as ann, Member(two, ROOM) as bob, Member(two, ROOM) as cem:
        sending = [rooms.to(ROOM).send_text(f"{n}") for n in range(50) for rooms in pair]
        await asyncio.gather(*sending)
        heard = [await _heard(member, 100) for member in (ann, bob, cem)]
        assert heard[0] == heard[1] == heard[2]
        for sender in (0, 1):
            assert len(heard[0][sender::2]) == 50


async def test_the_sender_is_left_out_as_elsewhere(pair: tuple[RoomManager, RoomManager]) -> None:
    one, two = pair
    async with Member(one, ROOM) as ann, Member(two, ROOM) as bob:
        await ann.socket.to(ROOM).send_text("from ann")
        await bob.socket.to(ROOM).send_text("from bob")
        await one.to(ROOM).send_text("to both")
        assert await _heard(ann, 2) == ["from bob", "to both"]
        assert await _heard(bob, 2) == ["from ann", "to both"]


async def test_a_newcomer_gets_the_last_messages_and_then_what_follows(
    pair: tuple[RoomManager, RoomManager],
) -> None:
    one, two = pair
    for n in range(10):
        await one.to(ROOM).send_text(f"{n}")
    async with Member(two) as ann:
        joined = await ann.socket.join(ROOM, recent=3)
        assert (joined.recovered, joined.replayed) == (None, 3)
        assert joined.positions == {ROOM: await one.position(ROOM)}
        await one.to(ROOM).send_text("next")
        assert await _heard(ann, 4) == ["7", "8", "9", "next"]


async def test_a_client_goes_on_at_another_worker_where_it_was(
    pair: tuple[RoomManager, RoomManager],
) -> None:
    one, two = pair
    async with Member(one, ROOM) as ann:
        await one.to(ROOM).send_text("seen")
        assert await ann.receive() == "seen"
        position = ann.socket.position(ROOM)
    assert position is not None
    for n in range(3):
        await one.to(ROOM).send_text(f"missed {n}")
    async with Member(two) as ann:
        joined = await ann.socket.join(ROOM, since=position, recent=50)
        assert (joined.recovered, joined.replayed) == (True, 3)
        await two.to(ROOM).send_text("new")
        assert await _heard(ann, 4) == ["missed 0", "missed 1", "missed 2", "new"]
        assert ann.socket.position(ROOM) == await two.position(ROOM)


async def test_who_missed_nothing_or_has_seen_nothing_yet_is_recovered(
    pair: tuple[RoomManager, RoomManager],
) -> None:
    one, two = pair
    async with Member(one) as ann:
        start = (await ann.socket.join(ROOM)).positions[ROOM]
    async with Member(two) as ann:
        joined = await ann.socket.join(ROOM, since=start)
        assert (joined.recovered, joined.replayed) == (True, 0)
    await one.to(ROOM).send_text("first")
    async with Member(two) as ann:
        joined = await ann.socket.join(ROOM, since=start)
        assert (joined.recovered, joined.replayed) == (True, 1)
        assert await ann.receive() == "first"


async def test_exactly_as_many_as_are_kept_are_recovered_and_of_one_more_nothing(
    pair: tuple[RoomManager, RoomManager],
) -> None:
    one, two = pair
    position = await one.position(ROOM)
    await one.to(ROOM).send_text("0")
    later = await one.position(ROOM)
    for n in range(1, SIZE + 1):
        await one.to(ROOM).send_text(f"{n}")
    for since, recovered, replayed in ((later, True, SIZE), (position, False, 0)):
        async with Member(two) as ann:
            joined = await ann.socket.join(ROOM, since=since)
            assert (joined.recovered, joined.replayed) == (recovered, replayed)


@pytest.mark.parametrize("position", ["", "nonsense", "0" * 16 + ".1." + "f" * 16])
async def test_a_position_that_cannot_be_is_one_that_is_gone_and_recent_takes_its_place(
    pair: tuple[RoomManager, RoomManager], position: str
) -> None:
    one, two = pair
    await one.to(ROOM).send_text("said before")
    async with Member(two) as ann:
        joined = await ann.socket.join(ROOM, since=position, recent=5)
        assert (joined.recovered, joined.replayed) == (False, 1)
        assert await ann.receive() == "said before"


async def test_what_is_sent_while_somebody_resumes_comes_once_and_behind_it(
    pair: tuple[RoomManager, RoomManager],
) -> None:
    one, two = pair
    position, sent, members = await one.position(ROOM), 0, list[Member]()
    for _ in range(SIZE // 5):
        member = Member(two)
        await member.open()
        numbers = range(sent, sent + 5)
        talking = [asyncio.create_task(one.to(ROOM).send_text(f"{n}")) for n in numbers]
        joined = await member.socket.join(ROOM, since=position)
        assert joined.recovered
        sent += 5
        await asyncio.gather(*talking)
        members.append(member)
    for member in members:
        heard = [int(text) for text in await _heard(member, sent)]
        assert heard == list(range(sent)), "from the beginning, as nobody had more to resume from"
        await member.close()
    assert sent == SIZE


async def test_a_listener_resumes_by_the_position_of_a_message(
    pair: tuple[RoomManager, RoomManager],
) -> None:
    one, two = pair
    async with one.listen(ROOM) as messages:
        await two.to(ROOM).send_text("heard")
        first = await anext(messages)
        assert first.text == "heard"
        assert first.position is not None
        assert messages.recovered is None
    await one.to(ROOM).send_text("missed")
    async with two.listen(ROOM, since=first.position) as messages:
        assert messages.recovered is True
        await one.to(ROOM).send_text("new")
        heard = [await anext(messages) for _ in range(2)]
        assert [message.text for message in heard] == ["missed", "new"]
        assert heard[1].position == await one.position(ROOM)


async def test_recent_messages_are_read_without_joining(
    pair: tuple[RoomManager, RoomManager],
) -> None:
    one, two = pair
    assert await one.recent(ROOM) == []
    for n in range(SIZE + 5):
        await one.to(ROOM).send_json({"n": n})
    recent = await two.recent(ROOM, limit=3)
    assert [message.json()["n"] for message in recent] == [SIZE + 2, SIZE + 3, SIZE + 4]
    assert recent[-1].position == await two.position(ROOM)
    assert [message.room for message in recent] == [ROOM] * 3


async def test_what_is_cleared_is_forgotten_on_every_worker_and_the_numbering_goes_on(
    pair: tuple[RoomManager, RoomManager],
) -> None:
    one, two = pair
    async with Member(one, ROOM) as ann, Member(two, ROOM):
        await one.to(ROOM).send_text("a secret")
        assert await ann.receive() == "a secret"
        position = await one.position(ROOM)
        await one.clear_history(ROOM)

        async def is_forgotten() -> bool:
            async with Member(two) as cem:
                return (await cem.socket.join(ROOM, recent=10)).replayed == 0

        await eventually(is_forgotten)
        assert await two.recent(ROOM) == []
        assert await two.position(ROOM) == position
        await two.to(ROOM).send_text("goes on")
        assert await ann.receive() == "goes on"


async def test_who_had_everything_when_it_was_cleared_is_recovered_all_the_same(
    pair: tuple[RoomManager, RoomManager],
) -> None:
    one, two = pair
    async with Member(one, ROOM) as ann:
        for n in range(3):
            await one.to(ROOM).send_text(f"{n}")
        earlier = (await one.recent(ROOM))[1].position
        position = await one.position(ROOM)
        await two.clear_history(ROOM)
        await two.to(ROOM).send_text("missed")
        assert await _heard(ann, 4) == ["0", "1", "2", "missed"]
        for rooms in pair:  # from what it has heard, and by reading
            for since, recovered in ((position, True), (earlier, False)):
                async with Member(rooms) as bob:
                    joined = await bob.socket.join(ROOM, since=since)
                    assert (joined.recovered, joined.replayed) == (recovered, int(recovered))
        async with two.listen(ROOM, since=position) as messages:
            assert messages.recovered is True
            assert (await anext(messages)).text == "missed"


async def test_local_and_volatile_messages_pass_without_a_place(
    pair: tuple[RoomManager, RoomManager],
) -> None:
    one, two = pair
    async with Member(one, ROOM) as ann, Member(two, ROOM) as bob:
        await one.to(ROOM).send_text("kept")
        assert await ann.receive() == await bob.receive() == "kept"
        await one.local.to(ROOM).send_text("local")
        await one.to(ROOM).volatile.send_text("volatile")
        assert await _heard(ann, 2) == ["local", "volatile"]
        assert await bob.receive() == "volatile"
        assert [message.text for message in await two.recent(ROOM)] == ["kept"]


async def test_other_rooms_are_as_they_were(pair: tuple[RoomManager, RoomManager]) -> None:
    one, two = pair
    async with Member(one, "plain") as ann, Member(two, "plain", ROOM) as bob:
        await one.to("plain").send_text("hello")
        await one.send_text("to all")
        assert await _heard(ann, 2) == await _heard(bob, 2) == ["hello", "to all"]
        assert ann.socket.position("plain") is None
        for wanted in ({"since": "x"}, {"recent": 1}):
            with pytest.raises(UsageError, match="one room that remembers"):
                await ann.socket.join("other", **wanted)
        for read in (one.recent, one.position, one.clear_history):
            with pytest.raises(UsageError, match="has no history"):
                await read("plain")


async def test_a_room_with_a_history_is_addressed_alone(
    pair: tuple[RoomManager, RoomManager],
) -> None:
    one, _ = pair
    with pytest.raises(UsageError, match=f"'{ROOM}' has a history"):
        await one.to("plain", ROOM).send_text("hello")


async def test_resuming_in_a_room_one_is_in_is_refused(
    pair: tuple[RoomManager, RoomManager],
) -> None:
    one, _ = pair
    async with Member(one, ROOM) as ann:
        with pytest.raises(UsageError, match="already"):
            await ann.socket.join(ROOM, recent=5)
        assert (await ann.socket.join(ROOM)).positions == {ROOM: ann.socket.position(ROOM)}


async def test_who_may_not_join_is_replayed_nothing(make: Make) -> None:
    rooms = make()

    @rooms.authorize("chat-*")
    def nobody(socket: Socket, room: str) -> bool:
        return False

    async with rooms:
        await rooms.to(ROOM).send_text("a secret")
        async with Member(rooms) as ann:
            with pytest.raises(JoinRefused):
                await ann.socket.join(ROOM, recent=10)
            await ann.socket.send_text("end")
            assert await ann.receive() == "end"


async def test_who_was_left_out_is_left_out_of_the_replay(
    pair: tuple[RoomManager, RoomManager],
) -> None:
    one, two = pair
    await one.to(ROOM).except_("quiet").send_text("not for the quiet")
    await one.to(ROOM).send_text("for all")
    async with Member(two, "quiet") as ann:
        joined = await ann.socket.join(ROOM, recent=10)
        assert joined.replayed == 1
        assert await ann.receive() == "for all"


async def test_sockets_join_brings_into_such_rooms_as_well(
    pair: tuple[RoomManager, RoomManager],
) -> None:
    one, two = pair
    async with Member(one) as ann:
        await two.to(ann.socket.sid).sockets_join(ROOM)
        await two.to(ROOM).send_text("hello")
        assert await ann.receive() == "hello"


async def test_the_longest_pattern_counts_and_clones_remember_as_well(make: Make) -> None:
    rooms = make()
    rooms.history("chat-short", size=1)
    async with rooms.clone() as clone:
        for room in ("chat-short", "chat-long"):
            for n in range(5):
                await clone.to(room).send_text(f"{n}")
        assert [m.text for m in await clone.recent("chat-short")][-1:] == ["4"]
        assert len(await clone.recent("chat-long")) == 5


async def test_what_is_declared_too_late_or_cannot_be_is_refused(make: Make) -> None:
    rooms = make()
    for wrong in ({"size": 0}, {"ttl": 0}, {"size": 1.5}):
        with pytest.raises(ConfigurationError):
            rooms.history("x", **wrong)
    with pytest.raises(ConfigurationError, match="matches no room"):
        rooms.history("")
    async with rooms:
        with pytest.raises(ConfigurationError, match=r"rooms\.recent"):
            rooms.history("late-*")


async def test_a_gap_is_told_of_plain_rooms_only(make: Make) -> None:
    rooms, gaps = make(), list[Gap]()
    rooms.on("gap")(gaps.append)
    async with rooms, Member(rooms, "plain", ROOM):
        outage_of(rooms)
        await eventually(lambda: gaps)
        assert [gap.rooms for gap in gaps] == [("plain",)]


def outage_of(rooms: RoomManager) -> None:
    """Have a manager believe that it was cut off."""
    channels = frozenset(rooms._runtime.channels.of_room("/", r) for r in ("plain", ROOM))
    rooms._runtime.run.gap(Outage(1.0, 2.0, channels))


@pytest.mark.parametrize("target", [Target(), Target(("plain",)), Target(("plain", ROOM))])
async def test_what_has_a_place_where_none_is_kept_is_delivered_without(
    pair: tuple[RoomManager, RoomManager], target: Target
) -> None:
    """From a version of the application that keeps more, or from somebody who forges."""
    one, _ = pair
    async with Member(one, "plain", ROOM) as ann:
        message = Broadcast(OTHER_NODE, 1, "/", target, Payload.of_text("hello"))
        data = kept.encode(Position("0" * 16, 7, 9), 8, codec.encode(message))
        one._runtime.run.received(b"a channel", data)
        assert await ann.receive() == "hello"
        await one.to(ROOM).send_text("goes on")
        assert await ann.receive() == "goes on"
