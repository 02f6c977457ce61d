"""What is sent on one side is heard on both, by each once."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from fastapi_rooms import AsyncEmitter, Emitter, SocketIO
from fastapi_rooms.testing import RedisServer
from tests.integration.socketio.conftest import KEY
from tests.integration.socketio.scene import COMPACT, Scene, as_native, names_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVERYONE = {"ann", "bob", "xia", "yan"}
NODE_SENDERS = {"redis": "a.io", "ioredis": "b.io", "node emitter": "emitter"}
OUR_SENDERS = ("one", "two", "emitter", "async emitter")

VERBS: dict[str, tuple[str, Callable[[Any, dict[str, str]], Any], set[str]]] = {
    "everyone": ("IO", lambda op, sids: op, EVERYONE),
    "a room": ("IO.to('red')", lambda op, sids: op.to("red"), {"ann", "xia"}),
    "two rooms": ("IO.to(['red', 'blue'])", lambda op, sids: op.to("red", "blue"), EVERYONE),
    "all but a room": ("IO.except('red')", lambda op, sids: op.except_("red"), {"bob", "yan"}),
    "a room but one": (
        "IO.to('blue').except('red')",
        lambda op, sids: op.to("blue").except_("red"),
        {"bob", "yan"},
    ),
    "all but a native sid": (
        "IO.except(sids.ann)",
        lambda op, sids: op.except_(sids["ann"]),
        EVERYONE - {"ann"},
    ),
    "all but a sid of theirs": (
        "IO.except(sids.yan)",
        lambda op, sids: op.except_(sids["yan"]),
        EVERYONE - {"yan"},
    ),
    "a native sid": ("IO.to(sids.bob)", lambda op, sids: op.to(sids["bob"]), {"bob"}),
    "a sid of theirs": ("IO.to(sids.xia)", lambda op, sids: op.to(sids["xia"]), {"xia"}),
    "both": (
        "IO.to([sids.bob, sids.xia])",
        lambda op, sids: op.to(sids["bob"], sids["xia"]),
        {"bob", "xia"},
    ),
    "nobody": ("IO.to('green')", lambda op, sids: op.to("green"), set()),
    "volatile": ("IO.volatile.to('red')", lambda op, sids: op.volatile.to("red"), {"ann", "xia"}),
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def senders(scene: Scene, redis_server: RedisServer) -> Any:
    """Whoever sends on our side, by name."""
    settings = SocketIO(key=KEY, namespaces=["/", "/chat"])
    async with AsyncEmitter(redis_server.url, socketio=settings) as awaited:
        with Emitter(redis_server.url, socketio=settings) as blocking:
            yield {
                "one": scene.one,
                "two": scene.two,
                "emitter": blocking,
                "async emitter": awaited,
            }


async def sent(result: Awaitable[None] | None) -> None:
    """Return when what an operator returned is done, blocking or not."""
    if result is not None:
        await result


async def from_node(scene: Scene, sender: str, operator: str, *event: Any) -> dict[str, list[Any]]:
    """What everyone has got of an event, and of nothing else."""
    end, io = scene.end(), NODE_SENDERS[sender]
    code = f"{operator.replace('IO', io)}.emit(...{json.dumps(event)}); {io}.emit('{end}')"
    await scene.node.run(f"const sids = {json.dumps(scene.sids)}; {code}")
    return await scene.heard(end)


def of(names: set[str], *event: Any) -> dict[str, list[Any]]:
    """Everyone, of whom some have got an event once."""
    native, there = as_native(event), list(event)
    return {
        name: [native if name in Scene.ROOMS else there] if name in names else []
        for name in sorted(EVERYONE)
    }


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("sender", NODE_SENDERS)
async def test_what_node_sends_is_heard_by_whom_it_is_for_once(
    scene: Scene, sender: str, verb: str
) -> None:
    operator, _, names = VERBS[verb]
    assert await from_node(scene, sender, operator, "news", verb, 1) == of(names, "news", verb, 1)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("sender", OUR_SENDERS)
async def test_what_we_send_is_heard_by_whom_it_is_for_once(
    scene: Scene, senders: dict[str, Any], sender: str, verb: str
) -> None:
    _, operator, names = VERBS[verb]
    end = scene.end()
    await sent(operator(senders[sender], scene.sids).emit("news", verb, 1))
    await sent(senders[sender].emit(end))
    assert await scene.heard(end) == of(names, "news", verb, 1)


async def test_a_number_is_a_room_by_either_name(scene: Scene, senders: dict[str, Any]) -> None:
    here = of({"bob", "yan"}, "n")
    assert await from_node(scene, "redis", "IO.to(42)", "n") == here
    assert await from_node(scene, "redis", "IO.to('42')", "n") == of({"bob"}, "n")
    for sender in ("one", "emitter"):
        end = scene.end()
        await sent(senders[sender].to("42").emit("n"))
        await sent(senders[sender].emit(end))
        assert await scene.heard(end) == here


async def test_local_stays_on_its_server(scene: Scene) -> None:
    assert await from_node(scene, "redis", "IO.local", "here") == of({"xia"}, "here")
    end = scene.end()
    await scene.one.local.emit("here")
    await scene.one.emit(end)
    assert await scene.heard(end) == of({"ann"}, "here")


async def test_a_socket_sends_to_all_others_on_both_sides(scene: Scene) -> None:
    end = scene.end()
    await scene.members["ann"].socket.to("red", "blue").emit("mine")
    await scene.one.emit(end)
    assert await scene.heard(end) == of({"bob", "xia", "yan"}, "mine")
    end = scene.end()
    await scene.node.run(
        f"await a.clients.xia.emitWithAck('relay', ['red', 'blue'], 'theirs'); a.io.emit('{end}')"
    )
    assert await scene.heard(end) == of({"ann", "bob", "yan"}, "theirs")


MESSAGES: list[tuple[Any, str | bytes]] = [
    ("hello", "hello"),
    ("", ""),
    ("héé 🎉\0", "héé 🎉\0"),
    ("5", "5"),
    ({"a": [1, None, True, "x"]}, '{"a":[1,null,true,"x"]}'),
    ([], "[]"),
    ({"bytes": "0001ff"}, b"\x00\x01\xff"),
]
"""What Socket.IO's `send` sends, bytes written as hexadecimal digits, and the native message."""


async def test_plain_messages_are_the_event_message(scene: Scene) -> None:
    end = scene.end()
    for argument, native in MESSAGES:
        if isinstance(native, bytes):
            await scene.one.send_bytes(native)
        elif isinstance(argument, str):
            await scene.one.send_text(native)
        else:
            await scene.one.send_json(argument)
    await scene.one.emit(end)
    heard = await scene.heard(end)
    assert heard["ann"] == heard["bob"] == [native for _, native in MESSAGES]
    assert heard["xia"] == heard["yan"] == [["message", argument] for argument, _ in MESSAGES]


async def test_socketios_send_is_a_plain_message(scene: Scene) -> None:
    end = scene.end()
    arguments = json.dumps([argument for argument, _ in MESSAGES])
    await scene.node.run(
        f"for (const x of {arguments}) b.io.send(x?.bytes ? Buffer.from(x.bytes, 'hex') : x); "
        f"b.io.emit('{end}')"
    )
    assert (await scene.heard(end))["bob"] == [native for _, native in MESSAGES]


async def test_bytes_may_be_anywhere_in_an_event(scene: Scene) -> None:
    native = '{"event":"e","args":[{"$binary":"AP8="},{"deep":[{"$binary":"qg=="}]}]}'
    there = ["e", {"bytes": "00ff"}, {"deep": [{"bytes": "aa"}]}]
    end = scene.end()
    await scene.two.emit("e", b"\x00\xff", {"deep": [bytearray(b"\xaa")]})
    await scene.two.emit(end)
    heard = await scene.heard(end)
    assert heard == {"ann": [native], "bob": [native], "xia": [there], "yan": [there]}
    end = scene.end()
    await scene.node.run(
        f"a.io.emit('e', Buffer.from([0, 255]), {{deep: [new Uint8Array([170])]}}); "
        f"a.io.emit('{end}')"
    )
    heard = await scene.heard(end)
    assert heard["ann"] == heard["bob"] == [native]


async def test_dates_and_undefined_are_what_json_makes_of_them(scene: Scene) -> None:
    end = scene.end()
    await scene.node.run(
        f"b.io.emit('e', new Date(5), undefined, {{u: undefined, k: 1n << 40n ? 1 : 0}}); "
        f"b.io.emit('{end}')"
    )
    expected = json.dumps(
        {"event": "e", "args": ["1970-01-01T00:00:00.005Z", None, {"k": 1}]}, **COMPACT
    )
    assert (await scene.heard(end))["ann"] == [expected]


async def test_order_is_kept_over_rooms_sids_and_everyone(scene: Scene) -> None:
    end, count = scene.end(), 200
    await scene.node.run(
        f"const to = [a.io, a.io.to('blue'), a.io.to({json.dumps(scene.sids['bob'])})]; "
        f"for (let n = 0; n < {count}; n++) to[n % 3].emit('n', n); a.io.emit('{end}')"
    )
    heard = await scene.heard(end)
    assert heard["bob"] == [as_native(["n", n]) for n in range(count)]
    end = scene.end()
    to = [scene.one, scene.one.to("blue"), scene.one.to(scene.sids["yan"])]
    for n in range(count):
        await to[n % 3].emit("n", n)
    await scene.one.emit(end)
    assert (await scene.heard(end))["yan"] == [["n", n] for n in range(count)]


async def test_namespaces_are_apart(scene: Scene) -> None:
    chat = scene.one.of("/chat")
    await scene.node.run("await b.client('zoe', {namespace: '/chat', rooms: ['red']})")
    async with chat.listen("red") as messages:
        end = scene.end()
        await scene.node.run(f"a.io.of('/chat').to('red').emit('c', 1); a.io.emit('{end}')")
        assert (await anext(messages)).text == as_native(["c", 1])
        assert names_of(await scene.heard(end)) == set()
        await scene.two.of("/chat").to("red").emit("c", 2)
        assert (await anext(messages)).text == as_native(["c", 2])
        await scene.two.of("/chat").emit("end")
        assert await scene.node.run("return b.gotUntil('zoe', 'end')") == [["c", 1], ["c", 2]]


async def test_a_join_is_done_when_what_node_sends_is_received(scene: Scene) -> None:
    member = scene.members["bob"]
    for number in range(20):
        room = f"new{number}"
        await member.socket.join(room)
        end = scene.end()
        await scene.node.run(f"a.io.to('{room}').emit('in', {number}); a.io.emit('{end}')")
        assert await scene.heard(end) == of({"bob"}, "in", number)
        await member.socket.leave(room)
