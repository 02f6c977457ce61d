"""Two workers and a Redis of their own, a member of one room on each, and no pause in their talk.

A fault is done to them; then `Scene.judge` looks at every single message that was said.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from fastapi_rooms import Adapter, Gap, Health, OutboxPolicy, RedisAdapter, RoomManager
from fastapi_rooms.testing import (
    Member,
    Proxy,
    ProxyConnection,
    RabbitMQServer,
    RedisServer,
    eventually,
)
from tests.faults.support import HANGS, Talk, behind, talking

ROOM = "lobby"

ROOMY = OutboxPolicy(max_bytes=64 * 1024 * 1024)
"""No member is given up here: what they have heard is to be looked at to the end."""


class Worker:
    """One of the two: its manager, its wire to Redis, and the member who talks and hears there."""

    def __init__(self, name: str, rooms: RoomManager, wire: Proxy) -> None:
        self.name = name
        self.rooms = rooms
        self.wire = wire
        self.gaps: list[Gap] = []
        rooms.on("gap")(self.gaps.append)
        self.member: Member
        self.talk: Talk
        self.health: Health
        """How it was at the end, before it was closed."""

    def heard_of(self, other: Worker) -> list[str]:
        """What its member has heard the other one say, in the order it came."""
        texts = (text for text in self.member.unread if isinstance(text, str))
        return [text for text in texts if text.startswith(f"{other.name} ")]

    def has_heard(self, other: Worker, number: int) -> bool:
        """Whether it has heard so much of the other one, or more."""
        heard = self.heard_of(other)
        return bool(heard) and _number(heard[-1]) >= number

    def has_heard_the_last_of(self, workers: Sequence[Worker]) -> bool:
        """Whether it has heard that all of these have stopped."""
        return all(_last_of(worker) in self.member.unread for worker in workers)

    def was_told_of(self, text: str, speaker: Worker) -> bool:
        """Whether a gap says that it may have missed this."""
        said = speaker.talk.answers[text]
        return any(
            ROOM in gap.rooms and gap.since <= said.answered and said.begun <= gap.until
            for gap in self.gaps
        )


class Stage:
    """The two workers, and what is noticed of a fault."""

    def __init__(self, near: Worker, far: Worker) -> None:
        self.near = near
        self.far = far
        self.workers = (near, far)
        self.began = time.time()

    async def is_noticed(self, *workers: Worker) -> None:
        """Wait until the health of these has turned red, be it green again or not."""
        for worker in workers:
            await eventually(partial(self._has_noticed, worker), what=f"{worker.name} noticed")

    def _has_noticed(self, worker: Worker) -> bool:
        return worker.rooms.health.since > self.began

    async def is_red(self, *workers: Worker) -> None:
        """Wait until these have noticed, and cannot do anything about it."""
        await eventually(
            lambda: not any(worker.rooms.health.ready for worker in workers), what="health is red"
        )

    async def flows(self) -> None:
        """Wait until each hears what the other says from now on, and health is green."""
        said = {worker: worker.talk.said for worker in self.workers}
        for speaker, hearer in ((self.near, self.far), (self.far, self.near)):
            await eventually(
                partial(hearer.has_heard, speaker, said[speaker] + 50),
                HANGS,
                what=f"{hearer.name} hears {speaker.name} again",
            )
        await eventually(
            lambda: all(worker.rooms.health.ready for worker in self.workers),
            HANGS,
            what="health is green",
        )

    def judge(self) -> None:
        """Every message is where it must be, or its absence was told; and none is out of place."""
        for speaker in self.workers:
            everything = list(speaker.talk.answers)
            assert speaker.heard_of(speaker) == everything, "local members hear everything"
            for hearer in self.workers:
                heard = hearer.heard_of(speaker)
                numbers = [_number(text) for text in heard]
                assert numbers == sorted(set(numbers)), "in order, and nothing twice"
                missed = set(everything).difference(heard).difference(speaker.talk.refused)
                untold = [text for text in missed if not hearer.was_told_of(text, speaker)]
                assert untold == [], f"accepted, lost to {hearer.name}, and in no gap"


class Scene(Stage):
    """The two workers, and their Redis."""

    def __init__(self, server: RedisServer, near: Worker, far: Worker) -> None:
        super().__init__(near, far)
        self.server = server

    def connection(self, worker: Worker, kind: str) -> ProxyConnection:
        """One connection of a worker, to be broken: a `pubsub` or a `normal` one."""
        return behind(worker.wire, self.server, kind)


def _last_of(worker: Worker) -> str:
    return f"that was {worker.name}"


def _number(text: str) -> int:
    return int(text.rpartition(" ")[2])


@asynccontextmanager
async def scene(
    server: RedisServer, options: Mapping[str, Mapping[str, Any]], *, size: int = 0
) -> AsyncIterator[Scene]:
    """Raise the curtain; at the end everyone goes, and nothing may be left of them.

    `options` are those of each worker's adapter, by the worker's name. `size` is how many messages
    the room remembers.
    """

    def adapter_of(wire: Proxy, name: str) -> RedisAdapter:
        return RedisAdapter(server.url_of(wire.host, wire.port), **options.get(name, {}))

    async with two_workers(server, adapter_of, size=size) as workers:
        yield Scene(server, *workers)
    await eventually(lambda: not server.connections(), what="Redis has no connection of ours")


@asynccontextmanager
async def two_workers(
    server: RedisServer | RabbitMQServer,
    adapter_of: Callable[[Proxy, str], Adapter],
    *,
    size: int = 0,
) -> AsyncIterator[tuple[Worker, Worker]]:
    """The two, and their talk; `adapter_of` makes the adapter over a wire, by a worker's name."""
    tasks = asyncio.all_tasks()
    async with AsyncExitStack() as stack:
        workers = []
        for name in ("near", "far"):
            wire = await stack.enter_async_context(Proxy(server.host, server.port))
            rooms = RoomManager(adapter_of(wire, name), outbox=ROOMY)
            worker = Worker(name, rooms, wire)
            if size:
                worker.rooms.history(ROOM, size=size)
            await stack.enter_async_context(worker.rooms)
            worker.member = await stack.enter_async_context(Member(worker.rooms, ROOM))
            workers.append(worker)
        async with AsyncExitStack() as talks:
            for worker in workers:
                talk = talking(worker.rooms, ROOM, f"{worker.name} ")
                worker.talk = await talks.enter_async_context(talk)
            near, far = workers
            yield near, far
        for worker in workers:  # what was said before this has been heard when this has
            await worker.rooms.to(ROOM).send_text(_last_of(worker))
        for worker in workers:
            await eventually(partial(worker.has_heard_the_last_of, workers))
            worker.health = worker.rooms.health
    left = [task for task in asyncio.all_tasks() - tasks if not task.done()]
    assert left == [], "tasks are left behind"


def lines_of(records: list[logging.LogRecord]) -> list[str]:
    """The levels of our log's lines, and what each begins with."""
    ours = (record for record in records if record.name == "fastapi_rooms")
    return sorted(f"{r.levelname} {r.getMessage().split(',')[0].split(' after')[0]}" for r in ours)
