"""What Redis has is what the workers have, after any storm: sets of rooms, sockets, and users."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import filterfalse
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import Presence, RoomManager, Socket, SocketClosed
from fastapi_rooms.adapters.redis.presence.keys import worker_key
from fastapi_rooms.adapters.redis.sharded.slot_tags import slot_tags
from fastapi_rooms.adapters.redis.sharded.slots import slot_of
from fastapi_rooms.testing import (
    RedisCluster,
    RedisServer,
    SentinelServers,
    WebSocketClient,
    eventually,
)
from tests.conformance.backplanes import emptied, masters_of, slots_are_at_rest
from tests.stateful.settings import UNHURRIED
from tests.unit.support import app_of

Servers = RedisServer | SentinelServers | RedisCluster

WORKERS = 3
ROOMS = ["tea", "mate", "café ☕"]
USERS = ["ann", "bob"]

workers = st.integers(0, WORKERS - 1)
rooms = st.sampled_from(ROOMS)
tabs = st.integers(0, 5)
users = st.sampled_from(USERS)

actions = st.one_of(
    st.tuples(st.just("come"), workers, users, st.lists(rooms, min_size=1, unique=True)),
    st.tuples(st.just("go"), tabs),
    st.tuples(st.just("join"), tabs, rooms),
    st.tuples(st.just("leave"), tabs, rooms),
    st.tuples(st.just("move"), workers, rooms, rooms),
    st.tuples(st.just("disconnect"), workers, rooms),
)


class Tab(WebSocketClient):
    """A user's socket on a worker, in some rooms."""

    def __init__(
        self, manager: RoomManager, user: str, names: list[str], user_of: dict[str, str]
    ) -> None:
        self.socket: Socket | None = None

        async def endpoint(websocket: WebSocket) -> None:
            async with manager.connect(websocket, data={"user": user}) as socket:
                user_of[socket.sid] = user
                await socket.join(*names)
                self.socket = socket
                await socket.wait_closed()

        super().__init__(app_of(endpoint))


class SetsMachine(RuleBasedStateMachine):
    """Three workers, and whatever their users do at once."""

    def __init__(self, servers: Servers) -> None:
        super().__init__()
        self.masters = masters_of(servers)
        self.tabs: list[Tab] = []
        self.user_of: dict[str, str] = {}
        self.runner = asyncio.Runner()
        self.managers: list[RoomManager] = []
        self.presences: list[Presence] = []
        self.runner.run(self.start(servers.url))

    async def start(self, url: str) -> None:
        for _ in range(WORKERS):
            manager = RoomManager(url, heartbeat=0.5)
            self.presences.append(manager.presence("*", user="user", grace=0))
            self.managers.append(manager)
            await manager.__aenter__()

    @rule(storm=st.lists(actions, min_size=1, max_size=12))
    def rage(self, storm: list[tuple[Any, ...]]) -> None:
        async def rage() -> None:
            await asyncio.gather(*(getattr(self, name)(*rest) for name, *rest in storm))
            await self.settle()

        self.runner.run(rage())

    @rule(which=st.integers(0, 5))
    def evict(self, which: int) -> None:
        """A key of a room or a worker is lost, which is found when they are compared."""
        found = [
            (master, key)
            for master in self.masters
            for kind in ("presence", "room", "worker")
            for key in sorted(master.admin.keys(f"rooms:{kind}:*"))
        ]
        if found:
            master, key = found[which % len(found)]
            master.admin.delete(key)
            for manager in self.managers:
                manager._runtime.presence.running._comparison.hurry()
            self.runner.run(self.settle())

    @rule()
    def forget_scripts(self) -> None:
        for master in self.masters:
            master.admin.script_flush()

    @rule()
    def forget_everything(self) -> None:
        for master in self.masters:
            master.admin.flushall()
        self.runner.run(self.settle())

    # What users do.

    async def come(self, worker: int, user: str, names: list[str]) -> None:
        tab = Tab(self.managers[worker], user, names, self.user_of)
        await tab.open()
        self.tabs.append(tab)

    async def go(self, which: int) -> None:
        if self.tabs:
            await self.tabs.pop(which % len(self.tabs)).close()

    async def join(self, which: int, room: str) -> None:
        await self.do(which, lambda socket: socket.join(room))

    async def leave(self, which: int, room: str) -> None:
        await self.do(which, lambda socket: socket.leave(room))

    async def do(self, which: int, act: Callable[[Socket], Awaitable[Any]]) -> None:
        if self.tabs and (socket := self.tabs[which % len(self.tabs)].socket) is not None:
            with suppress(SocketClosed, WebSocketDisconnect):
                await act(socket)

    async def move(self, worker: int, here: str, there: str) -> None:
        await self.managers[worker].to(here).sockets_join(there)

    async def disconnect(self, worker: int, room: str) -> None:
        await self.managers[worker].to(room).disconnect_sockets()

    # What Redis has.

    async def settle(self) -> None:
        try:
            await eventually(self.is_as_it_should_be, what="Redis has what the workers have")
        except AssertionError:
            assert self.kept() == self.expected()
            raise

    async def is_as_it_should_be(self) -> bool:
        should, found = self.expected(), self.kept()
        if should != found:
            return False
        for room in ROOMS:
            for presence in self.presences:
                present = await presence.users(room)
                sids = {sid.encode() for user in present.users for sid in user.sids}
                if sids != should.get(f"rooms:room:{{/#{room}}}", set()):
                    return False
        return True

    def expected(self) -> dict[str, set[bytes]]:
        """The union of what the workers have."""
        sets: dict[str, set[bytes]] = {}

        def add(key: str, item: str) -> None:
            sets.setdefault(key, set()).add(item.encode())

        for manager in self.managers:
            for room in ROOMS:
                for sid in manager.rooms.get(room, ()):
                    user = self.user_of[sid]
                    add(f"rooms:room:{{/#{room}}}", sid)
                    add(f"rooms:socket:/#{sid}", f"/#{room}")
                    add(f"rooms:user:/#{user}", f"/#{room}")
                    add(self.key_of(manager, room), f"/#{room}")
        return sets

    def kept(self) -> dict[str, set[bytes]]:
        sets: dict[str, set[bytes]] = {}
        for master in self.masters:
            for key in master.command("KEYS", "rooms:*"):
                if master.admin.type(key) == b"set":
                    sets[str(key, "utf-8")] = {*master.command("SMEMBERS", key)}
        return {key: found for key, found in sets.items() if not self.is_of_an_older_lease(key)}

    def is_of_an_older_lease(self, key: str) -> bool:
        """Whether it is what a worker had when Redis forgot its lease, which goes within a day."""
        own = {self.key_of(manager, room) for manager in self.managers for room in ROOMS}
        return key.startswith("rooms:worker:") and key not in own

    def may_stay(self, key: str) -> bool:
        """Whether it is of an older lease, or what was declared, for those who ask by night."""
        return key == "rooms:declared" or self.is_of_an_older_lease(key)

    def key_of(self, manager: RoomManager, room: str) -> str:
        keeper = manager._runtime.presence.keeper
        slot = slot_of(f"{{/#{room}}}".encode()) if len(self.masters) > 1 else None
        tag = b"" if slot is None else slot_tags()[slot]
        return "" if keeper is None else worker_key(b"rooms", keeper._lease.lease, tag).decode()

    def teardown(self) -> None:
        async def stop() -> None:
            try:
                for tab in self.tabs:
                    await tab.close()
                await self.settle()
            finally:
                for manager in self.managers:
                    await manager.__aexit__(None, None, None)

        with self.runner:
            self.runner.run(stop())
        for master in self.masters:
            left = [str(key, "utf-8") for key in master.command("KEYS", "rooms:*")]
            assert [*filterfalse(self.may_stay, left)] == []


@pytest.mark.parametrize("carrier", ["redis_server", "sentinel_servers", "redis_cluster"])
def test_the_sets_equal_the_union_of_the_workers_maps_after_a_storm(
    request: pytest.FixtureRequest, carrier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots_are_at_rest(monkeypatch)
    servers: Servers = request.getfixturevalue(carrier)
    hurry = settings(UNHURRIED, max_examples=5, stateful_step_count=8)

    class Machine(SetsMachine):
        def __init__(self) -> None:
            super().__init__(servers)

    with emptied(servers):
        run_state_machine_as_test(Machine, settings=hurry)
