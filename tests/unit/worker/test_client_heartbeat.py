"""Framed clients that nothing is written to are written a heartbeat."""

from __future__ import annotations

import pytest

from fastapi_rooms.core.payload import Payload
from fastapi_rooms.testing import eventually
from fastapi_rooms.wire.client_framing import HEARTBEAT_SECONDS
from fastapi_rooms.worker import client_heartbeat
from fastapi_rooms.worker.client_heartbeat import ClientHeartbeat
from fastapi_rooms.worker.framed_transport import FramedTransport
from tests.unit.support import FakeTransport

Clients = dict[str, FramedTransport]


def _client(clients: Clients, sid: str) -> FakeTransport:
    transport = FakeTransport()
    clients[sid] = FramedTransport(transport)
    return transport


def _round(heartbeat: ClientHeartbeat) -> None:
    for _ in range(client_heartbeat._STEPS):
        heartbeat.look()


@pytest.fixture
def clients() -> Clients:
    return {}


@pytest.fixture
def heartbeat(clients: Clients) -> ClientHeartbeat:
    return ClientHeartbeat(clients)


def test_who_is_sent_nothing_gets_one_in_every_round(
    heartbeat: ClientHeartbeat, clients: Clients
) -> None:
    transport = _client(clients, "a")
    for number in range(1, 4):
        _round(heartbeat)
        assert transport.writes == [["\0b"]] * number


async def test_who_is_sent_something_gets_none_in_the_round_after(
    heartbeat: ClientHeartbeat, clients: Clients
) -> None:
    written, skippable, sent = (_client(clients, sid) for sid in "abc")
    clients["a"].write(Payload.of_text("x"))
    clients["b"].write_volatile(Payload.of_text("x"))
    await clients["c"].send(Payload.of_text("x"))
    _round(heartbeat)
    assert [client.writes for client in (written, skippable, sent)] == [[["x"]], [["x"]], []]
    _round(heartbeat)
    assert all(client.writes[-1] == ["\0b"] for client in (written, skippable, sent))


def test_two_rounds_are_what_was_promised() -> None:
    assert client_heartbeat._ROUND * 2 <= HEARTBEAT_SECONDS


def test_a_round_is_in_many_turns_and_looks_at_everyone_once(
    heartbeat: ClientHeartbeat, clients: Clients
) -> None:
    transports = [_client(clients, str(n)) for n in range(1001)]
    turns = []
    for _ in range(client_heartbeat._STEPS):
        heartbeat.look()
        turns.append(sum(len(transport.writes) for transport in transports))
    assert turns[:2] == [21, 42]
    assert turns[46:] == [987, 1001, 1001, 1001]
    assert all(transport.writes == [["\0b"]] for transport in transports)


@pytest.mark.parametrize("count", [1, 2, 49, 50, 51, 60])
def test_few_clients_are_looked_at_as_rarely_as_many(
    heartbeat: ClientHeartbeat, clients: Clients, count: int
) -> None:
    transports = [_client(clients, str(n)) for n in range(count)]
    for number in range(1, 4):
        _round(heartbeat)
        assert all(transport.writes == [["\0b"]] * number for transport in transports)


def test_who_comes_after_a_stop_is_looked_at_in_a_new_round(
    heartbeat: ClientHeartbeat, clients: Clients
) -> None:
    heartbeat.look()
    heartbeat.forget()
    transport = _client(clients, "a")
    heartbeat.look()
    assert transport.writes == [["\0b"]]


def test_who_has_left_meanwhile_gets_none(heartbeat: ClientHeartbeat, clients: Clients) -> None:
    transports = [_client(clients, str(n)) for n in range(100)]
    heartbeat.look()
    del clients["99"]
    _round(heartbeat)
    assert transports[98].writes == [["\0b"]]
    assert transports[99].writes == []


async def test_it_goes_on_until_it_is_stopped(
    heartbeat: ClientHeartbeat, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_heartbeat, "_ROUND", 0.01)
    transport = _client(clients, "a")
    heartbeat.start()
    heartbeat.start()
    await eventually(lambda: len(transport.writes) >= 3)
    timer = heartbeat._timer
    assert timer is not None
    heartbeat.stop()
    heartbeat.stop()
    assert timer.cancelled()
    heartbeat.start()
    assert heartbeat._timer is not None
    heartbeat.stop()
