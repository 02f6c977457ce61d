"""A worker keeps the carrier to what is so, also when that does not do its part."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from fastapi_rooms import MemoryAdapter
from fastapi_rooms.adapters.presence import Changed, Entry, Lease, UserEvent
from fastapi_rooms.core import own_presence
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.presence import comparison
from fastapi_rooms.presence import keeper as keeper_module
from fastapi_rooms.presence.host import Name
from fastapi_rooms.presence.keeper import PresenceKeeper
from fastapi_rooms.testing import eventually
from tests.unit.presence.support import change_each

NODE = "0123456789abcdef"
TEA = Name("/", "tea")
ANN = Entry("sid-ann", "ann")
BOB = Entry("sid-bob", "bob")


class Host:
    """Notes what it is told."""

    def __init__(self, grace: float = 0.0) -> None:
        self.grace = grace
        self.events: list[tuple[str, str]] = []
        self.versions: list[int] = []

    def grace_of(self, name: Name) -> float:
        return self.grace

    def made(self, name: Name, events: Sequence[UserEvent]) -> None:
        self.events += [(event.kind, event.user) for event in events]

    def heard(self, name: Name) -> int:
        return 2**53  # of which the carrier knows nothing

    def compared(self, name: Name, version: int) -> None:
        self.versions.append(version)


class Carrier(MemoryAdapter):
    """In memory; may be told to fail, and counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[BaseException | Changed] = []
        self.changes: list[tuple[list[Entry], list[str]]] = []
        self.syncs = 0
        self.beat_failures: list[Exception] = []

    async def change(self, room: Any, lease: Lease, terms: Any, **what: Any) -> Changed:
        self.changes.append((list(what.get("enter", ())), list(what.get("leave", ()))))
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Changed):
                return failure
            raise failure
        return await super().change(room, lease, terms, **what)

    async def change_rooms(self, lease: Any, changes: Any, done: Any) -> None:
        await change_each(self, lease, changes, done)

    async def sync(self, *args: Any, **options: Any) -> Changed:
        self.syncs += 1
        return await super().sync(*args, **options)

    async def beat(self, *args: Any, **options: Any) -> Any:
        if self.beat_failures:
            raise self.beat_failures.pop(0)
        return await super().beat(*args, **options)


class Nothing:
    """Receives nothing."""

    def received(self, channel: bytes, data: bytes) -> None: ...

    def gap(self, outage: object) -> None: ...


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "RETRY", 0.01)
    monkeypatch.setattr(own_presence, "BEHIND", 0.0)


@pytest.fixture
async def carrier() -> AsyncIterator[Carrier]:
    carrier = Carrier()
    await carrier.start(Nothing(), ())
    yield carrier
    await carrier.close()


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
async def keeper(carrier: Carrier, host: Host) -> AsyncIterator[PresenceKeeper]:
    keeper = PresenceKeeper(
        NODE,
        carrier,
        lambda namespace, room: f"{namespace}#{room}".encode(),
        host,
        0.5,
        connection=lambda: None,
    )
    keeper.start()
    yield keeper
    await keeper.close(1)


async def test_what_comes_in_one_turn_is_one_change(
    keeper: PresenceKeeper, carrier: Carrier, host: Host
) -> None:
    first, second = keeper.enter(TEA, [ANN]), keeper.enter(TEA, [BOB])
    assert first is second
    assert first is keeper.enter(TEA, [Entry("sid-cem", "cem")])
    keeper.leave(TEA, ["sid-cem"])
    await first
    assert carrier.changes == [([ANN, BOB], [])]
    assert host.events == [("join", "ann"), ("join", "bob")]


async def test_who_came_and_went_in_one_turn_is_not_waited_for(
    keeper: PresenceKeeper, carrier: Carrier
) -> None:
    await keeper.enter(TEA, [ANN])
    waiting = keeper.enter(TEA, [BOB])
    keeper.leave(TEA, [BOB.sid])
    await waiting
    rum = Name("/", "rum")
    alone = keeper.enter(rum, [BOB])
    keeper.leave(rum, [BOB.sid])
    await alone
    assert carrier.changes == [([ANN], [])]
    assert rum not in keeper._rooms
    assert not keeper._waiting


@pytest.mark.parametrize(
    "failure", [AdapterUnavailable("away"), ValueError("a bug")], ids=["outage", "bug"]
)
async def test_who_waits_is_told_that_it_failed_and_it_is_tried_again(
    keeper: PresenceKeeper,
    carrier: Carrier,
    failure: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    carrier.failures.append(failure)
    with pytest.raises(AdapterUnavailable):
        await keeper.enter(TEA, [ANN])
    await eventually(lambda: len(carrier.changes) == 2)
    await keeper.enter(TEA, [BOB])
    assert ("a bug" in caplog.text) is isinstance(failure, ValueError)


async def test_a_room_that_says_that_the_lease_is_void_is_not_asked_all_the_time(
    keeper: PresenceKeeper, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "RETRY", 1000)
    carrier.failures += [Changed(True, (), 1, None)] * 100
    entering = keeper.enter(TEA, [ANN])
    await eventually(lambda: carrier.changes)
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(carrier.changes) < 4, "with the lease that it had, and with another"
    assert not entering.done()


async def test_a_grace_is_waited_for_once_whatever_happens_meanwhile(
    keeper: PresenceKeeper, carrier: Carrier, host: Host
) -> None:
    host.grace = 0.2
    await keeper.enter(TEA, [ANN])
    keeper.leave(TEA, [ANN.sid])
    for number in range(50):
        await keeper.enter(TEA, [Entry(f"sid-{number}", "bob")])
    assert len(keeper._graces) == 1
    await eventually(lambda: ("leave", "ann") in host.events)
    assert len(carrier.changes) < 60


async def test_very_many_rooms_are_begun_in_many_turns(
    keeper: PresenceKeeper, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keeper.enter(TEA, [ANN])
    monkeypatch.setattr(keeper_module, "BEGUN_AT_ONCE", 10)
    waiting = [keeper.enter(Name("/", f"room {n}"), [ANN]) for n in range(95)]
    keeper._flush()
    assert len(keeper._due) >= 85
    await asyncio.gather(*waiting)
    assert len(carrier.changes) == 96


async def test_very_many_rooms_are_put_in_again_in_many_turns(
    keeper: PresenceKeeper, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [Name("/", f"room {number}") for number in range(95)]
    await asyncio.gather(*(keeper.enter(name, [ANN]) for name in names))
    await eventually(lambda: not keeper._telling)
    monkeypatch.setattr(keeper_module, "BEGUN_AT_ONCE", 10)
    keeper._sync_all()
    assert not any(room.needs_sync for room in keeper._rooms.values()), "none is touched yet"
    keeper._flush()
    assert len(keeper._telling) == 10
    await eventually(lambda: carrier.syncs == 95)
    assert not any(room.needs_sync for room in keeper._rooms.values())


async def test_a_room_learns_that_it_is_to_be_put_in_again_before_it_changes(
    keeper: PresenceKeeper, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [Name("/", f"room {number}") for number in range(20)]
    await asyncio.gather(*(keeper.enter(name, [ANN]) for name in names))
    carrier.changes.clear()
    monkeypatch.setattr(keeper_module, "BEGUN_AT_ONCE", 1)
    keeper._sync_all()
    await keeper.enter(names[-1], [Entry("another tab", "ann")])
    assert not carrier.changes, "it is no news, and in what is put in again"
    await eventually(lambda: carrier.syncs == 20)


async def test_no_more_rooms_are_told_of_at_once_than_are_answered_in_time(
    keeper: PresenceKeeper, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "TOLD_AT_ONCE", 3)
    most, under_way, change = 0, 0, carrier.change

    async def slowly(*args: Any, **options: Any) -> Changed:
        nonlocal most, under_way
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return await change(*args, **options)

    monkeypatch.setattr(carrier, "change", slowly)
    await asyncio.gather(*(keeper.enter(Name("/", f"room {n}"), [ANN]) for n in range(20)))
    assert (most, len(carrier.changes)) == (3, 20)


async def test_nothing_is_begun_before_there_is_a_lease(
    keeper: PresenceKeeper, carrier: Carrier
) -> None:
    await keeper.enter(TEA, [ANN])
    await eventually(lambda: not keeper._telling)
    carrier.beat_failures += [AdapterUnavailable("away")] * 3
    keeper._lease.doubt(keeper._lease.lease)
    waiting = [keeper.enter(Name("/", f"room {number}"), [ANN]) for number in range(20)]
    await asyncio.sleep(0)
    assert not keeper._telling
    await asyncio.gather(*waiting)
    assert len(carrier.changes) >= 20


async def test_a_lease_that_could_not_be_renewed_is_tried_again_whatever_was_wrong(
    carrier: Carrier, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    carrier.beat_failures += [AdapterUnavailable("away"), ValueError("a bug")]
    keeper = PresenceKeeper(
        NODE, carrier, lambda *_: b"channel", host, 0.01, connection=lambda: None
    )
    keeper.start()
    await keeper.enter(TEA, [ANN])
    assert "a bug" in caplog.text
    await keeper.close(1)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_room_is_told_of_as_a_whole_now_and_then(
    keeper: PresenceKeeper, carrier: Carrier, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keeper.enter(TEA, [ANN])

    def is_compared() -> bool:
        keeper._comparison.hurry()
        return bool(host.versions)

    await eventually(is_compared)
    assert carrier.syncs == 0
    monkeypatch.setattr(comparison, "SYNC_INTERVAL", -1)
    keeper._comparison.hurry()
    await eventually(lambda: carrier.syncs == 1)


async def test_a_comparison_that_fails_is_not_the_last(
    keeper: PresenceKeeper,
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await keeper.enter(TEA, [ANN])

    async def fail() -> None:
        raise ValueError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(keeper._comparison, "_compare_names", fail)
        keeper._comparison.hurry()
        await eventually(lambda: "a bug" in caplog.text)

    def is_compared() -> bool:
        keeper._comparison.hurry()
        return bool(host.versions)

    await eventually(is_compared)
