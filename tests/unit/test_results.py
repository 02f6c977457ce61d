"""What the library returns is data: routes return and declare it, it is dumped and logged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, fields, is_dataclass
from typing import Any, NamedTuple

import orjson
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from fastapi_rooms import (
    AdapterHealth,
    BackendRole,
    EdgeRole,
    Gap,
    Health,
    MemoryAdapter,
    Outage,
    Present,
    PresentUser,
    RemoteSocket,
    RoomManager,
    RoomMessage,
    ServerReply,
    Worker,
    WorkerLost,
)
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.operators.remote import sockets_for
from fastapi_rooms.worker.room_message import message_of
from tests.unit.support import RecordingDispatcher


class Result(NamedTuple):
    value: Any
    declared: Any
    """As the response type of a route."""
    json: Any


def remote_socket() -> RemoteSocket:
    reader: Any = sockets_for(RecordingDispatcher())
    [socket] = reader.read("n", [["ann", ["tea", "ann"], {"name": "Ann"}]])
    assert isinstance(socket, RemoteSocket)
    return socket


HEALTH = {
    "ready": True,
    "connected": True,
    "since": 1.5,
    "last_received": None,
    "reconnects": 0,
    "buffered": 0,
    "dropped": 0,
    "reason": "",
    "forbidden": 0,
    "lag": 0.0,
    "duplicates": 0,
    "healed": 0,
    "unhealed": 0,
    "unkept": 0,
}
ADAPTERS_HEALTH = {field.name for field in fields(AdapterHealth)}
WORKER = {"node": "n", "version": "1", "host": "h", "pid": 2, "uptime": 1.5, "sockets": 3}
EDGE = {"clients": 1, "routes": {"/chat": "chat"}}
BACKEND = {"name": "chat", "clients": 1, "capacity": 10}
SOCKET = {"sid": "ann", "node": "n", "rooms": ["ann", "tea"], "data": {"name": "Ann"}}
REPLY = {"node": "n", "value": {"a": [1]}, "error": None}
RESULTS = {
    "health": Result(Health(**HEALTH), Health, HEALTH),  # type: ignore[arg-type]
    "workers": Result(
        [
            Worker(**WORKER),  # type: ignore[arg-type]  # of JSON the types are not known
            Worker(**WORKER, edge=EdgeRole(**EDGE), backend=BackendRole(**BACKEND)),  # type: ignore[arg-type]  # likewise
        ],
        list[Worker],
        [
            {**WORKER, "edge": None, "backend": None},
            {**WORKER, "edge": EDGE, "backend": BACKEND},
        ],
    ),
    "sockets": Result([remote_socket()], list[RemoteSocket], [SOCKET]),
    "replies": Result([ServerReply("n", {"a": [1]}, None)], list[ServerReply], [REPLY]),
    "message": Result(
        message_of("tea", Payload.of_text("hello")),
        RoomMessage,
        {"room": "tea", "text": "hello", "binary": False, "position": None},
    ),
    "binary": Result(
        [message_of("tea", Payload.of_bytes(b"\xff"))],
        list[RoomMessage],
        [{"room": "tea", "text": "/w==", "binary": True, "position": None}],
    ),
    "gap": Result(
        Gap(1.5, 2.5, ("cake", "tea")), Gap, {"since": 1.5, "until": 2.5, "rooms": ["cake", "tea"]}
    ),
    "lost": Result(
        WorkerLost("n", ("cake", "tea")), WorkerLost, {"node": "n", "rooms": ["cake", "tea"]}
    ),
    "present": Result(Present("tea", 7, ()), Present, {"room": "tea", "version": 7, "users": []}),
    "users": Result(
        [PresentUser("ann", ("a", "b"))], list[PresentUser], [{"user": "ann", "sids": ["a", "b"]}]
    ),
    "adapter": Result(
        AdapterHealth(connected=True, since=1.5, last_received=None),
        AdapterHealth,
        {n: value for n, value in HEALTH.items() if n in ADAPTERS_HEALTH},
    ),
}
OUTAGE = Outage(1.5, 2.5, frozenset({b"a"}))
each = pytest.mark.parametrize("name", RESULTS)


def one_of(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


@each
def test_a_route_returns_it_declared_or_not(name: str) -> None:
    value, declared, json = RESULTS[name]
    app = FastAPI()

    @app.get("/undeclared")
    async def undeclared():  # type: ignore[no-untyped-def]
        return value

    @app.get("/declared", response_model=declared)
    async def as_declared() -> Any:
        return value

    with TestClient(app) as client:
        assert client.get("/undeclared").json() == json
        assert client.get("/declared").json() == json
    schema = app.openapi()["components"]["schemas"][type(one_of(value)).__name__]
    assert schema["properties"].keys() == one_of(json).keys()


def test_a_route_returns_an_outage_too() -> None:
    app = FastAPI()

    @app.get("/")
    async def outage() -> Outage:
        return OUTAGE

    with TestClient(app) as client:
        assert client.get("/").json() == {"since": 1.5, "until": 2.5, "channels": ["a"]}


@each
def test_orjson_dumps_it(name: str) -> None:
    value, _, json = RESULTS[name]
    assert orjson.loads(orjson.dumps(value)) == json


def as_json(result: Any) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(result).items()}


@each
def test_it_has_named_fields_in_a_log_and_cannot_be_changed(name: str) -> None:
    result, json = one_of(RESULTS[name].value), one_of(RESULTS[name].json)
    assert is_dataclass(result)
    assert as_json(result) == json
    named = ", ".join(f"{field.name}={getattr(result, field.name)!r}" for field in fields(result))
    assert repr(result) == f"{type(result).__name__}({named})"
    assert not hasattr(result, "__dict__")
    for field in fields(result):
        with pytest.raises(FrozenInstanceError):
            setattr(result, field.name, None)
    hash(result)


def test_what_a_running_manager_returns_is_returned_by_its_routes() -> None:
    rooms = RoomManager(MemoryAdapter())
    app = FastAPI(lifespan=rooms.lifespan)

    @app.get("/health")
    async def health() -> Health:
        return rooms.health

    @app.get("/workers")
    async def workers() -> list[Worker]:
        return await rooms.workers()

    @app.get("/sockets")
    async def sockets() -> list[RemoteSocket]:
        return await rooms.fetch_sockets()

    @app.get("/replies")
    async def replies() -> list[ServerReply]:
        return await rooms.server_side_emit_with_ack("anyone?")

    answers: dict[str, Callable[[Any], bool]] = {
        "/health": lambda answer: answer["ready"] is True,
        "/workers": lambda answer: [worker["sockets"] for worker in answer] == [0],
        "/sockets": lambda answer: answer == [],
        "/replies": lambda answer: answer == [],
    }
    with TestClient(app) as client:
        for path, is_expected in answers.items():
            assert is_expected(client.get(path).json()), path
