"""A backend subscribes to rooms of sockets that edges hold, where its handlers are to be told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection

import pytest

from fastapi_rooms import AdapterUnavailable, PresenceEvent, RoomManager
from fastapi_rooms.core.presence import UserEvent
from fastapi_rooms.testing import eventually
from fastapi_rooms.types import Channel
from fastapi_rooms.worker.watching import Watching


class Scene:
    """A manager with handlers for `tea`, and a socket's rooms."""

    def __init__(self) -> None:
        self.rooms = RoomManager(linger=0)
        self.told: list[str] = []
        self.rooms.presence("tea").on("join")(self._tell)
        self.rooms.presence("once").on("join", one_worker=True)(self._tell)
        self.rooms.presence("quiet")
        self.watching = Watching(self.rooms._here)

    def _tell(self, event: PresenceEvent) -> None:
        self.told.append(event.user)

    def hear(self, user: str, version: int) -> None:
        self.rooms._here.presences.received("tea", UserEvent("join", user, version))

    def is_subscribed(self) -> bool:
        runtime = self.rooms._runtime
        return runtime.channels.of_room("/", "tea") in runtime.run._interest


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    async with scene.rooms:
        yield scene


def late_acquire(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Have subscribing wait for the event that is returned."""
    run, go_on = scene.rooms._runtime.run, asyncio.Event()
    acquire = run.acquire

    async def late(channels: Collection[Channel], *, surely: bool = False) -> None:
        await go_on.wait()
        await acquire(channels, surely=surely)

    monkeypatch.setattr(run, "acquire", late)
    return go_on


async def test_it_is_done_where_every_worker_is_told_and_as_long_as_the_socket_is_in(
    scene: Scene,
) -> None:
    await scene.watching.begin(["once", "quiet", "plain"])
    assert not scene.watching._rooms
    await scene.watching.begin(["tea"])
    await scene.watching.begin(["tea"])
    scene.hear("ann", 7)
    assert scene.is_subscribed()
    other = Watching(scene.rooms._here)
    await other.begin(["tea"])
    scene.watching.end("tea")
    scene.watching.end("tea")
    scene.hear("ann", 7)
    scene.hear("bob", 8)
    other.end_all()
    assert not scene.is_subscribed()
    scene.hear("cem", 9)
    await other.begin(["tea"])
    assert not other._rooms, "it is over"
    later = Watching(scene.rooms._here)
    await later.begin(["tea"])
    scene.hear("bob", 8)
    assert scene.told == ["ann", "bob"]
    later.end_all()
    for _ in range(2):
        scene.rooms._here.presences._turn()
    assert not scene.rooms._here.presences._versions


async def test_what_cannot_be_subscribed_to_is_not_heard(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def away(channels: Collection[Channel], *, surely: bool = False) -> None:
        raise AdapterUnavailable("away")

    monkeypatch.setattr(scene.rooms._runtime.run, "acquire", away)
    with pytest.raises(AdapterUnavailable):
        await scene.watching.begin(["tea"])
    scene.watching.begin_soon("tea")
    await eventually(lambda: not scene.watching._tasks)
    assert "Handlers are not told who comes and goes in 'tea': away" in caplog.text
    scene.hear("ann", 7)
    assert scene.told == []


async def test_who_has_left_meanwhile_is_not_subscribed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = late_acquire(scene, monkeypatch)
    scene.watching.begin_soon("tea")
    await eventually(lambda: scene.watching._rooms)
    scene.watching.end_all()
    go_on.set()
    await eventually(lambda: not scene.watching._tasks)
    assert not scene.is_subscribed()


async def test_one_that_leaves_and_comes_again_meanwhile_holds_the_room_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = late_acquire(scene, monkeypatch)
    scene.watching.begin_soon("tea")
    await eventually(lambda: scene.watching._rooms)
    scene.watching.end("tea")
    scene.watching.begin_soon("tea")
    joining = asyncio.create_task(scene.watching.begin(["tea"]))
    await eventually(lambda: scene.watching._rooms)
    assert not joining.done(), "it is not heard from yet"
    go_on.set()
    await joining
    await eventually(lambda: not scene.watching._tasks)
    assert scene.is_subscribed()
    scene.watching.end_all()
    assert not scene.is_subscribed()
    assert not scene.rooms._here.presences._heard


async def test_what_fails_for_one_join_leaves_what_is_held_for_another(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = late_acquire(scene, monkeypatch)
    first = asyncio.create_task(scene.watching.begin(["tea"]))
    second = asyncio.create_task(scene.watching.begin(["tea"]))
    await eventually(lambda: scene.watching._rooms)
    first.cancel()
    await asyncio.wait((first,))
    go_on.set()
    await second
    assert scene.is_subscribed()
    scene.watching.end("tea")
    assert not scene.is_subscribed()


async def test_nothing_begins_after_the_end(scene: Scene) -> None:
    scene.watching.begin_soon("tea")
    scene.watching.end_all()
    await eventually(lambda: not scene.watching._tasks)
    assert not scene.is_subscribed()
    assert not scene.rooms._here.presences._heard
