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
    assert scene.told == ["ann", "bob"]
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
    run, go_on = scene.rooms._runtime.run, asyncio.Event()
    acquire = run.acquire

    async def late(channels: Collection[Channel], *, surely: bool = False) -> None:
        await go_on.wait()
        await acquire(channels, surely=surely)

    monkeypatch.setattr(run, "acquire", late)
    scene.watching.begin_soon("tea")
    await eventually(lambda: scene.watching._rooms)
    scene.watching.end_all()
    go_on.set()
    await eventually(lambda: not scene.watching._tasks)
    assert not scene.is_subscribed()
