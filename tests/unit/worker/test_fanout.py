"""The fan-out: a handful at once, a crowd in slices, and every socket in order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastapi_rooms.core.membership import Membership
from fastapi_rooms.core.payload import Payload, frame_of
from fastapi_rooms.core.target import Target
from fastapi_rooms.transports import Transport
from fastapi_rooms.worker import fanout as fanout_module
from fastapi_rooms.worker.burst import MAX_BATCH_BYTES, Delivery
from fastapi_rooms.worker.fanout import IMMEDIATE_MAX, SLICE, Fanout
from tests.unit.support import FakeTransport

LOBBY = Target(("lobby",))


@pytest.fixture(autouse=True)
def a_machine_that_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a slice ends by its size."""
    monkeypatch.setattr(fanout_module, "SLICE_SECONDS", 60)


class _Room:
    """A lobby of so many members, named by their numbers, and a fan-out to them."""

    def __init__(self, size: int) -> None:
        self.membership: Membership[Transport] = Membership()
        self.transports = [FakeTransport() for _ in range(size)]
        for number, transport in enumerate(self.transports):
            self.membership.add(str(number), transport)
            self.membership.join(str(number), [str(number), "lobby"])
        self.fanout = Fanout(max_lag=1.0)

    def send(self, text: str, target: Target = LOBBY, *, volatile: bool = False) -> Delivery | None:
        payload = Payload.of_text(text)
        return self.fanout.send(self.membership, target, payload, volatile=volatile)

    async def over(self) -> None:
        """Wait until everything sent so far is written."""
        await self.fanout.written()


@pytest.mark.parametrize("size", [1, IMMEDIATE_MAX])
async def test_a_handful_has_it_when_the_call_returns(size: int) -> None:
    room = _Room(size)
    assert room.send("a") is None
    assert all(transport.texts == ["a"] for transport in room.transports)


async def test_nobody_to_write_to_is_over_at_once() -> None:
    room = _Room(3)
    assert room.send("a", Target(("elsewhere",))) is None
    assert all(transport.texts == [] for transport in room.transports)


@pytest.mark.parametrize("size", [IMMEDIATE_MAX + 1, SLICE, SLICE + 1, 3 * SLICE + 7])
async def test_a_crowd_has_it_when_the_delivery_is_written(size: int) -> None:
    room = _Room(size)
    done = room.send("a")
    assert done is not None
    assert room.transports[0].texts == []
    await done.written()
    assert all(transport.texts == ["a"] for transport in room.transports)


async def test_what_is_sent_to_a_crowd_in_one_turn_leaves_in_one_write() -> None:
    room = _Room(IMMEDIATE_MAX + 1)
    for text in "abc":
        room.send(text)
    await room.over()
    assert all(transport.writes == [["a", "b", "c"]] for transport in room.transports)


async def test_messages_are_not_joined_past_a_bound() -> None:
    room = _Room(IMMEDIATE_MAX + 1)
    half = "x" * (MAX_BATCH_BYTES // 2)
    for _ in range(3):
        room.send(half)
    await room.over()
    assert [len(write) for write in room.transports[0].writes] == [2, 1]


async def test_a_crowd_is_written_to_in_slices_and_others_have_the_loop_in_between() -> None:
    room = _Room(3 * SLICE)
    written_at_each_turn = []
    done = asyncio.ensure_future(_wait(room.send("a")))
    while not done.done():
        written_at_each_turn.append(sum(bool(t.texts) for t in room.transports))
        await asyncio.sleep(0)
    assert {0, SLICE, 2 * SLICE, 3 * SLICE} <= set(written_at_each_turn)


async def test_on_a_machine_that_has_none_a_slice_ends_by_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fanout_module, "SLICE_SECONDS", 0)
    room = _Room(SLICE)
    done = asyncio.ensure_future(_wait(room.send("a")))
    written_at_each_turn = []
    while not done.done():
        written_at_each_turn.append(sum(bool(t.texts) for t in room.transports))
        await asyncio.sleep(0)
    assert len(set(written_at_each_turn)) > 4
    assert all(transport.texts == ["a"] for transport in room.transports)


async def _wait(delivery: Delivery | None) -> None:
    assert delivery is not None
    await delivery.written()


async def test_order_is_kept_between_crowds_and_handfuls() -> None:
    room = _Room(SLICE + 1)
    one = Target((str(SLICE),))  # the last member, in the second slice
    room.membership.join("5", ["corner"])
    room.send("a")
    room.send("b", one)
    room.send("c", Target(("corner",)))
    room.send("d", Target())
    room.send("e", one)
    await room.over()
    assert room.transports[SLICE].texts == ["a", "b", "d", "e"]
    assert room.transports[5].texts == ["a", "c", "d"]
    assert room.transports[0].texts == ["a", "d"]


async def test_order_is_kept_while_a_crowd_is_half_written() -> None:
    room = _Room(2 * SLICE)
    room.send("a")
    await asyncio.sleep(0)
    assert room.transports[0].texts == ["a"]
    assert room.transports[-1].texts == []
    room.send("b")
    room.send("c", Target((str(2 * SLICE - 1),)))
    await room.over()
    assert room.transports[0].texts == ["a", "b"]
    assert room.transports[-1].texts == ["a", "b", "c"]


async def test_each_message_leaves_out_whom_it_excludes_although_they_leave_together() -> None:
    room = _Room(IMMEDIATE_MAX + 4)
    room.membership.join("3", ["muted"])
    room.send("from 1", Target(("lobby",), ("1",)))
    room.send("from 2", Target(("lobby",), ("2",)))
    room.send("not to the muted", Target(("lobby",), ("muted", "nowhere")))
    room.send("to all")
    await room.over()
    every = ["from 1", "from 2", "not to the muted", "to all"]
    assert room.transports[0].writes == [every]
    assert room.transports[1].texts == every[1:]
    assert room.transports[2].texts == [every[0], *every[2:]]
    assert room.transports[3].texts == [*every[:2], every[3]]


async def test_a_socket_excluded_from_everything_is_written_nothing() -> None:
    room = _Room(IMMEDIATE_MAX + 2)
    for text in "ab":
        room.send(text, Target(("lobby",), ("1",)))
    await room.over()
    assert room.transports[1].writes == []
    assert room.transports[0].writes == [["a", "b"]]


async def test_volatile_messages_are_written_as_such_and_in_order_with_others() -> None:
    room = _Room(IMMEDIATE_MAX + 1)
    room.send("a")
    room.send("b", Target(("lobby",), ("1",)), volatile=True)
    room.send("c", volatile=True)
    room.send("d")
    await room.over()
    first, second = room.transports[:2]
    assert (first.writes, first.volatile) == ([["a"], ["b", "c"], ["d"]], [False, True, False])
    assert (second.writes, second.volatile) == ([["a"], ["c"], ["d"]], [False, True, False])


async def test_a_handful_is_written_to_as_volatile_when_the_message_is() -> None:
    room = _Room(2)
    room.send("a", volatile=True)
    assert [transport.volatile for transport in room.transports] == [[True], [True]]


async def test_a_message_is_for_those_who_were_there_when_it_was_sent() -> None:
    room = _Room(IMMEDIATE_MAX + 1)
    newcomer = FakeTransport()
    room.send("before")
    room.membership.add("new", newcomer)
    room.membership.join("new", ["lobby"])
    room.send("after")
    await room.over()
    assert newcomer.texts == ["after"]
    assert room.transports[0].texts == ["before", "after"]


async def test_a_socket_in_several_of_the_rooms_has_the_message_once() -> None:
    room = _Room(IMMEDIATE_MAX + 3)
    for number in range(IMMEDIATE_MAX):
        room.membership.join(str(number), ["bar"])
    room.send("a", Target(("lobby", "bar", "0")))
    await room.over()
    assert all(transport.texts == ["a"] for transport in room.transports)


@pytest.mark.parametrize("size", [2, IMMEDIATE_MAX + 2])
@pytest.mark.parametrize("volatile", [False, True])
async def test_clients_that_keep_up_are_given_the_finished_frame(size: int, volatile: bool) -> None:
    room = _Room(size)
    room.transports[0].keep_up()
    room.send("a", volatile=volatile)
    room.send("b", Target(("lobby",), ("0",)), volatile=volatile)
    room.send("c", volatile=volatile)
    await room.over()
    assert b"".join(room.transports[0].frames()) == frame_of(b"a", binary=False) + frame_of(
        b"c", binary=False
    )
    room.transports[0].hang_up()
    assert room.transports[0].writes == []
    assert room.transports[1].texts == ["a", "b", "c"]


async def test_a_crowd_that_keeps_up_is_given_one_frame_for_all_that_was_sent() -> None:
    room = _Room(SLICE + 1)
    keeping_up = [room.transports[n] for n in (0, 1, SLICE - 1, SLICE)]
    for transport in keeping_up:
        transport.keep_up()
    for text in "abc":
        room.send(text)
    await room.over()
    frames = b"".join(frame_of(text.encode(), binary=False) for text in "abc")
    for transport in keeping_up:
        assert transport.frames() == [frames]
        assert transport.writes == []
        transport.hang_up()
    assert room.transports[2].writes == [["a", "b", "c"]]


async def test_messages_of_one_turn_look_up_the_members_of_several_rooms_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = _Room(IMMEDIATE_MAX + 1)
    room.membership.join("0", ["bar"])
    looked_up: list[object] = []
    select = room.membership.select

    def look_up(rooms: tuple[str, ...] | None) -> Any:
        looked_up.append(rooms)
        return select(rooms)

    monkeypatch.setattr(room.membership, "select", look_up)
    room.send("the first", Target(("lobby", "bar")))
    first = len(looked_up)
    for number in range(20):
        room.send(str(number), Target(("lobby", "bar")))
    assert len(looked_up) == first
    await room.over()
    assert len(room.transports[0].texts) == 21


async def test_a_sender_that_stops_waiting_does_not_stop_another() -> None:
    room = _Room(2 * SLICE)
    impatient = asyncio.ensure_future(_wait(room.send("a")))
    patient = asyncio.ensure_future(_wait(room.send("b")))
    await asyncio.sleep(0)
    impatient.cancel()
    await patient
    assert all(transport.texts == ["a", "b"] for transport in room.transports)


async def test_close_drops_what_waits_and_wakes_its_senders() -> None:
    room = _Room(2 * SLICE)
    done = room.send("a")
    assert done is not None
    await asyncio.sleep(0)
    room.fanout.close()
    await done.written()
    assert room.transports[0].texts == ["a"]
    assert room.transports[-1].texts == []


@pytest.mark.parametrize("size", [IMMEDIATE_MAX, IMMEDIATE_MAX + 1])
@pytest.mark.parametrize("volatile", [False, True])
async def test_a_socket_that_cannot_be_written_to_harms_no_other(
    size: int, volatile: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the handle is closed")

    room = _Room(size)
    monkeypatch.setattr(room.transports[0], "write_volatile" if volatile else "write", fail)
    room.send("a", volatile=volatile)
    await room.over()
    assert all(transport.texts == ["a"] for transport in room.transports[1:])
    assert "Writing to a socket failed" in caplog.text
