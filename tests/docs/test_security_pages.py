"""Who may connect, and join what: the files of these pages do what is said of them."""

from __future__ import annotations

from types import ModuleType

import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.docs.conftest import Serve
from tests.docs.registry import shows
from tests.docs.sessions import ends_with

SESSION = {"cookie": "session=s3cret", "origin": "https://chat.example.com"}


@shows("docs/howto/authentication.md", "app.py")
def test_authentication(example: ModuleType) -> None:
    with TestClient(example.app) as client:
        with client.websocket_connect("/chat/tea", headers={**SESSION}) as ann:
            ann.send_text("hello")
            assert ann.receive_json() == {"from": "ann", "text": "hello"}
        with pytest.raises(WebSocketDenialResponse) as denial:
            client.websocket_connect("/chat/tea", headers={**SESSION, "cookie": ""}).__enter__()
        assert denial.value.status_code == 401
        with pytest.raises(WebSocketDisconnect) as disconnect:
            client.websocket_connect("/chat/tea", headers={**SESSION, "origin": "evil"}).__enter__()
        assert disconnect.value.code == 1008
        with client.websocket_connect("/chat/secrets", headers={**SESSION}) as ann:
            with pytest.raises(WebSocketDisconnect) as disconnect:
                ann.receive_text()
            assert (disconnect.value.code, disconnect.value.reason) == (1008, "not a member")


@shows("docs/howto/authentication.md", "app.py")
def test_what_a_client_sees_when_it_is_turned_away(example: ModuleType, serve: Serve) -> None:
    address = f"ws://{serve(example.app)}/chat"
    for headers, status in (
        ({**SESSION, "origin": "https://evil.example.com"}, 403),
        ({**SESSION, "cookie": "session=guessed"}, 401),
    ):
        with pytest.raises(InvalidStatus) as refused:
            connect(f"{address}/tea", additional_headers=headers)
        assert refused.value.response.status_code == status
    with connect(f"{address}/secrets", additional_headers={**SESSION}) as client:
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=10)
        assert client.close_code == 1008


ORIGIN = {"origin": "https://chat.example.com"}
ANN, BOB = ({**ORIGIN, "cookie": f"session={session}"} for session in ("s3cret", "pa55"))


@shows("docs/howto/security.md", "app.py")
def test_security(example: ModuleType) -> None:
    with TestClient(example.app) as client:
        with (
            client.websocket_connect("/chat", headers={**ANN}) as ann,
            client.websocket_connect("/chat", headers={**BOB, "origin": "http://localhost"}) as bob,
        ):
            for session in (ann, bob):
                session.send_text("join public-tea")
                assert session.receive_text() == "you are in public-tea"
            ann.send_text("join private-tea")
            assert ann.receive_text() == "you are in private-tea"
            ann.send_text("say public-tea hello, Bob")
            assert bob.receive_text() == "hello, Bob"
            bob.send_text("join private-tea")
            assert ends_with(bob) == (1008, "not allowed to join 'private-tea'")
            ann.send_text("join secrets")
            assert ends_with(ann) == (1008, "not allowed to join 'secrets'")
        with client.websocket_connect("/chat", headers={**BOB}) as bob:
            for number in range(21):
                bob.send_text(f"say nothing {number}")
            assert ends_with(bob) == (4429, "too many messages")
        with client.websocket_connect("/chat", headers={**BOB}) as bob:
            bob.send_text("x" * 16_385)
            assert ends_with(bob) == (4429, "too many messages")
        assert not example.rooms.sids


@shows("docs/howto/security.md", "app.py")
def test_security_refuses_other_sites_and_unknown_users(example: ModuleType, serve: Serve) -> None:
    address = f"ws://{serve(example.app)}/chat"
    for headers, status in (
        ({**ANN, "origin": "https://evil.example"}, 403),
        ({**ANN, "origin": "http://chat.example.com"}, 403),
        ({**ANN, "cookie": ""}, 401),
    ):
        with pytest.raises(InvalidStatus) as refused:
            connect(address, additional_headers=headers)
        assert refused.value.response.status_code == status
