"""What a socket is sent while others are written to leaves in one write, whatever its rooms."""

from __future__ import annotations

import asyncio
import itertools
from itertools import pairwise

import pytest

from fastapi_rooms.core.membership import Membership
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.transports import Transport
from fastapi_rooms.worker import fanout as fanout_module
from fastapi_rooms.worker.burst import Delivery
from fastapi_rooms.worker.fanout import IMMEDIATE_IN_A_ROW, IMMEDIATE_MAX, WRITE_BYTES, Fanout
from tests.unit.support import FakeTransport

CROWD = IMMEDIATE_MAX + 1


class _House:
    """Some rooms of so many members each, and a fan-out to them."""

    def __init__(self, **rooms: int) -> None:
        self.membership: Membership[Transport] = Membership()
        self.members: dict[str, list[FakeTransport]] = {}
        self.fanout = Fanout(max_lag=1.0)
        for room, size in rooms.items():
            self.members[room] = [self.enter(f"{room}{n}", room) for n in range(size)]

    def enter(self, sid: str, *rooms: str) -> FakeTransport:
        transport = FakeTransport()
        self.membership.add(sid, transport)
        self.membership.join(sid, [sid, *rooms])
        return transport

    def send(
        self, text: str, *rooms: str, but: tuple[str, ...] = (), volatile: bool = False
    ) -> Delivery | None:
        return self.fanout.send(
            self.membership, Target(rooms or None, but), Payload.of_text(text), volatile=volatile
        )


async def test_messages_to_rooms_in_turn_leave_in_one_write_for_each_member() -> None:
    house = _House(a=CROWD, b=CROWD)
    for number in range(5):
        house.send(f"a{number}", "a")
        house.send(f"b{number}", "b")
    await house.fanout.written()
    for room in "ab":
        expected = [[f"{room}{number}" for number in range(5)]]
        assert all(transport.writes == expected for transport in house.members[room])


async def test_a_socket_in_several_rooms_has_all_of_it_in_one_write_and_in_order() -> None:
    house = _House(a=CROWD, b=CROWD)
    both = house.enter("both", "a", "b")
    for number in range(3):
        house.send(f"a{number}", "a")
        house.send(f"b{number}", "b")
        house.send(f"to all {number}")
    await house.fanout.written()
    expected = [text for n in range(3) for text in (f"a{n}", f"b{n}", f"to all {n}")]
    assert both.writes == [expected]
    assert house.members["a"][0].writes == [[t for t in expected if not t.startswith("b")]]


async def test_sockets_of_one_kind_share_one_frame() -> None:
    house = _House(a=CROWD, b=CROWD)
    for transports in house.members.values():
        for transport in transports:
            transport.keep_up()
    house.send("1", "a")
    house.send("2", "b")
    house.send("3", "a")
    await house.fanout.written()
    for room, frame in (("a", b"\x81\x011\x81\x013"), ("b", b"\x81\x012")):
        for transport in house.members[room]:
            assert transport.frames() == [frame]
            transport.hang_up()


async def test_who_comes_and_goes_in_between_gets_what_was_sent_while_there() -> None:
    house = _House(a=CROWD, b=CROWD)
    house.send("before", "a")
    newcomer = house.enter("new", "a")
    house.send("with both", "a")
    house.membership.leave("a0", ["a"])
    house.send("without the first", "a")
    house.send("elsewhere", "b")
    await house.fanout.written()
    assert newcomer.writes == [["with both", "without the first"]]
    assert house.members["a"][0].writes == [["before", "with both"]]
    assert house.members["a"][1].writes == [["before", "with both", "without the first"]]


async def test_whom_a_message_excludes_is_left_out_in_each_of_the_rooms() -> None:
    house = _House(a=CROWD, b=CROWD)
    both = house.enter("both", "a", "b")
    house.send("1", "a", but=("both",))
    house.send("2", "b", but=("b0", "nobody"))
    house.send("3", "a", but=("a0", "both"))
    house.send("4", "b", but=("both",))
    await house.fanout.written()
    assert both.writes == [["2"]]
    assert house.members["a"][0].texts == ["1"]
    assert house.members["a"][1].writes == [["1", "3"]]
    assert house.members["b"][0].texts == ["4"]
    assert house.members["b"][1].writes == [["2", "4"]]


async def test_what_is_volatile_and_what_is_not_keep_their_order() -> None:
    house = _House(a=CROWD, b=CROWD)
    both = house.enter("both", "a", "b")
    house.send("1", "a")
    house.send("2", "b", volatile=True)
    house.send("3", "a", volatile=True)
    house.send("4", "b")
    await house.fanout.written()
    assert both.writes == [["1"], ["2", "3"], ["4"]]
    assert both.volatile == [False, True, False]


async def test_what_comes_while_a_burst_is_written_leaves_together_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fanout_module, "SLICE", 1)
    house = _House(a=CROWD, b=CROWD)
    house.send("first", "a")
    await asyncio.sleep(0)
    for number in range(3):
        house.send(f"b{number}", "b")
        house.send(f"a{number}", "a")
        await asyncio.sleep(0)
    await house.fanout.written()
    assert house.members["a"][-1].writes == [["first"], ["a0", "a1", "a2"]]
    assert house.members["b"][-1].writes == [["b0", "b1", "b2"]]


async def test_many_messages_to_small_rooms_in_one_turn_wait_for_its_end_at_last() -> None:
    house = _House(a=IMMEDIATE_MAX)
    sent = [house.send(str(n), "a") for n in range(2 * IMMEDIATE_IN_A_ROW // IMMEDIATE_MAX)]
    at_once = IMMEDIATE_IN_A_ROW // IMMEDIATE_MAX
    assert [done is None for done in sent] == [n < at_once for n in range(len(sent))]
    await house.fanout.written()
    member = house.members["a"][0]
    assert len(member.writes) == at_once + 1
    assert [int(text) for text in member.texts] == list(range(len(sent)))


async def test_a_message_whose_sender_is_cancelled_before_its_turn_is_not_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fanout_module, "SLICE", 1)
    house = _House(a=CROWD)

    async def send(text: str) -> None:
        delivery = house.send(text, "a")
        assert delivery is not None
        await delivery.written()

    first = asyncio.create_task(send("begun"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # its first member has it
    given_up, kept = asyncio.create_task(send("given up")), asyncio.create_task(send("kept"))
    await asyncio.sleep(0)
    first.cancel()
    given_up.cancel()
    await kept
    assert all(transport.texts == ["begun", "kept"] for transport in house.members["a"])


async def test_a_message_whose_sender_is_cancelled_when_some_have_it_is_written_to_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fanout_module, "SLICE", CROWD)
    house = _House(a=CROWD)
    both = [house.enter(f"both{number}", "a", "b") for number in range(CROWD)]
    delivery = house.send("begun", "a")
    assert delivery is not None
    house.send("other", "b")
    await asyncio.sleep(0)
    assert all(transport.texts == ["begun"] for transport in house.members["a"])
    assert all(transport.texts == [] for transport in both)
    delivery.cancel()
    await house.fanout.written()
    assert all(transport.texts == ["begun", "other"] for transport in both)


async def test_lag_is_the_age_of_the_oldest_message_that_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fanout_module, "SLICE", 1)
    house = _House(a=CROWD)
    assert house.fanout.lag == 0
    house.send("1", "a")
    lags = []
    while house.fanout._is_scheduled:
        lags.append(house.fanout.lag)
        await asyncio.sleep(0)
    assert lags
    assert all(a <= b for a, b in pairwise(lags)), "it gets older"
    assert house.fanout.lag == 0


# What waits is bounded.


async def test_a_flood_from_other_workers_is_refused_but_not_what_another_room_is_sent() -> None:
    house = _House(a=CROWD, b=CROWD)
    payload = Payload.of_text("x" * 100_000)
    taken = 0
    while house.fanout.receive(house.membership, Target(("a",)), payload, volatile=False):
        taken += 1
        assert taken < 10_000
    assert house.fanout.receive(
        house.membership, Target(("b",)), Payload.of_text("quiet"), volatile=False
    )
    await house.fanout.written()
    assert len(house.members["a"][0].texts) == taken
    assert house.members["b"][0].texts == ["quiet"]
    assert house.fanout.receive(house.membership, Target(("a",)), payload, volatile=False)


async def test_empty_messages_are_refused_at_last_as_well() -> None:
    house = _House(a=CROWD)
    payload, taken = Payload.of_text(""), 0
    while house.fanout.receive(house.membership, Target(("a",)), payload, volatile=False):
        taken += 1
        assert taken < 1_000_000
    assert taken > 1000


async def test_a_message_for_nobody_here_is_never_refused() -> None:
    house = _House(a=CROWD)
    payload = Payload.of_text("x" * 1_000_000)
    while house.fanout.receive(house.membership, Target(("a",)), payload, volatile=False):
        pass
    assert house.fanout.receive(house.membership, Target(("none",)), payload, volatile=False)


@pytest.mark.parametrize("here", [True, False])
async def test_volatile_messages_are_skipped_in_a_backlog_and_nobody_is_told(here: bool) -> None:
    house = _House(a=CROWD, b=CROWD)
    payload = Payload.of_text("x" * 1_000_000)
    while house.fanout.receive(house.membership, Target(("a",)), payload, volatile=False):
        pass
    word = Payload.of_text("volatile")
    if here:
        sent = house.fanout.send(house.membership, Target(("b",)), word, volatile=True)
        assert sent is None
    else:
        assert house.fanout.receive(house.membership, Target(("b",)), word, volatile=True)
    await house.fanout.written()
    assert house.members["b"][0].texts == []


async def test_who_sends_here_waits_for_room_in_order_and_nothing_is_refused() -> None:
    house = _House(a=CROWD)
    payload = Payload.of_text("x" * 4_000_000)
    order: list[int] = []
    most_waiting = 0

    async def send(number: int) -> None:
        nonlocal most_waiting
        if house.fanout.is_full:
            await house.fanout.room()
        order.append(number)
        done = house.fanout.send(house.membership, Target(("a",)), payload, volatile=False)
        most_waiting = max(most_waiting, len(order) - len(house.members["a"][0].texts))
        assert done is not None
        await done.written()

    await asyncio.gather(*map(send, range(100)))
    assert order == list(range(100))
    assert len(house.members["a"][0].texts) == 100
    assert most_waiting < 50


async def test_one_who_stops_waiting_for_room_is_passed_over() -> None:
    house = _House(a=CROWD)
    payload = Payload.of_text("x" * 40_000_000)
    house.fanout.send(house.membership, Target(("a",)), payload, volatile=False)
    assert house.fanout.is_full
    impatient = asyncio.create_task(house.fanout.room())
    patient = asyncio.create_task(house.fanout.room())
    await asyncio.sleep(0)
    impatient.cancel()
    await patient
    assert impatient.cancelled()
    assert not house.fanout.is_full


async def test_close_wakes_who_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout_module, "SLICE", 1)
    house = _House(a=CROWD)
    payload = Payload.of_text("x" * 40_000_000)
    house.fanout.send(house.membership, Target(("a",)), payload, volatile=False)
    waiting = asyncio.create_task(house.fanout.room())
    await asyncio.sleep(0)
    house.fanout.close()
    await waiting
    assert house.members["a"][-1].texts == []


async def test_who_comes_when_there_is_room_again_goes_behind_those_who_wait_for_it() -> None:
    house = _House(a=CROWD)
    house.fanout = Fanout(max_lag=0.001)
    member, order = house.members["a"][0], list[int]()

    async def send(number: int) -> None:
        if house.fanout.is_full:
            await house.fanout.room()
        order.append(number)
        done = house.send(str(number).ljust(WRITE_BYTES), "a")
        assert done is not None
        await done.written()

    numbers = itertools.count()
    first = [asyncio.create_task(send(next(numbers))) for _ in range(30)]
    others = []
    while not all(send.done() for send in first):
        others.append(asyncio.create_task(send(next(numbers))))
        await asyncio.sleep(0)
    await asyncio.gather(*first, *others)
    assert order == sorted(order)
    assert [int(text) for text in member.texts] == order
    assert len(order) > len(first)
    assert not house.fanout.is_full
