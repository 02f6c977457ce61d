"""Three workers on one Redis, whose clocks differ by an hour, and the users who come to them."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fastapi_rooms.adapters.history import RoomKey
from fastapi_rooms.core.names import Channels
from fastapi_rooms.testing import eventually
from tests.integration.clients import Client, http
from tests.integration.servers import Server, Start
from tests.integration.workers import Workers

HEARTBEAT = 0.5
LEASE = 4 * HEARTBEAT

GRACES = {"*": 0.0, "soon-*": 0.4, "beats-*": 4 * HEARTBEAT, "later-*": 600.0}
"""Seconds of grace, by rooms; each test has some that are named after it."""

HOUR = 3600.0


class Told(NamedTuple):
    """An event, as a handler was told of it."""

    version: int
    kind: str
    user: str

    @property
    def what(self) -> str:
        return f"{self.kind} {self.user}"


class There(NamedTuple):
    """Who is in a room, as a worker finds it."""

    version: int
    users: Mapping[str, Sequence[str]]


def start_worker(start: Start, url: str, clock: float = 0.0) -> Server:
    """A worker of a server of its own, which is not waited for."""

    def command(port: int) -> list[str]:
        module = [sys.executable, "-m", "tests.presence.server", "tests.presence.app:app"]
        return [*module, "--port", str(port), "--loop", "asyncio", "--no-access-log"]

    return start(command, ROOMS_URL=url, HEARTBEAT=str(HEARTBEAT), CLOCK=str(clock))


def three_workers(start: Start, url: str) -> Workers:
    """Three of them, once they answer."""
    return Workers.each_of([start_worker(start, url, clock) for clock in (0.0, HOUR, -HOUR)])


class Users:
    """The users of a test, and what is told of them."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self._clients: list[Client] = []

    async def comes(self, worker: int | Server, user: str, room: str) -> Client:
        """A user comes into a room, in a new tab."""
        client = await Client.connect(self._server(worker), f"/ws?user={user}")
        self._clients.append(client)
        await client.socket.join(room)
        return client

    async def told(self, worker: int | Server, room: str) -> list[Told]:
        """What a worker was told."""
        return [Told(*each) for each in await self._ask(worker, "told", room, "everywhere")]

    async def told_one(self, room: str, *others: Server) -> list[Told]:
        """What the one worker of all was told, whichever it was; by version."""
        every = [*range(len(self.workers)), *others]
        answers = [await self._ask(worker, "told", room, "here") for worker in every]
        return sorted(Told(*each) for answer in answers for each in answer)

    async def hears(self, worker: int | Server, room: str, *expected: str) -> list[Told]:
        """Wait until a worker was told what is expected, and nothing else."""

        async def heard() -> list[Told] | None:
            told = await self.told(worker, room)
            return told if [each.what for each in told] == [*expected] else None

        try:
            return await eventually(heard) or []
        except AssertionError:
            found = [each.what for each in await self.told(worker, room)]
            assert found == [*expected], found
            raise

    async def one_is_told(self, room: str, told: list[Told]) -> None:
        """Return when one worker of all was told the same; others may be told before it."""

        async def is_told() -> bool:
            return await self.told_one(room) == told

        await eventually(is_told, what="one worker is told")

    async def told_until(self, worker: int, room: str, version: int) -> list[Told]:
        """What a worker was told, once that is up to a version."""

        async def is_told() -> list[Told] | None:
            told = await self.told(worker, room)
            return told if told and told[-1].version >= version else None

        return await eventually(is_told, what=f"version {version} is told") or []

    async def present(self, worker: int, room: str) -> There:
        """Who is there."""
        answer = await http(self._server(worker), f"/present/{room}")
        return There(answer["version"], answer["users"])

    async def everyone_goes(self) -> None:
        """Close every tab."""
        clients, self._clients = self._clients, []
        for client in clients:
            await client.close()

    async def _ask(
        self, worker: int | Server, what: str, room: str, key: str
    ) -> list[tuple[int, str, str]]:
        answer = await http(self._server(worker), f"/{what}/{room}")
        found: list[tuple[int, str, str]] = answer[key]
        return found

    def _server(self, worker: int | Server) -> Server:
        return worker if isinstance(worker, Server) else self.workers.server(worker)


def assert_successive(told: Sequence[Told]) -> None:
    """Events are numbered without a hole, and of one user joins and leaves alternate."""
    there: set[str] = set()
    for before, after in itertools.pairwise(told):
        assert after.version == before.version + 1, (before, after)
    for each in told:
        assert (each.kind == "join") is (each.user not in there), each
        (there.add if each.kind == "join" else there.remove)(each.user)


def key_of(room: str) -> RoomKey:
    """A room, as adapters know it."""
    return RoomKey(f"/#{room}".encode(), Channels("rooms").of_room("/", room))
