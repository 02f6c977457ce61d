"""What a manager learns of rooms whose application is elsewhere, as an edge's does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from fastapi_rooms import AdapterUnavailable, ConfigurationError, MemoryAdapter, RoomManager
from fastapi_rooms.adapters.declarations import (
    STALE,
    Declaration,
    HistoryDeclaration,
    PresenceDeclaration,
)
from fastapi_rooms.adapters.history import Retention
from fastapi_rooms.presence.host import Name
from fastapi_rooms.testing import Member
from fastapi_rooms.worker.learning import Learner
from tests.unit.support import FakeAdapter

TEA = HistoryDeclaration("/", "tea-*", Retention(9, 60.0))
WHO = PresenceDeclaration("/chat", "who-*", 1.5)


class Carrier(MemoryAdapter):
    """One that says what the test has it say, and what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.says: Sequence[Declaration] = ()
        self.told: list[Declaration] = []

    async def declare(self, declarations: Sequence[Declaration]) -> None:
        self.told += declarations

    async def declared(self) -> list[Declaration]:
        return list(self.says)


class Edge:
    """A manager that learns."""

    def __init__(self) -> None:
        self.carrier = Carrier()
        self.rooms = RoomManager(self.carrier, linger=0)
        self._learner = Learner(self.rooms._runtime, lambda name: self.rooms.of(name)._here)
        self.forget = self._learner.forget

    async def learn(self, *says: Declaration) -> None:
        self.carrier.says = says
        await self._learner.learn()

    def size(self, room: str) -> int | None:
        retention = self.rooms._here.recovery.patterns.find(room)
        return None if retention is None else retention.size

    def grace(self, namespace: str, room: str) -> float | None:
        rule = self.rooms.of(namespace)._here.presences.rule_of(room)
        return None if rule is None else rule.grace


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    edge = Edge()
    async with edge.rooms:
        yield edge


async def test_it_goes_by_what_others_declare_and_does_not_tell_it_on(edge: Edge) -> None:
    with pytest.raises(ConfigurationError):
        edge.rooms.history("tea-*")
    await edge.learn(TEA, WHO)
    assert edge.size("tea-1") == 9
    assert edge.grace("/chat", "who-1") == 1.5
    assert "/chat" in edge.rooms._runtime.namespaces, "messages reach it"
    assert edge.carrier.told == []
    async with Member(edge.rooms, "tea-1") as member:
        await edge.rooms.to("tea-1").send_text("kept")
        assert await member.receive() == "kept"
        assert [message.text for message in await edge.rooms.recent("tea-1")] == ["kept"]


async def test_what_changes_counts_and_what_is_gone_stays_for_rooms_in_use(edge: Edge) -> None:
    await edge.learn(TEA, WHO)
    async with Member(edge.rooms, "tea-1"):
        await edge.learn(TEA._replace(retention=Retention(5, 60.0)), WHO)
        assert edge.size("tea-2") == 5
        await edge.learn(WHO._replace(grace=3))
        assert edge.grace("/chat", "who-1") == 3
        assert edge.size("tea-1") == 5
    edge.forget()
    assert edge.size("tea-1") is None
    assert edge.grace("/chat", "who-1") is None
    assert "/chat" not in edge.rooms._runtime.namespaces


async def test_a_carrier_that_was_emptied_is_not_believed_at_once(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    await edge.learn(TEA)
    await edge.learn()
    assert edge.size("tea-1") == 9
    edge._learner._known_at -= STALE + 1
    await edge.learn()
    assert edge.size("tea-1") is None


async def test_what_its_own_application_has_declared_stays() -> None:
    edge = Edge()
    edge.rooms.history("tea-*", size=7)
    async with edge.rooms:
        await edge.learn(TEA, HistoryDeclaration("/", "tea-green", Retention(2, 60.0)))
        assert [edge.size("tea-1"), edge.size("tea-green")] == [7, 2]
        assert [each.pattern for each in edge.carrier.told] == ["tea-*"]


async def test_sockets_of_its_own_application_are_nobody_by_what_others_declare(
    edge: Edge,
) -> None:
    await edge.learn(WHO._replace(namespace="/"))
    async with Member(edge.rooms, "who-1") as member:
        await edge.rooms.to("who-1").send_text("in it")
        assert await member.receive() == "in it"
        assert not edge.rooms._runtime.presence.running.has(Name("/", "who-1"))


async def test_members_of_rooms_that_remember_since_now_miss_nothing_from_then_on(
    edge: Edge,
) -> None:
    other = RoomManager(MemoryAdapter(edge.carrier.bus))
    other.history("tea-*", size=9)
    async with other, Member(edge.rooms, "tea-1") as member:
        await other.to("tea-1").send_text("before")
        await edge.learn(TEA)
        await other.to("tea-1").send_text("after")
        assert [await member.receive() for _ in range(2)] == ["before", "after"]
        logs = edge.rooms._here.recovery.logs
        edge.carrier.unsubscribe([edge.rooms._runtime.channels.of_room("/", "tea-1")])
        await other.to("tea-1").send_text("missed")
        edge.carrier.want([edge.rooms._runtime.channels.of_room("/", "tea-1")])
        await other.to("tea-1").send_text("heard")
        assert [await member.receive() for _ in range(2)] == ["missed", "heard"]
        assert [one.message.payload.text for one in logs.recent("tea-1", 2)] == ["missed", "heard"]


async def test_a_carrier_that_knows_of_none_is_not_asked(adapter: FakeAdapter) -> None:
    rooms = RoomManager(adapter)
    async with rooms:
        await Learner(rooms._runtime, lambda name: rooms.of(name)._here).learn()
        assert not rooms._here.recovery


async def test_what_cannot_be_read_changes_nothing(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    await edge.learn(TEA)

    async def away() -> list[Declaration]:
        raise AdapterUnavailable("away")

    monkeypatch.setattr(edge.carrier, "declared", away)
    with pytest.raises(AdapterUnavailable):
        await edge.learn()
    assert edge.size("tea-1") == 9
