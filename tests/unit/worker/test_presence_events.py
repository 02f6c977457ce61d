"""Handlers are told of each event once, in its place; what is made up silences no true ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from fastapi_rooms import (
    ConfigurationError,
    NotStarted,
    Presence,
    PresenceEvent,
    RoomManager,
    UsageError,
)
from fastapi_rooms.adapters.presence import Lease, RoomKey, Terms, UserEvent
from fastapi_rooms.core import own_presence
from fastapi_rooms.core.presence import Entry
from fastapi_rooms.presence.host import Name
from fastapi_rooms.testing import Cluster, eventually
from fastapi_rooms.wire import presence as wire
from fastapi_rooms.worker import presences as module
from tests.unit.presence.support import CarrierInHand
from tests.unit.support import FakeAdapter

ROOM = "chat-tea"
NAME = Name("/", ROOM)


class Scene(NamedTuple):
    """One worker with a member, and what its handlers were told."""

    rooms: RoomManager
    presence: Presence
    told: list[str]
    told_one: list[str]
    cluster: Cluster

    def hear(self, kind: str, user: str, version: int, room: str = ROOM) -> None:
        """Something comes by the channel of a room."""
        event = UserEvent("join" if kind == "join" else "leave", user, version)
        channel = self.rooms._runtime.channels.of_room("/", room)
        data = wire.encode(f"/#{room}".encode(), event)
        self.rooms._runtime.run.received(channel, data)

    @property
    def version(self) -> int:
        return self.rooms._here.presences.heard(ROOM)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    carrier = CarrierInHand()
    manager = RoomManager(carrier, linger=0)
    presence = manager.presence("chat-*", user="name", grace=0)
    told: list[str] = []
    told_one: list[str] = []

    @presence.on("join")
    @presence.on("leave")
    def tell(event: PresenceEvent) -> None:
        told.append(f"{event.kind} {event.user}")

    @presence.on("join", one_worker=True)
    @presence.on("leave", one_worker=True)
    async def tell_one(event: PresenceEvent) -> None:
        told_one.append(f"{event.kind} {event.user}")

    cluster = Cluster(1, of=manager, adapter=lambda: carrier)
    async with cluster:
        await cluster.member(cluster[0], ROOM, data={"name": "ann"})
        await eventually(lambda: told == ["join ann"])
        yield Scene(cluster[0], presence.of(cluster[0]), told, told_one, cluster)


async def test_each_event_is_told_once_whether_it_comes_before_or_after_the_reply(
    scene: Scene,
) -> None:
    presences, first = scene.rooms._here.presences, scene.version
    scene.hear("join", "bob", first + 1)
    presences.made(ROOM, [UserEvent("join", "bob", first + 1)])  # its reply comes after it
    presences.made(ROOM, [UserEvent("join", "cem", first + 2)])
    scene.hear("join", "cem", first + 2)
    presences.made(ROOM, [UserEvent("join", "eve", first + 4)])  # one before it is on its way
    scene.hear("join", "dan", first + 3)
    scene.hear("join", "eve", first + 4)
    assert scene.told == [f"join {user}" for user in ("ann", "bob", "cem", "dan", "eve")]
    await eventually(
        lambda: sorted(scene.told_one) == ["join ann", "join bob", "join cem", "join eve"]
    )


async def test_who_came_before_it_was_subscribed_is_told_of_once_though_others_are_heard_first(
    scene: Scene,
) -> None:
    presences, first = scene.rooms._here.presences, scene.version
    presences.forget()  # as if it were about to subscribe
    scene.hear("join", "bob", first + 3)
    for _ in range(2):
        presences.made(ROOM, [UserEvent("join", "bob", first + 3)])
    presences.made(ROOM, [UserEvent("join", "cem", first + 2)])
    scene.hear("join", "dan", first + 4)
    presences.made(ROOM, [UserEvent("join", "dan", first + 4)])
    presences.compared(ROOM, first)  # what was heard was forged, or the carrier has lost it
    scene.hear("join", "eve", first + 1)
    presences.made(ROOM, [UserEvent("join", "eve", first + 1)])
    assert scene.told == [f"join {user}" for user in ("ann", "bob", "cem", "dan", "eve")]


async def test_what_was_told_before_all_left_is_not_told_to_who_comes_in_then(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 0.01)
    presences, version = scene.rooms._here.presences, scene.version
    carrier, keeper = scene.rooms._runtime.adapter, scene.rooms._runtime.presence.running
    assert isinstance(carrier, CarrierInHand)
    carrier.hold()
    await scene.rooms.to(ROOM).sockets_leave(ROOM)
    await eventually(lambda: carrier.waiting == 1)
    for _ in range(3):
        presences._turn()  # for as long as it takes to be answered
    bob = asyncio.create_task(scene.cluster.member(scene.rooms, ROOM, data={"name": "bob"}))
    await eventually(lambda: keeper.has(NAME))
    scene.hear("join", "ann", version)
    presences.made(ROOM, [UserEvent("join", "ann", version)], once=set())
    assert scene.told == ["join ann"]
    scene.hear("join", "cem", version + 10)
    presences.made(ROOM, [UserEvent("join", "ann", version)], once=set())  # nor before that
    carrier.release()
    await (await bob).close()
    assert scene.told == ["join ann", "join cem", "leave ann", "join bob"]
    await eventually(lambda: not keeper._rooms)
    await eventually(lambda: not presences._versions, what="nothing is kept")
    assert presences._next_turn is None


async def test_a_number_that_is_used_anew_after_lost_writes_is_no_repetition(scene: Scene) -> None:
    presences, first = scene.rooms._here.presences, scene.version
    for version, user in enumerate(("bob", "cem"), first + 1):
        scene.hear("join", user, version)
    for _ in range(2):
        scene.hear("join", "cem", first + 2)  # the same by another way
        scene.hear("join", "dan", first + 1)  # by a worker that knew of neither
    presences.made(ROOM, [UserEvent("join", "dan", first + 1)])
    scene.hear("leave", "dan", first + 2)
    assert scene.told == [*(f"join {user}" for user in ("ann", "bob", "cem", "dan")), "leave dan"]
    assert scene.version == first + 2, "what this worker does next is above all of it"


async def test_an_event_that_an_edge_hands_over_twice_is_told_once(scene: Scene) -> None:
    presences, first = scene.rooms._here.presences, scene.version
    presences._versions.forget()
    scene.hear("join", "dan", first + 4)
    bob, cem = UserEvent("join", "bob", first + 2), UserEvent("join", "cem", first + 3)
    presences.made(ROOM, [bob, cem], {cem.version})
    presences.made(ROOM, [bob], {bob.version})
    await eventually(lambda: len(scene.told_one) >= 3)
    told = [text for text in scene.told if "ann" not in text]
    assert sorted(told) == ["join bob", "join cem", "join dan"]


async def test_what_is_of_another_room_or_namespace_is_nothing_here(scene: Scene) -> None:
    scene.hear("join", "bob", 7, room="chat-other")
    scene.hear("join", "bob", 7, room="lobby")
    channel = scene.rooms._runtime.channels.of_room("/", ROOM)
    event = UserEvent("join", "bob", 7)
    scene.rooms._runtime.run.received(channel, wire.encode(b"/nowhere#tea", event))
    scene.rooms._here.presences.made("lobby", [event])
    scene.rooms._runtime.presence.made(Name("/nowhere", "tea"), [event])
    scene.rooms._runtime.presence.compared(Name("/nowhere", "tea"), 1)
    assert scene.rooms._runtime.presence.heard(Name("/nowhere", "tea")) == 0
    assert scene.rooms._runtime.presence.grace_of(Name("/nowhere", "tea")) == 10
    assert scene.told == ["join ann"]
    assert [*scene.rooms._here.presences._versions._last] == [ROOM]


async def test_garbage_is_counted_and_nothing_else(scene: Scene) -> None:
    run = scene.rooms._runtime.run
    before = run.malformed
    run.received(b"", wire.BEGINNING + b"join x")
    assert run.malformed == before + 1


async def test_where_nobody_listens_events_are_not_even_read(scene: Scene) -> None:
    run = scene.rooms._runtime.run
    before = run.malformed
    for rule in scene.rooms._here.handlers.presence._declared.values():
        rule._handlers.clear()
    run.received(b"", wire.BEGINNING + b"join x")
    assert run.malformed == before


async def test_a_version_that_somebody_has_made_up_does_not_silence_the_true_ones(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.hear("leave", "ann", 2**53)
    assert scene.told == ["join ann", "leave ann"], "who may write to the channel is believed"
    monkeypatch.setattr(own_presence, "BEHIND", 0)
    keeper = scene.rooms._runtime.presence.running

    def is_found_out() -> bool:
        keeper._comparison.hurry()
        return scene.version < 2**53

    await eventually(is_found_out)
    adapter, lease = scene.rooms._runtime.adapter, Lease("f" * 16, 1)
    assert isinstance(adapter, CarrierInHand)
    key = RoomKey(NAME.key, scene.rooms._runtime.channels.of_room(*NAME))
    await adapter.change(key, lease, Terms(0), enter=[Entry("x", "bob")])
    await eventually(lambda: scene.told == ["join ann", "leave ann", "join bob"])


async def test_what_is_true_is_not_taken_back(scene: Scene) -> None:
    presences = scene.rooms._here.presences
    presences.compared(ROOM, scene.version + 1)
    presences.compared("chat-other", 5)
    assert presences.heard("chat-other") == 0
    await scene.cluster.member(scene.rooms, ROOM, data={"name": "bob"})
    await eventually(lambda: scene.told == ["join ann", "join bob"])


async def test_what_was_told_over_a_connection_that_only_asks_may_be_lost_with_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    presence = scene.rooms._runtime.presence
    before = presence._connection()
    assert presence._connection() == before
    monkeypatch.setattr(scene.rooms._runtime.adapter, "relinks", lambda: 1)
    assert presence._connection() != before


async def test_handlers_that_raise_or_are_slow_hold_up_nobody(scene: Scene) -> None:
    never = asyncio.Event()

    @scene.presence.on("join")
    def fail(event: PresenceEvent) -> None:
        raise RuntimeError("a bug")

    @scene.presence.on("join")
    async def slow(event: PresenceEvent) -> None:
        await never.wait()

    await scene.cluster.member(scene.rooms, ROOM, data={"name": "bob"})
    await eventually(lambda: scene.told == ["join ann", "join bob"])
    never.set()


async def test_what_fails_as_an_event_comes_in_does_not_harm_the_reception(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scene.rooms._here.presences, "_is_here", lambda room: 1 / 0)
    scene.hear("join", "bob", scene.version + 1)
    assert "could not be told that a user came or went" in caplog.text


async def test_an_event_knows_its_namespace_and_there_are_two_kinds(scene: Scene) -> None:
    found: list[object] = []

    @scene.presence.on("join")
    def keep(event: PresenceEvent) -> None:
        found.append(event.namespace)

    await scene.cluster.member(scene.rooms, ROOM, data={"name": "bob"})
    await eventually(lambda: found == [scene.rooms])
    assert repr(scene.presence) == "<Presence of 'chat-*' in />"
    with pytest.raises(ConfigurationError, match="no event 'gone' of presence"):
        scene.presence.on("gone")(keep)  # type: ignore[arg-type]  # what is refused


# Questions.


async def test_who_is_present_is_asked_of_declared_rooms_only(scene: Scene) -> None:
    assert [user.user for user in (await scene.presence.users(ROOM)).users] == ["ann"]
    assert await scene.presence.rooms("ann") == {ROOM}
    assert await scene.presence.is_present("ann", ROOM)
    assert await scene.presence.count("chat-other") == 0
    with pytest.raises(UsageError, match="does not know who is present"):
        await scene.presence.count("lobby")
    for asked in (scene.presence.is_present("", ROOM), scene.presence.rooms("")):
        with pytest.raises(UsageError, match=r"^A user must be .* this one is empty"):
            await asked


# Runs.


async def test_nothing_can_be_asked_or_joined_outside_of_a_run() -> None:
    manager = RoomManager()
    presence = manager.presence("chat-*")
    with pytest.raises(NotStarted):
        await presence.count(ROOM)
    with pytest.raises(NotStarted):
        _ = manager._runtime.presence.running
    manager._here.presences.left(ROOM, ["1"])
    await manager._runtime.presence.stop(1)
    async with manager:
        assert await presence.count(ROOM) == 0
        with pytest.raises(ConfigurationError, match="before the manager starts"):
            manager.presence("more-*")
    async with manager:  # once more
        assert await presence.count(ROOM) == 0


@pytest.mark.parametrize("user", ["", 7, b"name"])
def test_a_user_is_a_key_or_a_function(user: object) -> None:
    with pytest.raises(ConfigurationError, match="user is a key of"):
        RoomManager().presence("chat-*", user=user)  # type: ignore[arg-type]  # what is refused


async def test_an_adapter_that_knows_nothing_of_presence_is_refused_at_the_start() -> None:
    manager = RoomManager(FakeAdapter())
    manager.presence("chat-*")
    with pytest.raises(ConfigurationError, match=r"presence\('chat-\*'\) needs an adapter"):
        await manager.start()


async def test_an_observer_asks_and_keeps_nothing() -> None:
    carrier = CarrierInHand()
    manager = RoomManager(carrier, observer=True)
    presence = manager.presence("chat-*")
    async with manager:
        assert await presence.count(ROOM) == 0
        assert manager._runtime.presence.keeper is None
        event = wire.encode(f"/#{ROOM}".encode(), UserEvent("join", "ann", 1))
        manager._runtime.run.received(b"", event)
    assert carrier.asked == []


@pytest.mark.parametrize("what", ["bury", "cancelled"])
async def test_a_run_ends_and_closes_its_adapter_though_presence_cannot_end(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    carrier = CarrierInHand()
    manager = RoomManager(carrier)
    manager.presence("chat-*")
    await manager.start()
    keeper = manager._runtime.presence.running
    await eventually(lambda: keeper._lease.is_valid)
    closed: list[bool] = []
    close = carrier.close

    async def note() -> None:
        closed.append(True)
        await close()

    monkeypatch.setattr(carrier, "close", note)
    carrier.errors["bury"] = RuntimeError("a bug")
    if what == "bury":
        with pytest.raises(RuntimeError, match="a bug"):
            await manager.stop()
    else:
        del carrier.errors["bury"]
        carrier.hold()
        told = keeper.enter(NAME, [Entry("1", "ann")])
        stop = asyncio.create_task(manager.stop())
        await eventually(lambda: carrier.waiting == 1)
        await asyncio.sleep(0)
        stop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stop
        assert told.cancelled()
        assert not {t for t in asyncio.all_tasks() if "fastapi_rooms" in t.get_name()}
    assert closed == [True]
    assert manager._runtime.presence.keeper is None


async def test_a_namespace_that_goes_away_takes_its_rooms_with_it() -> None:
    manager = RoomManager()
    admin = manager.of("/admin")
    presence = admin.presence("chat-*", grace=0)
    other = manager.presence("chat-*", grace=0)
    async with Cluster(2, of=manager) as cluster:
        one, two = cluster
        member = await cluster.member(one.of("/admin"), ROOM)
        assert await presence.of(two.of("/admin")).count(ROOM) == 1
        assert await other.of(two).count(ROOM) == 0
        await member.close()
        await eventually(lambda: not one._runtime.presence.running._rooms)
        assert await presence.of(two.of("/admin")).count(ROOM) == 0
