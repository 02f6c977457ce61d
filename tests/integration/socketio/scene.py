"""Node servers as a test has them, and everyone who is in rooms here and there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from fastapi_rooms import RoomManager
from fastapi_rooms.testing import Cluster, Member, RedisServer
from tests.node import NODE

HERE = Path(__file__).parent
MISSING = "what the Node servers need is missing: scripts/ensure-node-packages .venv/bin/python"


class NodeServers:
    """Two Socket.IO servers, `a` and `b`, an `emitter`, and clients, in one process of Node."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    @classmethod
    @asynccontextmanager
    async def started(cls, redis: RedisServer, key: str) -> AsyncIterator[NodeServers]:
        """For the time of a block, on a Redis, by a key."""
        assert (HERE / "node_modules").is_dir(), MISSING
        pipe = asyncio.subprocess.PIPE
        command = (str(NODE), str(HERE / "server.mjs"), redis.url, key)
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, limit=2**26
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert json.loads(await process.stdout.readline()) == {"ready": True}
            servers = cls(process)
            reading = asyncio.create_task(servers._read(process.stdout))
            yield servers
            process.stdin.close()
            await process.wait()
            await reading
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    async def run(self, code: str, timeout: float = 20) -> Any:
        """What code in JavaScript returns."""
        self._number += 1
        answer = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": self._number, "code": code}).encode() + b"\n")
        async with asyncio.timeout(timeout):
            message = await answer
        assert "error" not in message, message["error"]
        return message["value"]

    async def _read(self, stdout: asyncio.StreamReader) -> None:
        while line := await stdout.readline():
            message = json.loads(line)
            self._waiting.pop(message["id"]).set_result(message)


class Scene:
    """Two workers with members, and two Node servers with clients, who share some rooms.

    | who | where | rooms |
    |---|---|---|
    | `ann` | worker one | `red`, `blue` |
    | `bob` | worker two | `blue`, `42` |
    | `xia` | Node server `a` | `red`, `blue` |
    | `yan` | Node server `b` | `blue`, the number 42 |
    """

    ROOMS: ClassVar = {"ann": ["red", "blue"], "bob": ["blue", "42"]}
    CLIENTS: ClassVar = {"xia": ("a", "['red', 'blue']"), "yan": ("b", "['blue', 42]")}

    def __init__(self, node: NodeServers, cluster: Cluster) -> None:
        self.node = node
        self.one, self.two = cluster
        self._cluster = cluster
        self.members: dict[str, Member] = {}
        self.sids: dict[str, str] = {}
        self._ends = 0

    async def fill(self) -> None:
        """Have everyone come."""
        for (name, names), worker in zip(self.ROOMS.items(), self._cluster, strict=True):
            self.members[name] = await self._cluster.member(worker, *names, data={"name": name})
            self.sids[name] = self.members[name].sid
        for name, (server, rooms) in self.CLIENTS.items():
            code = f"return {server}.client('{name}', {{rooms: {rooms}, data: {{name: '{name}'}}}})"
            self.sids[name] = await self.node.run(code)

    async def empty(self) -> None:
        """Have the clients of the Node servers go; members go with their workers."""
        await self.node.run(
            "for (const s of [a, b]) { for (const c of Object.values(s.clients)) c.close(); "
            "s.clients = {}; s.io.removeAllListeners('ask'); } faults.length = 0"
        )

    async def more(self, worker: RoomManager, *rooms: str) -> Member:
        """One more member, who is not asked what it got."""
        return await self._cluster.member(worker, *rooms)

    def manager(self, name: str) -> RoomManager:
        """A worker, by its name."""
        manager: RoomManager = getattr(self, name)
        return manager

    async def heard(self, end: str) -> dict[str, list[Any]]:
        """What everyone has got before the message of that name, which is for all."""
        heard: dict[str, list[Any]] = {}
        for name, member in self.members.items():
            heard[name] = await member.receive_until(as_native([end]))
        for name, (server, _) in self.CLIENTS.items():
            heard[name] = await self.node.run(f"return {server}.gotUntil('{name}', '{end}')")
        return heard

    def end(self) -> str:
        """The name of a last message: a new one each time."""
        self._ends += 1
        return f"end{self._ends}"


COMPACT: dict[str, Any] = {"separators": (",", ":")}


def names_of(heard: dict[str, list[Any]]) -> set[str]:
    """Who has got anything."""
    return {name for name, messages in heard.items() if messages}


def as_native(event: Iterable[Any]) -> str:
    """An event as native clients have it."""
    name, *args = event
    return json.dumps({"event": name, "args": args}, **COMPACT)
