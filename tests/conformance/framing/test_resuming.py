"""Clients that speak the framing, over workers: they resume without any code in the endpoint."""

from __future__ import annotations

import asyncio
from random import Random

from fastapi_rooms import RoomManager
from fastapi_rooms.testing import Member, eventually
from tests.conformance.framing.members import OTHER, ROOM, SIZE, Make, Pair, at, heard, until_end
from tests.framed_client import FramedMember, Framing


async def test_a_client_that_moves_to_another_worker_gets_exactly_what_it_missed(
    pair: Pair,
) -> None:
    one, two = pair
    async with FramedMember(one, ROOM) as ann:
        assert ann.joined is not None
        assert ann.joined.recovered is None
        await two.to(ROOM).send_text("seen")
        await two.to(ROOM).send_bytes(b"\0seen")
        assert await heard(ann, 2) == ["seen", b"\0seen"]
        assert ann.framing.positions == {ROOM: await one.position(ROOM)}
    for n in range(3):
        await one.to(ROOM).send_text(f"missed {n}")
    await one.to(ROOM).send_bytes(b"missed 3")
    async with FramedMember(two, ROOM, framing=ann.framing) as ann:
        assert ann.joined is not None
        assert (ann.joined.recovered, ann.joined.replayed) == (True, 4)
        await one.to(ROOM).send_text("new")
        missed = ["missed 0", "missed 1", "missed 2", b"missed 3", "new"]
        assert await heard(ann, 5) == missed
        assert ann.framing.joins == [(ROOM, None), (ROOM, True)]
        assert ann.framing.positions == {ROOM: await one.position(ROOM)}


async def test_who_has_seen_nothing_yet_can_resume(pair: Pair) -> None:
    one, two = pair
    await one.to(ROOM).send_text("before")
    async with FramedMember(one, ROOM) as ann:
        await at(ann, ROOM, await one.position(ROOM))
    await one.to(ROOM).send_text("first")
    async with FramedMember(two, ROOM, framing=ann.framing) as ann:
        assert await ann.receive() == "first"
    async with FramedMember(two, ROOM, framing=ann.framing) as ann:
        assert ann.joined is not None
        assert (ann.joined.recovered, ann.joined.replayed) == (True, 0), "it missed nothing"


async def test_two_drops_in_a_row_double_nothing(pair: Pair) -> None:
    one, two = pair
    async with FramedMember(one, ROOM) as ann:
        await at(ann, ROOM, await one.position(ROOM))
    for n in range(6):
        await one.to(ROOM).send_text(f"{n}")
    framing = ann.framing
    async with FramedMember(two, ROOM, framing=framing) as ann:
        assert await heard(ann, 3) == ["0", "1", "2"]  # and is gone before it has read the others
    async with FramedMember(one, ROOM, framing=framing) as ann:
        assert await heard(ann, 3) == ["3", "4", "5"]
        await one.to(ROOM).send_text("end")
        assert await ann.receive() == "end"


async def test_messages_published_during_the_replay_come_after_it_and_once(pair: Pair) -> None:
    one, two = pair
    async with FramedMember(one, ROOM) as ann:
        await at(ann, ROOM, await one.position(ROOM))
    for n in range(10):
        await one.to(ROOM).send_text(f"{n}")
    talking = [asyncio.create_task(one.to(ROOM).send_text(f"{n}")) for n in range(10, SIZE)]
    async with FramedMember(two, ROOM, framing=ann.framing) as ann:
        await asyncio.gather(*talking)
        assert await heard(ann, SIZE) == [f"{n}" for n in range(SIZE)]
        await two.to(ROOM).send_text("end")
        assert await ann.receive() == "end"


async def test_a_sender_is_not_replayed_what_it_sent_before_it_reconnected(pair: Pair) -> None:
    one, two = pair
    async with FramedMember(one, ROOM) as ann:
        await at(ann, ROOM, await one.position(ROOM))
        framing = ann.framing
        before = dict(framing.positions)
        await ann.socket.to(ROOM).send_text("from ann")
        await one.to(ROOM).except_(ann.socket.sid).send_text("not for ann")
        await two.to(ROOM).send_text("to all")
        assert await ann.receive() == "to all"
    framing.positions = dict(before)  # as if none of it had come
    async with FramedMember(two, ROOM, framing=framing) as ann:
        assert ann.socket.sid
        assert await ann.receive() == "to all"
        await ann.socket.to(ROOM).send_text("from ann again")
        await one.to(ROOM).send_text("end")
        assert await ann.receive() == "end"
    framing.positions = dict(before)
    async with FramedMember(one, ROOM, framing=framing) as ann:
        assert await heard(ann, 2) == ["to all", "end"], "after the second time as well"
    framing.positions, framing.token = dict(before), None
    async with FramedMember(one, ROOM, framing=framing) as ann:
        assert (await heard(ann, 1)) == ["from ann"], "without its token it is another"


async def test_a_sid_alone_proves_nothing(pair: Pair) -> None:
    one, _ = pair
    async with Member(one, ROOM) as bob, FramedMember(one, ROOM) as ann:
        await at(ann, ROOM, await one.position(ROOM))
        sid = bob.socket.sid
    await one.to(ROOM).except_(sid).send_text("for others")
    ann.framing.token = sid
    async with FramedMember(one, ROOM, framing=ann.framing) as ann:
        # What is not the server's token makes the frame malformed: it has brought nothing then.
        assert ann.joined is not None
        assert ann.joined.recovered is None


async def test_positions_advance_without_messages_for_who_is_left_out_of_them(pair: Pair) -> None:
    one, two = pair
    async with FramedMember(one, ROOM) as ann:
        for n in range(2 * SIZE):
            await ann.socket.to(ROOM).send_text(f"{n}")
        await at(ann, ROOM, await one.position(ROOM))
        assert ann.take_in() == []
    await one.to(ROOM).send_text("missed")
    async with FramedMember(two, ROOM, framing=ann.framing) as ann:
        assert await ann.receive() == "missed"
        assert ann.framing.joins[-1] == (ROOM, True)


async def test_a_position_that_is_gone_is_told_before_the_recent_messages(pair: Pair) -> None:
    one, two = pair
    async with FramedMember(one, ROOM) as ann:
        await at(ann, ROOM, await one.position(ROOM))
    for n in range(SIZE + 1):
        await one.to(ROOM).send_text(f"{n}")
    async with FramedMember(two, framing=ann.framing) as ann:
        joined = await ann.socket.join(ROOM, recent=2)
        assert (joined.recovered, joined.replayed) == (False, 2)
        first = await super(FramedMember, ann).receive()
        assert first == '\0j{"room":"chat-tea","recovered":false}'
        assert ann.framing.read(first) == []
        assert await heard(ann, 2) == [f"{SIZE - 1}", f"{SIZE}"]
        assert ann.framing.positions == {ROOM: await one.position(ROOM)}


async def test_what_is_given_outranks_the_clients_own_position(pair: Pair) -> None:
    one, two = pair
    start = await one.position(ROOM)
    await one.to(ROOM).send_text("0")
    async with FramedMember(one, ROOM) as ann:
        await at(ann, ROOM, await one.position(ROOM))
    await one.to(ROOM).send_text("1")
    async with FramedMember(two, framing=ann.framing) as ann:
        ann.framing.positions.clear()
        joined = await ann.socket.join(ROOM, since=start)
        assert (joined.recovered, joined.replayed) == (True, 2)
        assert await heard(ann, 2) == ["0", "1"]


async def test_of_several_rooms_none_may_be_gone(pair: Pair) -> None:
    one, two = pair
    async with FramedMember(one, ROOM, OTHER) as ann:
        for room in (ROOM, OTHER):
            await at(ann, room, await one.position(room))
    framing, before = ann.framing, dict(ann.framing.positions)
    await one.to(ROOM).send_text("tea")
    await one.to(OTHER).send_text("cake")
    async with FramedMember(two, "plain", ROOM, OTHER, framing=framing) as ann:
        assert ann.joined is not None
        assert (ann.joined.recovered, ann.joined.replayed) == (True, 2)
        assert await heard(ann, 2) == ["tea", "cake"]
    framing.positions = {ROOM: before[ROOM], OTHER: "nonsense"}
    async with FramedMember(two, ROOM, OTHER, framing=framing) as ann:
        assert ann.joined is not None
        assert (ann.joined.recovered, ann.joined.replayed) == (False, 1)
        assert await ann.receive() == "tea"
        await at(ann, OTHER, await one.position(OTHER))
        assert ann.framing.joins[-2:] == [(ROOM, True), (OTHER, False)]


async def test_who_leaves_a_room_forgets_its_position_and_comes_again_as_new(pair: Pair) -> None:
    one, two = pair
    async with FramedMember(one, ROOM) as ann:
        await ann.socket.leave(ROOM)
        await two.to(ROOM).send_text("not for ann")
        await ann.socket.join(ROOM)
        await two.to(ROOM).send_text("for ann")
        assert await ann.receive() == "for ann"
        assert ann.framing.joins == [(ROOM, None), (ROOM, None)]
        await one.to(ann.socket.sid).sockets_leave(ROOM)
        await eventually(lambda: not (ann.take_in() or ann.framing.positions))
    await one.to(ROOM).send_text("not for ann either")
    async with FramedMember(two, ROOM, framing=ann.framing) as ann:
        assert ann.joined is not None
        assert (ann.joined.recovered, ann.joined.replayed) == (None, 0)


async def test_sockets_join_lets_a_client_go_on_as_well(pair: Pair) -> None:
    one, two = pair
    async with FramedMember(one, ROOM) as ann:
        await at(ann, ROOM, await one.position(ROOM))
    await one.to(ROOM).send_text("missed")
    async with FramedMember(two, framing=ann.framing) as ann:
        await one.to(ann.socket.sid).sockets_join(ROOM)
        await one.to(ROOM).send_text("new")
        assert await heard(ann, 2) == ["missed", "new"]
        assert ann.framing.joins[-1] == (ROOM, True)


async def test_other_messages_are_what_all_others_get(pair: Pair) -> None:
    one, two = pair
    async with FramedMember(one, ROOM, "plain") as ann, Member(one, ROOM, "plain") as bob:
        for text in ("", "hello", "\0", "\0m{}", "\0.x"):
            await two.to("plain").send_text(text)
            await one.to(ROOM).volatile.send_text(text)
            await one.to("plain").send_bytes(text.encode())
            await ann.socket.send_text(text)
            await bob.socket.send_text(text)
        await one.send_text("end")
        heard = [[m async for m in until_end(member)] for member in (ann, bob)]
        assert sorted(map(repr, heard[0])) == sorted(map(repr, heard[1]))
        assert len(heard[0]) == 20


async def test_a_plain_client_beside_sees_no_byte_of_it(pair: Pair) -> None:
    one, two = pair
    async with FramedMember(one, ROOM) as ann, Member(one, ROOM) as bob:
        await two.to(ROOM).send_text("hello")
        await ann.socket.to(ROOM).send_text("from ann")
        await ann.socket.leave(ROOM)
        await ann.socket.join(ROOM)
        await two.to(ROOM).send_bytes(b"end")
        assert await bob.receive_until(b"end") == ["hello", "from ann"]
        assert await heard(ann, 2) == ["hello", b"end"]


async def test_clients_that_are_cut_off_again_and_again_get_everything_in_order_and_once(
    make: Make,
) -> None:
    """They move between the workers as they come; a few talk, and hear all but themselves."""
    workers = [make(), make()]
    for rooms in workers:
        rooms.history(ROOM, size=500)
    random = Random(7)
    async with workers[0], workers[1]:
        framings = [Framing() for _ in range(6)]
        said: list[list[str]] = [[] for _ in framings]
        heard: list[list[str | bytes]] = [[] for _ in framings]
        for framing, messages in zip(framings, heard, strict=True):
            await _visit(workers[0], framing, [], messages)
        for turn in range(8):
            visits = []
            for number, framing in enumerate(framings):
                texts = [f"{number} {turn} {n}" for n in range(random.randrange(5))]
                said[number] += texts
                visits.append(_visit(random.choice(workers), framing, texts, heard[number]))
            await asyncio.gather(*visits)
        await workers[0].to(ROOM).send_text("end")
        for framing, messages in zip(framings, heard, strict=True):
            async with FramedMember(random.choice(workers), ROOM, framing=framing) as ann:
                messages += [m async for m in until_end(ann)]
                # Who is gone too soon does not even read that it has joined.
                first, *later = [recovered for _, recovered in framing.joins]
                assert first is None
                assert set(later) == {True}
        everything = [message.text for message in await workers[0].recent(ROOM, limit=500)][:-1]
        for mine, messages in zip(said, heard, strict=True):
            assert messages == [text for text in everything if text not in mine]
        assert len(everything) == sum(map(len, said)) > 50


async def _visit(
    rooms: RoomManager, framing: Framing, texts: list[str], heard: list[str | bytes]
) -> None:
    """A connection that ends before it has read all that it was sent."""
    async with FramedMember(rooms, ROOM, framing=framing) as ann:
        if not framing.positions:
            await at(ann, ROOM, await rooms.position(ROOM))
        for text in texts:
            await ann.socket.to(ROOM).send_text(text)
        heard += ann.take_in()
