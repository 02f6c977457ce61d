"""The support desk on two workers, with Redis, a Celery worker, and clients on both."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from fastapi_rooms.testing import RedisServer
from tests.docs.pages import ROOT
from tests.docs.programs import listens
from tests.integration.servers import Server, Start, starter, wait_until

RECIPES = ROOT / "docs" / "recipes"

UVICORNS_OWN = "ASGI callable returned without completing handshake."
"""What uvicorn says when it has answered a handshake with 401, and nothing is wrong."""


class Desk:
    """The servers, and how people reach them."""

    def __init__(self, start: Start, redis: RedisServer, workers: int = 2, **env: str) -> None:
        self.env = {
            "DESK_REDIS": redis.url,
            "PYTHONPATH": f"{RECIPES}:{ROOT}",
            "PYTHONWARNINGS": "",  # uvicorn's and Celery's own, as their users see them
            **env,
        }
        options = ("desk:app", "--workers", str(workers), "--no-access-log")
        self.server: Server = start(
            lambda port: [sys.executable, "-m", "uvicorn", *options, "--port", str(port)],
            **self.env,
        )
        ready = "Application startup complete"
        wait_until(lambda: listens(self.server) and self.server.log.count(ready) == workers, 60)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def request(self, method: str, path: str, cookie: str = "") -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        self._open.callback(connection.close)
        connection.request(method, path, headers={"cookie": cookie})
        response = connection.getresponse()
        self._open.callback(response.close)
        return response

    def log_in(self, name: str) -> str:
        """The cookie that a user gets."""
        cookie = self.request("POST", f"/login?name={name}").headers["set-cookie"]
        assert "HttpOnly" in cookie
        return cookie.split(";")[0]

    def open(self, number: int, cookie: str, **headers: str) -> ClientConnection:
        headers["cookie"] = cookie
        url = self.server.url(f"/tickets/{number}")
        return self._open.enter_context(connect(url, additional_headers=headers))

    def join(self, number: int, name: str) -> ClientConnection:
        """Somebody in a ticket who knows that they are in it."""
        client = self.open(number, self.log_in(name))
        assert heard(client) == {"type": "joined", "ticket": number}
        return client


def heard(client: ClientConnection) -> Any:
    return json.loads(client.recv(timeout=20))


def say(client: ClientConnection, **message: str) -> None:
    client.send(json.dumps(message))


def end_of(client: ClientConnection) -> tuple[int | None, str | None]:
    with pytest.raises(ConnectionClosed):
        client.recv(timeout=20)
    return client.close_code, client.close_reason


@pytest.fixture(scope="module")
def start_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    with starter(tmp_path_factory.mktemp("desk")) as start:
        yield start


@pytest.fixture(scope="module")
def servers(start_here: Start, redis_server: RedisServer) -> Desk:
    return Desk(start_here, redis_server)


@pytest.fixture
def desk(servers: Desk) -> Iterator[Desk]:
    with servers:
        yield servers
    assert [line for line in servers.server.complaints if UVICORNS_OWN not in line] == []


def test_a_customer_and_agents_talk_in_a_ticket(desk: Desk) -> None:
    people = ann, cem, dora = [desk.join(1, name) for name in ("ann", "cem", "dora")]
    bob = desk.join(2, "bob")
    say(ann, type="say", text="Nothing works.")
    for client in people:
        assert heard(client) == {"type": "said", "from": "ann", "text": "Nothing works."}
    say(cem, type="typing")
    for client in (ann, dora):
        assert heard(client) == {"type": "typing", "from": "cem"}
    say(cem, type="note", text="She is right.")
    say(cem, type="say", text="Let me see.")
    for client in (cem, dora):
        assert heard(client) == {"type": "note", "from": "cem", "text": "She is right."}
    for client in people:  # which is the next thing that Ann hears
        assert heard(client) == {"type": "said", "from": "cem", "text": "Let me see."}
    say(bob, type="say", text="Hello?")
    assert heard(bob)["text"] == "Hello?"  # and nothing of ticket 1


def test_who_may_not_is_turned_away(desk: Desk) -> None:
    with pytest.raises(InvalidStatus) as refused:
        desk.open(1, "token=guessed")
    assert refused.value.response.status_code == 401
    with pytest.raises(InvalidStatus) as refused:
        desk.open(1, desk.log_in("ann"), origin="https://evil.example.com")
    assert refused.value.response.status_code == 403
    bob = desk.open(1, desk.log_in("bob"))
    assert end_of(bob) == (1008, "not allowed to join 'ticket:1'")
    assert end_of(desk.open(3, desk.log_in("cem"))) == (4404, "no such ticket")
    ann = desk.join(1, "ann")
    say(ann, type="note", text="I am an agent.")
    assert end_of(ann) == (4403, "agents only")
    for method, path in (
        ("POST", "/announcements?text=hello"),
        ("POST", "/tickets/1/close"),
        ("GET", "/dashboard"),
    ):
        assert desk.request(method, path, desk.log_in("ann")).status == 403
        assert desk.request(method, path).status == 401


def test_what_is_not_a_message_is_told(desk: Desk) -> None:
    ann = desk.join(1, "ann")
    for wrong in ("{", '{"type": "sing"}', '{"type": "say"}', json.dumps("x" * 3000)):
        ann.send(wrong)
        assert heard(ann)["type"] == "wrong"
    ann.send("x" * 20_000)
    assert end_of(ann) == (4429, "too many messages")


def test_an_announcement_reaches_everyone(desk: Desk) -> None:
    clients = desk.join(1, "ann"), desk.join(2, "bob"), desk.join(1, "cem")
    text = "We close in five minutes."
    path = f"/announcements?text={quote(text)}"
    assert desk.request("POST", path, desk.log_in("cem")).status == 200
    for client in clients:
        assert heard(client) == {"type": "announcement", "text": text}


@contextmanager
def celery(desk: Desk, start: Start) -> Iterator[Server]:
    command = ["celery", "-A", "desk.celery", "worker", "--concurrency", "2"]
    worker = start(lambda _: [sys.executable, "-m", *command], **desk.env)
    yield worker
    worker.stop()


def test_a_closed_ticket_is_summarized_for_agents_and_the_dashboard(
    desk: Desk, start_here: Start
) -> None:
    ann, cem = desk.join(1, "ann"), desk.join(1, "cem")
    dashboard = desk.request("GET", "/dashboard", desk.log_in("dora"))
    assert dashboard.headers["content-type"].startswith("text/event-stream")
    assert dashboard.readline() == b": listening\n"
    say(ann, type="say", text="It works!")
    with celery(desk, start_here):
        assert desk.request("POST", "/tickets/1/close", desk.log_in("cem")).status == 200
        for client in (ann, cem):
            assert heard(client)["type"] == "said"
            assert heard(client) == {"type": "closed"}
        summary = "a summary of ticket 1"
        assert heard(cem) == {"type": "summary", "text": summary}
        assert events(dashboard, 2) == [
            {"ticket": 1, "from": "ann"},
            {"ticket": 1, "summary": summary},
        ]
    desk.request("POST", "/announcements?text=bye", desk.log_in("cem"))
    assert heard(ann)["text"] == "bye"  # the next after "closed": she heard no summary
    assert events(dashboard, 1)[0]["text"] == "bye"


def events(response: http.client.HTTPResponse, count: int) -> list[Any]:
    found: list[Any] = []
    while len(found) < count:
        line = response.readline()
        assert line, "the stream has ended"
        if line.startswith(b"data: "):
            found.append(json.loads(line.removeprefix(b"data: ")))
    return found


def test_a_login_that_expires_ends_its_connection(
    start_here: Start, redis_server: RedisServer
) -> None:
    with Desk(start_here, redis_server, workers=1, DESK_LIFETIME="3") as desk:
        ann = desk.join(1, "ann")
        assert end_of(ann) == (4401, "log in")
        assert desk.server.complaints == []


def test_clients_of_both_workers_are_in_one_ticket(desk: Desk, redis_server: RedisServer) -> None:
    clients: list[ClientConnection] = []

    def both_workers_have_one() -> bool:
        clients.append(desk.join(1, "cem"))
        return redis_server.numsub("rooms#/#ticket:1#") == 2

    wait_until(both_workers_have_one, timeout=30)
    say(clients[0], type="say", text="hello")
    for client in clients:
        assert heard(client)["text"] == "hello"


def test_the_page_shows_this_file_and_all_of_it() -> None:
    page = (RECIPES / "support-desk.md").read_text()
    parts = {
        line.split("start:")[1].rstrip("]")
        for line in Path(RECIPES / "desk.py").read_text().splitlines()
        if "[start:" in line
    }
    for part in parts:
        assert f'--8<-- "docs/recipes/desk.py:{part}"' in page
