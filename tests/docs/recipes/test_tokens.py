"""JWT in the first message, in a cookie, as a subprotocol, as a ticket: who comes in."""

from __future__ import annotations

import time
from types import ModuleType
from typing import Any

import jwt
import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from tests.docs.registry import shows
from tests.docs.sessions import ends_with

PAGE = "docs/recipes/jwt.md"
SECRET = "at least 32 bytes, and not in the repository"
ORIGIN = {"origin": "https://chat.example.com"}


def token(user: str | None = "ann", lasts: float = 60, secret: str = SECRET, **more: Any) -> str:
    claims = {"exp": time.time() + lasts} | ({"sub": user} if user else {}) | more
    return jwt.encode(claims, secret, "HS256")


FORGED = token(secret="another secret of at least 32 bytes")


def log_in(session: WebSocketTestSession, **claims: Any) -> float:
    session.send_json({"token": token(**claims)})
    left = session.receive_json()["expires in"]
    assert isinstance(left, float)
    return left


def refused(client: TestClient, path: str, **options: Any) -> int:
    """The status with which a connection is refused before it is accepted."""
    with pytest.raises(WebSocketDenialResponse) as denial:
        client.websocket_connect(path, **options).__enter__()
    return denial.value.status_code


@shows(PAGE, "app.py")
def test_a_token_in_the_first_message(example: ModuleType) -> None:
    with TestClient(example.app) as client, client.websocket_connect("/chat/tea") as ann:
        assert 50 < log_in(ann, lasts=60) < 61
        ann.send_json({"text": "hello"})
        assert ann.receive_json() == {"from": "ann", "text": "hello"}
        assert 500 < log_in(ann, lasts=600) < 601
        ann.send_json({"text": "still here"})
        assert ann.receive_json() == {"from": "ann", "text": "still here"}
        ann.send_json({"token": token("bob")})
        assert ends_with(ann) == (4401, "another user's token")


@shows(PAGE, "app.py")
def test_a_renewed_token_lasts_and_one_that_is_not_ends_the_connection(example: ModuleType) -> None:
    with (
        TestClient(example.app) as client,
        client.websocket_connect("/chat/tea") as ann,
        client.websocket_connect("/chat/tea") as bob,
    ):
        log_in(ann, lasts=3)
        log_in(bob, user="bob", lasts=3)
        log_in(ann)
        assert ends_with(bob) == (4401, "log in")
        ann.send_json({"text": "still here"})
        assert ann.receive_json() == {"from": "ann", "text": "still here"}


@shows(PAGE, "app.py")
def test_a_bad_token_ends_the_connection(example: ModuleType) -> None:
    with TestClient(example.app) as client:
        for bad in (FORGED, token(lasts=-1), token(user=None), "nonsense", ""):
            with client.websocket_connect("/chat/tea") as ann:
                ann.send_json({"token": bad})
                assert ends_with(ann) == (4401, "log in")
                assert "tea" not in example.rooms.rooms


@shows(PAGE, "app.py")
def test_texts_before_the_token_end_the_connection(example: ModuleType) -> None:
    with TestClient(example.app) as client:
        for message in ({"text": "hello"}, {"token": 5}, ["token"], "text"):
            with client.websocket_connect("/chat/tea") as ann:
                ann.send_json(message)
                assert ends_with(ann)[0] == 4400


@shows(PAGE, "cookie.py")
def test_a_token_in_a_cookie(example: ModuleType) -> None:
    def cookie(value: str) -> dict[str, str]:
        return {**ORIGIN, "cookie": f"token={value}"}

    with TestClient(example.app) as client:
        with client.websocket_connect("/chat/tea", headers=cookie(token(lasts=3))) as ann:
            ann.send_text("hello")
            assert ann.receive_json() == {"from": "ann", "text": "hello"}
            assert ends_with(ann) == (4401, "log in")
        for bad in (FORGED, token(lasts=-1), token(user=None), ""):
            assert refused(client, "/chat/tea", headers=cookie(bad)) == 401
        headers = {**cookie(token()), "origin": "https://evil.example.com"}
        with pytest.raises(WebSocketDisconnect) as end:
            client.websocket_connect("/chat/tea", headers=headers).__enter__()
        assert end.value.code == 1008


@shows(PAGE, "subprotocol.py")
def test_a_token_as_a_subprotocol(example: ModuleType) -> None:
    with TestClient(example.app) as client:
        protocols = ["bearer", token()]
        with client.websocket_connect("/chat/tea", subprotocols=protocols) as ann:
            assert str(ann.accepted_subprotocol) == "bearer"
            ann.send_text("hello")
            assert ann.receive_json() == {"from": "ann", "text": "hello"}
        for bad in (["bearer"], ["bearer", FORGED], ["other", token()], [token()]):
            assert refused(client, "/chat/tea", subprotocols=bad) == 401


@shows(PAGE, "ticket.py")
def test_a_ticket_in_the_query(example: ModuleType) -> None:
    def bearer(value: str) -> dict[str, str]:
        return {"authorization": f"Bearer {value}"}

    access = token(aud="routes")
    with TestClient(example.app) as client:
        ticket = client.post("/tickets", headers=bearer(access)).json()
        with client.websocket_connect(f"/chat/tea?ticket={ticket}") as ann:
            ann.send_text("hello")
            assert ann.receive_json() == {"from": "ann", "text": "hello"}
        assert client.post("/tickets", headers=bearer(ticket)).status_code == 401
        assert client.post("/tickets").status_code in (401, 403)
        old = token(aud="sockets", lasts=-1)
        for bad in (access, old, FORGED, "nonsense"):
            assert refused(client, f"/chat/tea?ticket={bad}") == 401
