"""Backends that stop or die, and edges that die: who keeps what, and who is told."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import connect

from fastapi_rooms.core.placement import Reopening
from fastapi_rooms.testing import eventually
from fastapi_rooms.wire.gateway import Frame, FrameKind
from tests.integration.gateway.site import Site, at, closed, unheard


async def test_a_client_keeps_its_connection_sid_data_and_rooms_when_its_backend_stops(
    both: Site,
) -> None:
    port = await both.edge()
    first = await both.backend()
    client = await connect(at(port, "/chat/tea?name=ann"))
    assert await client.recv() == "hello 0"
    await client.send("I am anna")
    await client.send("join side")
    assert await client.recv() == "joined"
    await client.send("state")
    sid, data, _ = json.loads(await client.recv())
    await both.stop(first)
    async with both.manager() as others:
        await others.to(sid).sockets_join("invited")
    second, edge = await both.backend(), both.edges[0]
    assert await client.recv() == "hello 1"
    await client.send("state")
    assert json.loads(await client.recv()) == [sid, data, 1]
    await client.send("rooms")
    assert json.loads(await client.recv()) == ["invited", "tea"]
    await second.manager.to("side").send_text("still here")
    assert await client.recv() == "still here"
    await client.send("tidy")
    await eventually(lambda: "side" not in edge.manager.rooms)
    assert edge.manager.rooms["invited"] == {sid}
    assert edge.manager.rooms["tea"] == {sid}
    await client.close()


async def test_no_message_of_a_client_is_lost_or_doubled_by_a_rolling_restart(both: Site) -> None:
    port = await both.edge()
    backends = [await both.backend(), await both.backend()]
    listener = await connect(at(port, "/chat/tea"))
    speaker = await connect(at(port, "/chat/tea"))
    heard: list[int] = []

    async def hear() -> None:
        async for text in listener:
            if not str(text).startswith("hello"):
                heard.append(int(text))  # noqa: PERF401 -- it is looked at meanwhile

    async def ignore() -> None:
        async for _ in speaker:
            pass

    async def speak() -> None:
        for number in range(300):
            await speaker.send(str(number))
            await asyncio.sleep(0.002)

    hearing, speaking = asyncio.create_task(hear()), asyncio.create_task(speak())
    ignoring = asyncio.create_task(ignore())
    for backend in backends:
        await both.stop(backend)
        await both.backend()
    await speaking
    await eventually(lambda: len(heard) >= 300)
    assert heard == list(range(300))
    await asyncio.gather(listener.close(), speaker.close())
    await asyncio.gather(hearing, ignoring)


@pytest.mark.usefixtures("brisk")
async def test_a_backend_that_is_killed_is_replaced_and_what_it_had_is_told(inmemory: Site) -> None:
    port = await inmemory.edge()
    first = await inmemory.backend()
    client = await connect(at(port, "/chat/tea"))
    assert await client.recv() == "hello 0"
    second = await inmemory.backend()
    inmemory.kill(first)
    await client.send("into the void")
    assert await client.recv() == "hello 1"
    (connection,) = second._connections.values()
    assert connection.lost == 1
    await client.close()
    inmemory.revive(first)


async def test_a_client_waits_for_a_backend_and_is_closed_when_none_comes(inmemory: Site) -> None:
    port = await inmemory.edge(reattach_timeout=0.5)
    first = await inmemory.backend()
    client = await connect(at(port, "/chat/tea"))
    await inmemory.stop(first)
    assert (await closed(client))[0] == 1013


async def test_a_client_that_must_not_be_reattached_is_closed_with_1012(inmemory: Site) -> None:
    port = await inmemory.edge(reattach=False)
    first = await inmemory.backend()
    client = await connect(at(port, "/chat/tea"))
    await inmemory.backend()
    await inmemory.stop(first)
    assert (await closed(client))[0] == 1012


@pytest.mark.usefixtures("brisk")
@pytest.mark.parametrize("step", ["open", "accept", "enter", "join", "greet"])
async def test_a_backend_that_dies_at_any_step_of_an_opening_is_replaced(
    inmemory: Site, step: str
) -> None:
    port = await inmemory.edge()
    first = await inmemory.backend()
    frames = first.frames
    steps = iter(["open", "accept", "enter", "join", "greet"])
    publish = frames.publish

    def dying(to: str | None, frame: Frame) -> Any:
        if frame.kind is not FrameKind.BEAT and next(steps) == step:
            inmemory.kill(first)
            return unheard()
        return publish(to, frame)

    next(steps) if step != "open" else inmemory.kill(first)
    if step != "open":
        frames.publish = dying  # type: ignore[method-assign]  # dies in it
    connecting = asyncio.create_task(connect(at(port, "/chat/tea?name=ann")).__aenter__())
    await eventually(lambda: first not in frames.receivers)
    await inmemory.backend()
    client = await connecting
    attempt = 0 if step in ("open", "accept") else 1
    assert await client.recv() == f"hello {attempt}"
    await client.send("hi")
    assert await client.recv() == "hi"
    await client.close()
    inmemory.revive(first)


@pytest.mark.usefixtures("brisk")
async def test_a_client_whose_backend_dies_is_told_from_others_that_need_another(
    inmemory: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one that kills its backends would be given another at full speed, again and again."""
    deaths: list[bool] = []

    def wait(self: Reopening, lived: float, *, died: bool) -> float:
        deaths.append(died)
        return 0

    monkeypatch.setattr(Reopening, "wait", wait)
    port = await inmemory.edge()
    first = await inmemory.backend()
    client = await connect(at(port, "/chat/tea"))
    assert await client.recv() == "hello 0"
    inmemory.edges[0].gap()
    assert await client.recv() == "hello 1"
    second = await inmemory.backend()
    await inmemory.stop(first)
    assert await client.recv() == "hello 2"
    await inmemory.backend()
    inmemory.kill(second)
    assert await client.recv() == "hello 3"
    assert deaths == [False, False, True]
    await client.close()
    inmemory.revive(second)


@pytest.mark.usefixtures("brisk")
async def test_a_backend_that_is_killed_while_it_stops_is_replaced(inmemory: Site) -> None:
    port = await inmemory.edge()
    first = await inmemory.backend(drain_timeout=60.0)
    client = await connect(at(port, "/chat/tea"))
    assert await client.recv() == "hello 0"
    await client.send("work")
    assert await client.recv() == "working"
    stopping = asyncio.create_task(inmemory.stop(first))
    await eventually(lambda: not inmemory.edges[0].backends)
    await inmemory.backend()
    first.frames.publish = unheard  # type: ignore[assignment, method-assign]  # it is killed
    assert await client.recv() == "hello 1"
    await client.send("hi")
    assert await client.recv() == "hi"
    await client.close()
    app: Any = first._app
    app.state.work_is_done.set()
    await stopping


@pytest.mark.usefixtures("brisk")
async def test_an_edge_that_dies_is_noticed_by_its_endpoints(inmemory: Site) -> None:
    port = await inmemory.edge()
    backend = await inmemory.backend()
    client = await connect(at(port, "/code"))
    frames = inmemory.edges[0].frames
    frames.publish = unheard  # type: ignore[assignment, method-assign]  # as if it were dead
    app: Any = backend._app
    await eventually(lambda: app.state.ended == [1006])
    del frames.publish
    await client.close()
