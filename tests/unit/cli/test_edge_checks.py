"""What `fastapi-rooms doctor` says of edges and backends."""

from __future__ import annotations

import pytest

from fastapi_rooms import BackendRole, EdgeRole, Worker
from fastapi_rooms.cli.edge_checks import edge_findings


def edge(clients: int = 0, **routes: str) -> Worker:
    role = EdgeRole(clients, {f"/{path}": name for path, name in routes.items()})
    return Worker("e", "1", "host", 1, 1.0, clients, edge=role)


def backend(name: str = "chat", clients: int = 0, capacity: int = 10) -> Worker:
    return Worker("b", "1", "host", 1, 1.0, 0, backend=BackendRole(name, clients, capacity))


def found(*workers: Worker) -> dict[str, tuple[str, str]]:
    return {each.subject: (each.grade.name, each.text) for each in edge_findings(workers)}


def test_nothing_is_said_where_no_worker_is_an_edge_or_a_backend() -> None:
    assert found(Worker("w", "1", "host", 1, 1.0, 0)) == {}


def test_edges_whose_backends_have_room_are_well() -> None:
    pair = backend(clients=3), backend(clients=4)
    assert found(edge(5, chat="chat"), edge(2, chat="chat"), *pair) == {
        "edges": ("OK", "2 edges with 7 clients"),
        "backends chat": ("OK", "2 backends, with 7 of 20 clients"),
    }


@pytest.mark.parametrize(
    ("workers", "subject", "grade", "words"),
    [
        ([edge(chat="chat")], "backends chat", "WRONG", "there are none"),
        ([edge(chat="chat"), backend("game")], "backends game", "NOTE", "no edge sends"),
        ([backend("game")], "backends game", "NOTE", "no edge sends"),
        ([edge(chat="chat"), backend(clients=10)], "backends chat", "WRONG", "they are full"),
        ([edge(chat="chat"), backend(clients=1)], "backends chat", "NOTE", "lack room"),
        (
            [edge(chat="chat"), backend(clients=8), backend(clients=3)],
            *("backends chat", "NOTE", "lack room"),
        ),
        ([edge(chat="chat"), edge(game="chat"), backend()], "edges", "NOTE", "routes differ"),
    ],
)
def test_what_keeps_clients_out_or_waiting_is_said(
    workers: list[Worker], subject: str, grade: str, words: str
) -> None:
    is_graded, text = found(*workers)[subject]
    assert is_graded == grade
    assert words in text
