"""Notifications, who is online, typing, private rooms: what people get to know of each other."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any
from urllib.request import urlopen

from starlette.testclient import TestClient
from websockets.sync.client import ClientConnection, connect

from fastapi_rooms.testing import RedisServer
from tests.docs.conftest import Serve
from tests.docs.registry import shows
from tests.docs.sessions import joined
from tests.integration.servers import wait_until

ANN, BOB = ({"cookie": f"session={session}"} for session in ("s3cret", "pa55"))


@shows("docs/recipes/notifications.md", "notify.py")
def test_one_user_has_several_tabs(example: ModuleType) -> None:
    with (
        TestClient(example.app) as client,
        client.websocket_connect("/notifications", headers={**ANN}) as first,
        client.websocket_connect("/notifications", headers={**ANN}) as second,
        client.websocket_connect("/notifications", headers={**BOB}) as bob,
    ):
        wait_until(lambda: len(example.rooms.rooms.get("user:ann", ())) == 2)
        wait_until(lambda: len(example.rooms.rooms.get("user:bob", ())) == 1)
        assert client.post("/users/ann/notify?text=hello").json() == 2
        assert client.post("/users/bob/notify?text=bye").json() == 1
        assert client.post("/users/cem/notify?text=hello").json() == 0
        for session, text in ((first, "hello"), (second, "hello"), (bob, "bye")):
            assert session.receive_json() == {"notification": text}


def heard(client: ClientConnection, name: str) -> Any:
    """What a user hears next. Whether newcomers hear of themselves is not promised."""
    message = json.loads(client.recv(timeout=10))
    return heard(client, name) if message == {"join": name} else message


@shows("docs/recipes/who-is-online.md", "app.py")
def test_a_user_with_two_tabs_is_online_once_and_comes_and_goes_once(
    example: ModuleType, serve: Serve, redis_server: RedisServer
) -> None:
    redis_server.command("FLUSHALL")
    example.presence._rule.grace = 0.1
    host = serve(example.app)
    address = f"ws://{host}/chat/tea"
    members = example.rooms.rooms
    with connect(f"{address}?user=ann") as ann:
        wait_until(lambda: "chat-tea" in members)
        with connect(f"{address}?user=bob") as first:
            assert heard(ann, "ann") == {"join": "bob"}
            wait_until(lambda: len(members["chat-tea"]) == 2)
            with connect(f"{address}?user=bob") as second:
                second.send("hello")
                said = {"from": "bob", "text": "hello"}
                assert heard(ann, "ann") == heard(first, "bob") == said
                with urlopen(f"http://{host}/chat/tea/online") as answer:
                    assert json.load(answer) == ["ann", "bob"]
            wait_until(lambda: len(members["chat-tea"]) == 2)
            first.send("still here")
            assert heard(ann, "ann") == {"from": "bob", "text": "still here"}
        assert heard(ann, "ann") == {"leave": "bob"}
        ann.send("alone")
        assert heard(ann, "ann") == {"from": "ann", "text": "alone"}


@shows("docs/recipes/typing.md", "app.py")
def test_the_others_see_who_types(example: ModuleType) -> None:
    paths = [f"/chat/tea?user={user}" for user in ("ann", "bob")]
    with TestClient(example.app) as client, joined(client, example.rooms, *paths) as (ann, bob):
        for message in ({"typing": True}, {"typing": 1}, "nonsense", {"text": 5}, {"text": "hi"}):
            ann.send_json(message)
        assert bob.receive_json() == {"typing": "ann"}
        assert bob.receive_json() == ann.receive_json() == {"from": "ann", "text": "hi"}


@shows("docs/recipes/private-rooms.md", "app.py")
def test_a_private_room_is_for_its_members(example: ModuleType) -> None:
    with (
        TestClient(example.app) as client,
        client.websocket_connect("/chat", headers={**ANN}) as ann,
        client.websocket_connect("/chat", headers={**BOB}) as bob,
    ):

        def member(method: str, by: dict[str, str]) -> int:
            path = "/rooms/private-tea/members/bob"
            return client.request(method, path, headers=by).status_code

        ann.send_json({"join": "private-tea"})
        assert ann.receive_json() == {"joined": "private-tea"}
        for room in ("user:ann", "private-" + "x" * 50, 5):
            bob.send_json({"join": room})  # is ignored
        bob.send_json({"join": "private-tea"})
        assert bob.receive_json() == {"refused": "private-tea"}
        bob.send_json({"to": "private-tea", "text": "hello?"})  # is ignored
        assert member("PUT", BOB) == 403
        assert member("DELETE", BOB) == 403
        assert member("PUT", ANN) == 200
        assert bob.receive_json() == {"invited": "private-tea"}
        bob.send_json({"join": "private-tea"})
        assert bob.receive_json() == {"joined": "private-tea"}
        ann.send_json({"to": "private-tea", "text": "hello"})
        said = {"in": "private-tea", "from": "ann", "text": "hello"}
        assert ann.receive_json() == bob.receive_json() == said
        assert member("DELETE", ANN) == 200
        assert bob.receive_json() == {"removed": "private-tea"}
        ann.send_json({"to": "private-tea", "text": "Has he gone?"})
        assert ann.receive_json()["text"] == "Has he gone?"
        bob.send_json({"join": "public-tea"})
        assert bob.receive_json() == {"joined": "public-tea"}  # and he has not heard that
