"""Three workers on one Redis, the wire between them, and people who come to rooms that remember."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from fastapi_rooms.testing import RedisProxy, RedisServer, eventually
from tests.framed_client import Framing
from tests.integration.clients import Client, Message, dial, http
from tests.integration.servers import Server, Start, uvicorn
from tests.integration.speakers import Speaker
from tests.integration.workers import Workers

T = TypeVar("T")

SHORT = 10
"""How many messages the rooms `short-*` keep."""

HISTORY = {
    "*": {"size": 20_000, "ttl": 600},
    "short-*": {"size": SHORT, "ttl": 600},
    "brief-*": {"size": 100, "ttl": 1},
}
"""The rooms that remember; each test has one that is named after it."""

OUTBOX_BYTES = 2 * 1024 * 1024


def start_worker(start: Start, url: str, **environment: str) -> Server:
    """A worker of a server of its own, which is not waited for."""
    options = {"HISTORY": json.dumps(HISTORY), "OUTBOX_BYTES": str(OUTBOX_BYTES)}
    return start(uvicorn(), ROOMS_URL=url, **options | environment)


def three_workers(start: Start, url: str) -> Workers:
    """Three of them, once they answer."""
    return Workers.each_of([start_worker(start, url) for _ in range(3)])


class Wire:
    """The wire between the workers and Redis, in a thread, so that it is there between tests, too.

    Args:
        server: the Redis at its other end.
    """

    def __init__(self, server: RedisServer) -> None:
        self._proxy = RedisProxy(server)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire")

    @property
    def url(self) -> str:
        """The `redis://` URL through it."""
        return self._proxy.url

    def do(self, action: Callable[[RedisProxy], T]) -> T:
        """Do something to it, and return when it is done."""

        async def do() -> T:
            return action(self._proxy)

        return self._run(do())

    def lead_to(self, server: RedisServer) -> None:
        """Lead to another Redis from now on, and reset what leads to the last one."""
        self.do(lambda proxy: proxy.lead_to(server.host, server.port))
        self.do(lambda proxy: proxy.cut())

    def _run(self, work: Awaitable[T]) -> T:
        async def run() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._proxy.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._proxy.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class FramedClient(Client):
    """A connection that speaks the framing."""

    def __init__(self, person: Person, *arguments: Any) -> None:
        self._person = person
        super().__init__(*arguments)

    @classmethod
    async def of(cls, person: Person, server: Server, query: str, **options: Any) -> FramedClient:
        """A new one of a person's."""
        connection = await dial(server, f"/ws?fastapi_rooms=1{query}", **options)
        await connection.send(person.framing.greet(await connection.recv()))
        (welcome,) = person.framing.read(await connection.recv())
        said = json.loads(welcome)
        return cls(person, connection, said["sid"], said["worker"])

    def _messages_in(self, frame: Message) -> list[Message]:
        return self._person.framing.read(frame)

    def _hear(self, message: Message) -> None:
        self._person.heard.append(message)


class Person:
    """Somebody who is in a room, on one worker after another.

    Args:
        workers: where they may come to.
        room: where they are when they have come.
    """

    def __init__(self, workers: Workers, room: str) -> None:
        self._workers = workers
        self._room = room
        self.framing = Framing()
        self.client: FramedClient
        self.heard: list[Message] = []
        """All messages, on whatever connection."""
        self.recovered: bool | None = None
        """What the last join has brought, as the endpoint sees it."""
        self.replayed = 0

    async def comes(self, worker: int, query: str = "", **options: Any) -> None:
        """Come to a worker, and into the room, to go on where they were; or raise `Refused`."""
        server = self._workers.server(worker)
        self.client = await FramedClient.of(self, server, query, **options)
        joined = await self.client.socket.join(self._room)
        self.recovered, self.replayed = joined["recovered"], joined["replayed"]
        known = [recovered for room, recovered in self.framing.joins if room == self._room]
        assert known[-1] == self.recovered, "client and endpoint are told the same"

    async def is_cut_off(self) -> None:
        """Lose the connection; what has come until then counts as heard."""
        self.client.vanish()
        await self.client.closed()

    async def hears(self, last: Message) -> list[Message]:
        """Wait until a message has come; return all that have."""
        await eventually(lambda: last in self.heard, what=f"{last!r} is heard")
        return self.heard

    @property
    def position(self) -> str | None:
        """How far they have got."""
        return self.framing.positions.get(self._room)

    async def is_at(self, position: str) -> None:
        """Wait until they know that they have everything up to there."""
        await eventually(lambda: self.position == position, what=f"being at {position}")


def assert_all_heard_all(people: Sequence[Person], speakers: Sequence[Speaker]) -> None:
    """Everyone has heard everything that was accepted, in one order, and once."""
    (first, *others) = [[m for m in p.heard if str(m).startswith("speaker")] for p in people]
    for other in others:
        assert other == first, "one order everywhere"
    for number, speaker in enumerate(speakers):
        assert speaker.refused == []
        assert [m for m in first if str(m).startswith(f"speaker-{number} ")] == [*speaker.said]
    assert len(first) == sum(len(speaker.said) for speaker in speakers)


async def gaps_in(workers: Workers, worker: int, room: str) -> int:
    """How often a worker was told that something in a room is lost."""
    return sum(room in rooms for _, _, rooms in (await workers.state(worker))["gaps"])


async def all_ready(workers: Workers) -> None:
    """Wait until all of them are connected to Redis."""

    async def all_are() -> bool:
        return all([(await http(workers.server(n), "/health"))["ready"] for n in range(3)])

    await eventually(all_are, what="all workers are ready")


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Hold a process."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def replicated(redis: RedisServer, wire: Wire) -> AsyncIterator[Failover]:
    """Give Redis a replica, to fail over to; at the end everything is as it was."""
    redis.admin.config_set("repl-diskless-sync-delay", 0)
    async with RedisServer() as replica:
        failover = Failover(redis, replica, wire)
        replica.command("REPLICAOF", redis.host, str(redis.port))
        await failover.is_in_step()
        try:
            yield failover
        finally:
            if not redis.is_running:
                await start(redis)
            wire.lead_to(redis)


class Failover:
    """A Redis, its replica, and the way to them."""

    def __init__(self, master: RedisServer, replica: RedisServer, wire: Wire) -> None:
        self._master = master
        self._replica = replica
        self._wire = wire

    async def is_in_step(self) -> None:
        """Wait until the replica has all that its master has."""

        def is_in_step() -> bool:
            there = self._replica.admin.info("replication")
            here = self._master.admin.info("replication")["master_repl_offset"]
            up = there.get("master_link_status", "") == "up"
            return bool(up and there["slave_repl_offset"] == here)

        await eventually(is_in_step, what="the replica is in step")

    def stop_replication(self) -> None:
        """From now on the replica lacks what its master is told."""
        self._replica.command("REPLICAOF", "NO", "ONE")

    def happen(self) -> None:
        """The master dies, and the replica takes its place."""
        self.stop_replication()
        self._master.kill()
        self._wire.lead_to(self._replica)


def append_only_file(redis: RedisServer) -> Path:
    """What a Redis writes every command to."""
    folder = redis.command("CONFIG", "GET", "dir")[1].decode()
    (file,) = Path(folder, "appendonlydir").glob("*.incr.aof")
    return file


async def start(redis: RedisServer) -> None:
    """Start a Redis, and wait until it has read its files."""
    await asyncio.to_thread(redis.start)
    await eventually(lambda: not redis.admin.info("persistence")["loading"], 30)


async def restart_empty(redis: RedisServer) -> None:
    """Restart a Redis that has lost its files."""
    folder = append_only_file(redis).parent
    redis.kill()
    shutil.rmtree(folder)
    await start(redis)
