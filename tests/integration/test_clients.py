"""Clients as they are: they vanish, they do not read, and their endpoints have mistakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.clients import Client, heard, http, talk_until_given_up
from tests.integration.servers import WEBSOCKETS, Server, starter, uvicorn
from tests.integration.workers import Connect

NORMAL, ABNORMAL, TRY_AGAIN_LATER = 1000, 1006, 1013
ROOM_CHANNEL = "rooms#/#tea#"


@pytest.fixture(scope="module", params=WEBSOCKETS)
def shared_server(
    request: pytest.FixtureRequest, redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One worker, whose sockets may leave a mebibyte unread."""
    with starter(tmp_path_factory.mktemp("servers")) as start:
        command = uvicorn("--ws", request.param)
        limits = {"OUTBOX_BYTES": str(1024 * 1024), "CLOSE_TIMEOUT": "0.5"}
        server = start(command, ROOMS_URL=redis.url, **limits)
        server.wait_for_workers()
        yield server


@pytest.fixture
async def server(shared_server: Server, redis: RedisServer) -> AsyncIterator[Server]:
    """The same, and whatever a test does to its clients, nothing of them is left after it."""
    yield shared_server
    await nothing_is_left_on(shared_server, redis)


@pytest.fixture
async def connect(server: Server, connect: Connect) -> Connect:
    """Clients are closed before the server is looked at."""
    return connect


async def state_of(server: Server) -> dict[str, Any]:
    state: dict[str, Any] = await http(server, "/state")
    return state


async def nothing_is_left_on(server: Server, redis: RedisServer) -> None:
    async def is_empty() -> bool:
        state = await state_of(server)
        return not (state["rooms"] or state["sids"] or state["endpoints"] or state["commands"])

    await eventually(is_empty, what="nobody is in any map")
    tasks = (await state_of(server))["tasks"]
    assert len(tasks) == len(set(tasks)), tasks
    assert all(name.startswith("fastapi_rooms ") for name in tasks), tasks  # the adapter's own
    await eventually(lambda: redis.numsub(ROOM_CHANNEL) == 0, what="the room's channel is given up")


async def only(server: Server, *clients: Client) -> None:
    """Wait until nobody but these is in the maps, and theirs are the only endpoints."""
    expected = {client.sid for client in clients}

    async def is_so() -> bool:
        state = await state_of(server)
        in_rooms = {sid for sids in state["rooms"].values() for sid in sids}
        return {*state["sids"]} == in_rooms == expected and state["endpoints"] == len(expected)

    await eventually(is_so, what="only those who are there are in the maps")


async def test_a_client_that_vanishes_is_in_no_map(
    server: Server, connect: Connect, redis: RedisServer
) -> None:
    ann, bob = [await connect(server) for _ in range(2)]
    await bob.socket.join("tea", "coffee")
    await ann.socket.join("coffee")
    assert (await state_of(server))["rooms"]["coffee"] == sorted([ann.sid, bob.sid])

    bob.vanish()
    await only(server, ann)
    assert (await state_of(server))["rooms"] == {ann.sid: [ann.sid], "coffee": [ann.sid]}
    await eventually(lambda: redis.numsub(ROOM_CHANNEL) == 0)
    await ann.rooms.to("tea", "coffee", bob.sid).send_text("who is left?")
    assert await heard(ann, ann) == [["who is left?"]]


async def test_fifty_clients_that_vanish_while_they_are_spoken_to_are_in_no_map(
    server: Server, connect: Connect
) -> None:
    ann = await connect(server)
    crowd = [await connect(server) for _ in range(50)]
    await asyncio.gather(*(member.socket.join("tea") for member in crowd))
    talk = ann.app.burst("tea", 500, 1000).begin()
    for member in crowd:
        await member.next()
        member.vanish()
    await talk
    await only(server, ann)


async def test_a_client_that_vanishes_in_mid_join_is_in_no_map(
    server: Server, connect: Connect, redis: RedisServer
) -> None:
    ann, bob = [await connect(server) for _ in range(2)]
    redis.freeze()
    try:
        joining = bob.socket.join("tea").begin()

        async def is_joining() -> bool:
            return bool((await state_of(server))["commands"])

        await eventually(is_joining)
        bob.vanish()
        with pytest.raises(ConnectionError):
            await joining
    finally:
        redis.thaw()
    await only(server, ann)
    await eventually(lambda: redis.numsub(ROOM_CHANNEL) == 0)


async def test_an_endpoint_that_raises_leaves_nothing_and_disturbs_nobody(
    server: Server, connect: Connect
) -> None:
    ann, bob, cid = [await connect(server) for _ in range(3)]
    for member in (ann, bob, cid):
        await member.socket.join("tea")
    with pytest.raises(ConnectionError):
        await bob.app.crash()
    assert await bob.closed() != NORMAL
    await only(server, ann, cid)
    await ann.rooms.to("tea").send_text("is everybody well?")
    assert await heard(ann, ann, cid) == [["is everybody well?"]] * 2
    assert "Crash: as it was told to" in server.log


async def test_a_mute_client_is_closed_with_1013_and_the_others_are_unaffected(
    server: Server, connect: Connect
) -> None:
    ann, bob, mute = [await connect(server, buffer=size) for size in (None, None, 4096)]
    await talk_until_given_up(server, ann, bob, mute)
    mute.read_on()
    assert await mute.closed() in {TRY_AGAIN_LATER, ABNORMAL}
    await only(server, ann, bob)


async def test_a_client_that_stays_mute_is_cut_off(server: Server, connect: Connect) -> None:
    ann, bob = [await connect(server) for _ in range(2)]
    connections = (await state_of(server))["connections"]
    mute = await connect(server, buffer=4096)
    await talk_until_given_up(server, ann, bob, mute)
    await only(server, ann, bob)  # its endpoint has ended, although it never read
    if await ann.socket.transport == "uvicorn":  # which can end the connection as well

        async def is_cut() -> bool:
            return bool((await state_of(server))["connections"] <= connections)

        await eventually(is_cut, what="the server has no connection to it any more")
    mute.vanish()
    await ann.rooms.to("tea").send_text("on we go")
    assert await heard(ann, bob) == [["on we go"]]
