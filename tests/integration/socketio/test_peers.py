"""Each side sees the other's sockets, does things with them, and talks to its servers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from fastapi_rooms import AsyncEmitter, Namespace, RemoteSocket, SocketIO, UsageError
from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.socketio.conftest import KEY
from tests.integration.socketio.scene import NodeServers, Scene, as_native, names_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

NODES = ("a.io", "b.io")
WORKERS = ("one", "two")


async def rooms_there(node: NodeServers, server: str = "a.io") -> dict[str, list[Any]]:
    """The rooms of every socket, by its sid, as a Node server sees them."""
    code = "Object.fromEntries(sockets.map((s) => [s.id, [...s.rooms].map(String).sort()]))"
    found: dict[str, list[Any]] = await node.run(
        f"const sockets = await {server}.fetchSockets(); return {code}"
    )
    return found


def expected_rooms(scene: Scene) -> dict[str, list[str]]:
    rooms = {"ann": ["blue", "red"], "bob": ["42", "blue"]}
    rooms |= {"xia": ["blue", "red"], "yan": ["42", "blue"]}
    return {scene.sids[name]: sorted([*names, scene.sids[name]]) for name, names in rooms.items()}


@pytest.mark.parametrize("server", NODES)
async def test_node_sees_our_sockets_with_their_rooms_and_data(scene: Scene, server: str) -> None:
    assert await rooms_there(scene.node, server) == expected_rooms(scene)
    data = await scene.node.run(
        f"return (await {server}.to('red').except({json.dumps(scene.sids['xia'])}).fetchSockets())"
        ".map((s) => [s.data, Object.keys(s.handshake).sort()])"
    )
    keys = sorted(
        ("headers", "time", "address", "xdomain", "secure", "issued", "url", "query", "auth")
    )
    assert data == [[{"name": "ann"}, keys]]


@pytest.mark.parametrize("server", NODES)
async def test_node_sees_our_rooms_and_sids(scene: Scene, server: str) -> None:
    adapter = f"{server}.of('/').adapter"
    rooms = await scene.node.run(f"return [...await {adapter}.allRooms()].map(String)")
    assert set(rooms) == {"red", "blue", "42", *scene.sids.values()}


@pytest.mark.parametrize("worker", WORKERS)
async def test_our_questions_include_their_sockets_and_where_they_live(
    scene: Scene, worker: str
) -> None:
    rooms = scene.manager(worker)
    sockets = await rooms.fetch_sockets()
    assert {s.sid: sorted(s.rooms) for s in sockets} == expected_rooms(scene)
    where = {s.sid: s.node for s in sockets}
    assert where == {
        scene.sids["ann"]: scene.one.node,
        scene.sids["bob"]: scene.two.node,
        scene.sids["xia"]: "socket.io",
        scene.sids["yan"]: "socket.io",
    }
    assert {s.data["name"] for s in sockets} == {"ann", "bob", "xia", "yan"}
    assert await rooms.count() == 4
    assert await rooms.to("red").count() == 2
    assert await rooms.to("red", "42").count() == 4
    assert await rooms.to("blue").except_("red").count() == 2
    assert await rooms.to("42").except_(scene.sids["bob"]).count() == 1
    assert await rooms.to().count() == 0
    assert await rooms.local.count() == 1
    assert await rooms.all_rooms() == {"red", "blue", "42", *scene.sids.values()}


@pytest.mark.parametrize("sender", [*NODES, "emitter"])
async def test_node_has_our_sockets_join_and_leave(scene: Scene, sender: str) -> None:
    await scene.node.run(f"{sender}.to('red').socketsJoin(['j1', 7])")

    async def in_both() -> bool:
        return len(await rooms_in(scene.one, "j1")) == 2 == len(await rooms_in(scene.one, "7"))

    await eventually(in_both)
    assert {"j1", "7"} <= scene.members["ann"].socket.rooms
    await scene.node.run(f"{sender}.to('j1').socketsLeave(['j1', 7])")
    await eventually(lambda: not {"j1", "7"} & scene.members["ann"].socket.rooms)


async def rooms_in(namespace: Namespace, room: str) -> list[RemoteSocket]:
    return await namespace.to(room).fetch_sockets()


@pytest.mark.parametrize("worker", WORKERS)
async def test_we_have_their_sockets_join_and_leave(scene: Scene, worker: str) -> None:
    rooms = scene.manager(worker)
    await rooms.to("red").sockets_join("k1")
    await rooms.to("k1").emit("in")
    end = scene.end()
    await rooms.emit(end)
    assert names_of(await scene.heard(end)) == {"ann", "xia"}
    await rooms.to("red").sockets_leave("k1")
    await rooms.to("k1").emit("in")
    end = scene.end()
    await rooms.emit(end)
    assert names_of(await scene.heard(end)) == set()
    # One of them, by what was fetched.
    (yan,) = [s for s in await rooms.fetch_sockets() if s.sid == scene.sids["yan"]]
    await yan.join("k2")
    await yan.emit("one", 1)
    await yan.send_text("two")
    await rooms.to("k2").emit("in")
    await yan.leave("k2")
    await rooms.to("k2").emit("out")
    end = scene.end()
    await rooms.emit(end)
    heard = await scene.heard(end)
    assert heard.pop("yan") == [["one", 1], ["message", "two"], ["in"]]
    assert names_of(heard) == set()


async def test_an_emitter_of_ours_has_both_join(scene: Scene, redis_server: RedisServer) -> None:
    async with AsyncEmitter(redis_server.url, socketio=SocketIO(key=KEY)) as emitter:
        await emitter.to("red").sockets_join("m1")

        async def both() -> bool:
            return await scene.two.to("m1").count() == 2

        await eventually(both)
        await emitter.to("m1").sockets_leave("m1")

        async def neither() -> bool:
            return await scene.two.to("m1").count() == 0

        await eventually(neither)


@pytest.mark.parametrize("sender", [*NODES, "emitter"])
async def test_node_disconnects_our_sockets(scene: Scene, sender: str) -> None:
    member = await scene.more(scene.two, "leaving")
    await scene.node.run(f"{sender}.to('leaving').disconnectSockets(true)")
    assert await member.wait_closed() == 1000


@pytest.mark.parametrize("worker", WORKERS)
async def test_we_disconnect_theirs(scene: Scene, worker: str) -> None:
    await scene.node.run("await b.client('tmp', {rooms: ['going']})")
    await scene.manager(worker).to("going").disconnect_sockets()

    async def gone() -> Any:
        return await scene.node.run("return b.clients.tmp.gone")

    assert await eventually(gone) == "io server disconnect"


# Servers among themselves.


async def test_server_side_events_go_both_ways_and_each_replies(scene: Scene) -> None:
    heard: list[Any] = []

    async def ask(name: str, *args: Any) -> Any:
        heard.append((name, *args))
        return {name: list(args)}

    for worker in WORKERS:
        scene.manager(worker).on_server_side("ask")(lambda *args, worker=worker: ask(worker, *args))
    await scene.node.run(
        "for (const [name, s] of Object.entries({a, b}))"
        " s.io.on('ask', (...args) => { const done = args.pop();"
        " if (typeof done === 'function') done({[name]: args}); else s.asked = [...args, done]; })"
    )
    replies = await scene.node.run("return a.io.serverSideEmitWithAck('ask', 1, [2])")
    assert sorted(map(json.dumps, replies)) == sorted(
        json.dumps({name: [1, [2]]}) for name in ("b", "one", "two")
    )
    ours = await scene.one.server_side_emit_with_ack("ask", "x")
    assert {(reply.node, json.dumps(reply.value), reply.error) for reply in ours} == {
        (scene.two.node, '{"two": ["x"]}', None),
        ("socket.io", '{"a": ["x"]}', None),
        ("socket.io", '{"b": ["x"]}', None),
    }
    heard.clear()
    await scene.node.run("emitter.serverSideEmit('ask', 'e')")
    await eventually(lambda: len(heard) == 2)
    await scene.two.server_side_emit("ask", "y")

    async def asked() -> bool:
        found: bool = await scene.node.run("return a.asked?.[0] === 'y' && b.asked?.[0] === 'y'")
        return found

    await eventually(asked)
    assert sorted(heard) == [("one", "e"), ("one", "y"), ("two", "e")]


async def test_a_handler_that_is_missing_or_raises_replies_null_to_node(scene: Scene) -> None:
    @scene.one.on_server_side("fails")
    def fails(*_: Any) -> None:
        raise ValueError("on purpose")

    await scene.node.run("b.io.on('fails', (done) => done('b'))")
    replies = await scene.node.run("return a.io.serverSideEmitWithAck('fails')")
    assert sorted(map(str, replies)) == ["None", "None", "b"]


async def test_a_node_server_without_a_handler_is_told_apart_from_an_answer(scene: Scene) -> None:
    @scene.two.on_server_side("ours")
    def ours() -> str:
        return "two"

    replies = await scene.one.server_side_emit_with_ack("ours", timeout=0.3)
    by_node = sorted((reply.node, reply.value, reply.error or "") for reply in replies)
    assert (scene.two.node, "two", "") in by_node
    silent = [error for node, _, error in by_node if node == "socket.io"]
    assert len(silent) == 2
    assert all("no answer in 0.3 s" in error for error in silent)


@pytest.mark.parametrize("event", ["error", "connection", "connect", "new_namespace"])
async def test_an_event_that_would_end_node_servers_is_refused(scene: Scene, event: str) -> None:
    with pytest.raises(UsageError, match="Node servers keep"):
        await scene.one.server_side_emit(event)
    with pytest.raises(UsageError, match="Node servers keep"):
        await scene.one.server_side_emit_with_ack(event)


async def test_an_acknowledged_broadcast_is_heard_here_and_waits_for_nobody(scene: Scene) -> None:
    end = scene.end()
    code = "return a.io.timeout(5000).to('red').emitWithAck('ack?', 1)"
    assert await scene.node.run(code) == ["xia"]
    await scene.node.run(f"a.io.emit('{end}')")
    heard = await scene.heard(end)
    assert heard["ann"] == [as_native(["ack?", 1])]


# Nobody waits because of us.


async def test_an_unshared_namespace_is_ours_alone(scene: Scene) -> None:
    private = scene.one.of("/private")
    with pytest.raises(UsageError, match=r"namespaces=\['/', '/chat', '/private'\]"):
        await private.emit("x")
    async with scene.two.of("/private").listen(everyone=True) as messages:
        await private.send_text("x")
        assert (await anext(messages)).text == "x"
    assert await private.count() == 0


async def test_answers_come_once_from_each_worker_also_with_many_questions(scene: Scene) -> None:
    counts = await scene.node.run(
        "return Promise.all(Array.from({length: 50}, async (_, n) => "
        "(await [a, b][n % 2].io.fetchSockets()).length))"
    )
    assert counts == [4] * 50
    assert await asyncio.gather(*[scene.one.count() for _ in range(50)]) == [4] * 50


async def test_a_question_of_an_adapter_before_version_7_is_answered(scene: Scene) -> None:
    ask = json.dumps({"uid": "old", "requestId": "q1", "type": 0, "rooms": ["red"]})
    answers = await scene.node.run(
        "const sub = a.pub.duplicate(); await sub.connect(); const got = [];"
        f"await sub.subscribe('{KEY}-response#/#', (m) => got.push(JSON.parse(m)));"
        f"await a.pub.publish('{KEY}-request#/#', {json.dumps(ask)});"
        "while (got.length < 3) await new Promise((r) => setTimeout(r, 2));"
        "sub.destroy(); return got"
    )
    # The other Node server answers on a channel of the asker's alone, which nobody hears here.
    sids = {sid for answer in answers for sid in answer["sockets"]}
    assert sids == {scene.sids["ann"], scene.sids["xia"]}
    assert {answer["requestId"] for answer in answers} == {"q1"}
