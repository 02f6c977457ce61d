"""Beside a Socket.IO server: the page's applications, its table, and the rights it asks for."""

from __future__ import annotations

import shlex
from types import ModuleType

from redis import Redis
from starlette.testclient import TestClient

from fastapi_rooms import Events, RoomManager, SocketIO
from fastapi_rooms.testing import Member, RedisServer
from fastapi_rooms.wire.socketio import msgpack
from tests.docs.conftest import as_user
from tests.docs.pages import blocks
from tests.docs.registry import shows
from tests.docs.sessions import joined

PAGE = "docs/howto/socketio.md"


@shows(PAGE, "app.py")
def test_what_is_sent_reaches_native_clients_and_node_servers(
    example: ModuleType, redis_server: RedisServer
) -> None:
    with (
        Redis.from_url(redis_server.url) as redis,
        redis.pubsub() as node,
        TestClient(example.app) as client,
        joined(client, example.rooms, "/chat/tea", "/chat/tea") as (ann, bob),
    ):
        node.psubscribe("socket.io#/#*")
        node.get_message(timeout=10)
        ann.send_text("hello")
        client.post("/prices/tea?tea=2.5")
        for session in (ann, bob):
            assert session.receive_text() == "hello"
            assert session.receive_json() == {"event": "price", "args": [{"tea": 2.5}]}
        events: list[object] = []
        while len(events) < 2:
            message = node.get_message(timeout=10)
            assert message is not None
            assert message["channel"] == b"socket.io#/#tea#"
            events.append(msgpack.unpack(message["data"])[1]["data"])
        assert events == [["message", "hello"], ["price", {"tea": 2.5}]]


@shows(PAGE, "phoenix.py")
def test_a_codec_of_ones_own_keeps_bytes_to_their_side(example: ModuleType) -> None:
    codec = example.Phoenix()
    native = codec.to_native("new_msg", ["room:1", {"body": "hi"}])
    assert native == '[null, null, "room:1", "new_msg", {"body": "hi"}]'
    assert codec.to_event(native) == ["new_msg", "room:1", {"body": "hi"}]
    assert codec.to_native("x", ["room:1", b""]) is None
    assert codec.to_event(b"") is None


def test_the_form_of_nestjs_is_what_is_shown() -> None:
    codec = Events(data="data")
    assert codec.to_native("price", [{"tea": 1}]) == '{"event":"price","data":{"tea":1}}'


def rule_of(page: str, words: str) -> list[str]:
    """The one rule on a page that has these words."""
    (block,) = [b for b in blocks("text", page=page) if words in b.code]
    return shlex.split(block.code)


async def test_the_acl_rule_shown_is_enough(own_redis: RedisServer) -> None:
    worker = rule_of("docs/howto/deployment/redis.md", "&rooms#* -@all")
    more = rule_of(PAGE, "+psubscribe")
    with Redis.from_url(own_redis.url) as admin:
        admin.execute_command(*worker)
        admin.execute_command(*more)
        async with (
            RoomManager(as_user(own_redis.url, "rooms"), socketio=SocketIO()) as rooms,
            Member(rooms, "tea") as ann,
        ):
            assert rooms.health.ready
            await rooms.to("tea").emit("hello")
            assert await ann.receive_json() == {"event": "hello", "args": []}
            assert await rooms.count() == 1
            data = msgpack.pack(["node", {"type": 2, "data": ["hi"], "nsp": "/"}, {}])
            admin.publish(f"socket.io#/#{ann.sid}#", data)
            assert await ann.receive_json() == {"event": "hi", "args": []}
