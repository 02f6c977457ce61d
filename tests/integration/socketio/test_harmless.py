"""Nothing that an application sends raises in Node, or disconnects a client there."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from fastapi_rooms import InvalidText, UsageError
from tests.integration.socketio.scene import Scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

COUNT = 1_000
TEXTS = ["", "connect", "disconnect", "error", "__proto__", "toJSON", "\0", "é🎉", "x" * 3_000]
TEXTS += ["_placeholder", "num", "type", "data", "nsp", '{"event":"disconnect","args":[]}', "[1"]
NUMBERS = [0, -1, 2**31, 2**53 + 1, 2**63, -(2**63), 2**64, 10**30, 10**400, 1e300, -0.0, 5e-324]


def some_value(rng: random.Random, depth: int = 0) -> Any:
    """Anything that may be an argument."""
    match rng.randrange(9 if depth < 4 else 6):
        case 0:
            return rng.choice([None, True, False])
        case 1:
            return rng.choice(NUMBERS)
        case 2:
            return rng.choice([float("nan"), float("inf"), rng.random()])
        case 3 | 4:
            return rng.choice(TEXTS) + chr(rng.choice([65, 0x7F, 0x2028, 0x10FFFF, 0xD800]))
        case 5:
            return rng.choice([rng.randbytes(rng.randrange(300)), bytearray(b"x"), b""])
        case 6:
            return [some_value(rng, depth + 1) for _ in range(rng.randrange(5))]
        case 7:
            return {"_placeholder": rng.choice([True, 1, False]), "num": some_value(rng, 9)}
        case _:
            keys = [*TEXTS, "1", "a.b", "$binary", "event", "args"]
            return {rng.choice(keys): some_value(rng, depth + 1) for _ in range(rng.randrange(5))}


def deep(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"x": value}
    return value


async def send_anything(scene: Scene, rng: random.Random) -> bool:
    """Send something, or have it refused; whether it was sent."""
    name = rng.choice(["news", *TEXTS, "newListener", "removeListener", "connect_error", "\ud800"])
    rooms = rng.choices(["red", "blue", "42", "#", "x#y", "é", "*", "[a]", "-0", "1.5"], k=2)
    operator = scene.one if rng.random() < 0.3 else scene.one.to(*rooms)
    operator = operator.except_(*rng.choices(["none", "7", "#"], k=rng.randrange(3)))
    try:
        match rng.randrange(8):
            case 0:
                await operator.send_text(rng.choice(TEXTS))
            case 1:
                await operator.send_bytes(rng.randbytes(rng.randrange(100)))
            case 2 | 3:
                await operator.send_json(without_bytes(some_value(rng)))
            case 4:
                await operator.emit("deep", deep(rng.choice([10, 400, 490, 5_000])))
            case _:
                args = [some_value(rng) for _ in range(rng.randrange(15))]
                await operator.emit(name, *args)
    except (UsageError, ValueError):
        return False
    return True


def without_bytes(value: Any) -> Any:
    match value:
        case bytes() | bytearray():
            return value.hex()
        case list():
            return [without_bytes(each) for each in value]
        case dict():
            return {key: without_bytes(each) for key, each in value.items()}
        case _:
            return value


async def test_a_thousand_messages_of_any_kind_harm_no_node_server_and_no_client(
    scene: Scene,
) -> None:
    rng = random.Random(20)
    sent = sum([await send_anything(scene, rng) for _ in range(COUNT)])
    assert sent > COUNT / 2
    end = scene.end()
    await scene.one.emit(end)
    heard = await scene.heard(end)
    assert len(heard["xia"]) > sent / 4
    assert len(heard["xia"]) == len(heard["ann"])
    assert len(heard["yan"]) == len(heard["bob"])
    gone = await scene.node.run("return [a.clients.xia.gone, b.clients.yan.gone, ...faults]")
    assert gone == [None, None]


@pytest.mark.parametrize(
    "name", ["connect", "connect_error", "disconnect", "disconnecting", "newListener"]
)
async def test_a_name_that_would_disconnect_clients_is_refused(scene: Scene, name: str) -> None:
    with pytest.raises(UsageError, match="keeps for itself"):
        await scene.one.emit(name)


async def test_what_node_cannot_carry_is_refused_and_nobody_gets_it(scene: Scene) -> None:
    with pytest.raises(UsageError, match="11 byte strings"):
        await scene.one.emit("many", [b"x"] * 11)
    with pytest.raises(UsageError, match="_placeholder"):
        await scene.one.emit("forged", b"x", {"_placeholder": True, "num": 9})
    with pytest.raises(UsageError, match="__proto__"):
        await scene.one.emit("prototype", {"__proto__": b"x"})
    with pytest.raises(InvalidText):
        await scene.one.emit("half", "\ud800")
    with pytest.raises((UsageError, ValueError)):
        await scene.one.emit("deep", deep(5_000))
    with pytest.raises(TypeError):
        await scene.one.emit("thing", object())
    with pytest.raises(UsageError, match="named by a string"):
        await scene.one.emit(5)  # type: ignore[arg-type]  # on purpose
    end = scene.end()
    await scene.one.emit(end)
    assert set(map(len, (await scene.heard(end)).values())) == {0}


async def test_ten_byte_strings_arrive(scene: Scene) -> None:
    end = scene.end()
    await scene.one.emit("ten", *[bytes([n]) for n in range(10)])
    await scene.one.emit(end)
    heard = await scene.heard(end)
    assert heard["xia"] == [["ten", *({"bytes": f"{n:02x}"} for n in range(10))]]


async def test_plain_messages_are_never_refused_for_what_clients_have_written(
    scene: Scene,
) -> None:
    end = scene.end()
    await scene.one.send_text('{"event":"disconnect","args":[1]}')
    await scene.one.send_json({"half": "\ud800", "big": 2**70})
    await scene.one.send_text("[" * 400 + "]" * 400)
    await scene.one.send_text("[" * 1_000 + "]" * 1_000)
    await scene.one.send_text(json.dumps([{"$binary": "AA=="}] * 11))
    await scene.one.send_text('{"a":{"__proto__":{"$binary":"AA=="}}}')
    await scene.one.send_text('[{"$binary":"AA=="},{"_placeholder":true,"num":9}]')
    await scene.one.emit(end)
    heard = (await scene.heard(end))["xia"]
    assert heard[0] == ["message", {"event": "disconnect", "args": [1]}]
    assert heard[1] == ["message", {"half": "\ufffd", "big": 2**70}]
    assert json.dumps(heard[2]) == json.dumps(["message", json.loads("[" * 400 + "]" * 400)])
    assert heard[3] == ["message", "[" * 1_000 + "]" * 1_000]
    assert heard[4] == ["message", [{"$binary": "AA=="}] * 11]
    assert heard[5] == ["message", {"a": {}}]
    assert heard[6] == ["message", [{"$binary": "AA=="}, {"_placeholder": True, "num": 9}]]
