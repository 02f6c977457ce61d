"""Workers that are lost, and what was known of their rooms; the tests play the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from fastapi_rooms import AdapterHealth
from fastapi_rooms.cluster import heartbeat as heartbeat_module
from fastapi_rooms.cluster import known_rooms as known_rooms_module
from fastapi_rooms.cluster.cluster import Cluster
from fastapi_rooms.testing import eventually
from fastapi_rooms.wire.envelope import HeartbeatKind
from tests.unit.cluster.support import (
    ANN,
    BOB,
    CHANNELS,
    COUNT,
    FAR,
    ME,
    Carrier,
    HandlerNamespace,
    make_cluster,
    receive_heartbeat,
    reply,
    request_of,
)

SOON = 0.005
"""Seconds of a heartbeat's interval of which three have passed soon."""


class _Told(HandlerNamespace):
    """A namespace that is told of lost workers."""

    wants_losses = True

    def __init__(self) -> None:
        super().__init__()
        self.lost: list[tuple[str, tuple[str, ...]]] = []

    def worker_lost(self, node: str, rooms: tuple[str, ...]) -> None:
        self.lost.append((node, rooms))


async def _answered(cluster: Cluster, carrier: Carrier, **rooms: Any) -> None:
    """The other workers have answered which rooms they have."""
    request = await request_of(carrier)
    for node, names in rooms.items():
        assert reply(cluster, {"ann": ANN, "bob": BOB}[node], request, orjson.dumps(names))
    await eventually(lambda: not cluster._known_rooms._tasks)


@pytest.fixture
def told() -> _Told:
    return _Told()


async def started(carrier: Carrier, told: HandlerNamespace, *nodes: str, **kwargs: Any) -> Cluster:
    """A cluster which knows of these others, and asks them for their rooms."""
    cluster = make_cluster(carrier, told, **kwargs)
    for node in nodes:
        receive_heartbeat(cluster, node, HeartbeatKind.ALIVE, SOON if node == ANN else FAR)
    await cluster.start()
    return cluster


@pytest.mark.parametrize("receivers", [0, None])
async def test_a_worker_of_which_nothing_is_heard_is_lost_once_with_the_rooms_it_told(
    carrier: Carrier, told: _Told, receivers: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat_module, "CHECKS_PER_INTERVAL", FAR / SOON)
    carrier.receivers[CHANNELS.of_node(ANN)] = receivers
    cluster = make_cluster(carrier, told)
    receive_heartbeat(cluster, ANN, HeartbeatKind.ALIVE)
    await cluster.start()
    request = await request_of(carrier)
    assert (request.verb, request.arguments) == ("rooms", {"sids": False, "limit": 1000})
    await _answered(cluster, carrier, ann=["tea", "bar"])
    receive_heartbeat(cluster, ANN, HeartbeatKind.ALIVE, SOON)
    await eventually(lambda: bool(told.lost), what="it is lost")
    receive_heartbeat(cluster, BOB, HeartbeatKind.ALIVE, SOON)
    await eventually(lambda: len(told.lost) == 2, what="the next one, too")
    assert told.lost == [(ANN, ("bar", "tea")), (BOB, ())]
    await cluster.close(1)


async def test_one_that_says_goodbye_is_not_lost(carrier: Carrier, told: _Told) -> None:
    cluster = await started(carrier, told, ANN, BOB, interval=SOON)
    receive_heartbeat(cluster, ANN, HeartbeatKind.BYE)
    receive_heartbeat(cluster, BOB, HeartbeatKind.ALIVE, SOON)
    await eventually(lambda: bool(told.lost))
    assert [node for node, _ in told.lost] == [BOB]
    await cluster.close(1)


async def test_one_that_nobody_receives_for_is_not_lost_when_it_comes_back_in_time(
    carrier: Carrier, told: _Told
) -> None:
    cluster = await started(carrier, told, BOB, interval=SOON)
    carrier.sent.clear()
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 5))
    await request_of(carrier)
    await asked  # nobody receives what goes to Bob, so that he is not waited for
    assert cluster.nodes == {ME}
    receive_heartbeat(cluster, BOB, HeartbeatKind.HELLO)
    receive_heartbeat(cluster, ANN, HeartbeatKind.ALIVE, SOON)
    await eventually(lambda: bool(told.lost))
    assert [node for node, _ in told.lost] == [ANN]
    await cluster.close(1)


async def test_one_that_is_found_missing_by_a_request_is_lost_when_its_time_is_over(
    carrier: Carrier, told: _Told
) -> None:
    cluster = await started(carrier, told, interval=SOON)
    receive_heartbeat(cluster, ANN, HeartbeatKind.ALIVE, 0.1)
    cluster._monitor.gone(ANN)
    assert cluster.nodes == {ME}
    assert told.lost == []
    await eventually(lambda: told.lost == [(ANN, ())])
    await cluster.close(1)


async def test_one_that_hangs_is_lost_when_the_carrier_has_noticed(
    carrier: Carrier, told: _Told
) -> None:
    channel = CHANNELS.of_node(ANN)
    carrier.receivers[channel] = 1
    cluster = await started(carrier, told, ANN, interval=SOON)
    looked = _queries(carrier, channel)
    await eventually(lambda: looked() > 3, what="it is looked for again and again")
    assert told.lost == []
    carrier.receivers[channel] = 0
    await eventually(lambda: told.lost == [(ANN, ())])
    await cluster.close(1)


async def test_one_that_is_heard_while_it_is_looked_for_is_not_lost(
    carrier: Carrier, told: _Told
) -> None:
    cluster = await started(carrier, told, interval=SOON)
    channel = CHANNELS.of_node(ANN)
    carrier.hold()
    receive_heartbeat(cluster, ANN, HeartbeatKind.ALIVE, SOON)
    looked = _queries(carrier, channel)
    await eventually(lambda: looked() > 0)
    receive_heartbeat(cluster, ANN, HeartbeatKind.ALIVE)
    carrier.release()
    await eventually(lambda: not cluster._monitor._checks)
    assert cluster.nodes == {ME, ANN}
    assert told.lost == []
    await cluster.close(1)


async def test_nobody_is_lost_by_an_outage_of_ones_own(
    carrier: Carrier, told: _Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat_module, "CHECKS_PER_INTERVAL", 10_000)
    cluster = await started(carrier, told, interval=60)
    monitor, health = cluster._monitor, carrier.health
    carrier.health = AdapterHealth(connected=False, since=0, last_received=None)
    await eventually(lambda: monitor._missing._earliest > 0, what="the outage is noticed")
    receive_heartbeat(cluster, ANN, HeartbeatKind.ALIVE, SOON)
    carrier.health = health
    await eventually(lambda: ANN in monitor._missing)
    assert cluster.nodes == {ME}
    assert monitor._checks == {}
    receive_heartbeat(cluster, ANN, HeartbeatKind.HELLO)
    assert ANN not in monitor._missing
    assert told.lost == []
    await cluster.close(1)


async def test_nobody_is_asked_for_rooms_unless_somebody_is_to_be_told(carrier: Carrier) -> None:
    cluster = await started(carrier, HandlerNamespace(), ANN, BOB)
    cluster._known_rooms.start()
    assert not cluster._known_rooms._tasks
    assert carrier.requests() == []
    await cluster.close(1)


async def test_what_is_known_is_renewed_and_of_a_silent_worker_stays(
    carrier: Carrier, told: _Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_cluster(carrier, told)
    for node in (ANN, BOB):
        receive_heartbeat(cluster, node, HeartbeatKind.ALIVE)
        carrier.receivers[CHANNELS.of_node(node)] = 1
    await cluster.start()
    await _answered(cluster, carrier, ann=["tea"], bob=["bar"])
    monkeypatch.setattr(known_rooms_module, "ASK_TIMEOUT", 0.01)
    carrier.sent.clear()
    cluster._known_rooms.start()
    await _answered(cluster, carrier, ann=["cake"])
    cluster.lost(ANN)
    cluster.lost(BOB)
    assert told.lost == [(ANN, ("cake",)), (BOB, ("bar",))]
    cluster.lost(ANN)
    assert told.lost[2:] == [(ANN, ())]
    await cluster.close(1)


@pytest.mark.parametrize("left", [True, False])
async def test_of_a_worker_that_goes_after_it_has_answered_nothing_stays(
    carrier: Carrier, told: _Told, left: bool
) -> None:
    cluster = make_cluster(carrier, told)
    for node in (ANN, BOB):
        receive_heartbeat(cluster, node, HeartbeatKind.ALIVE)
        carrier.receivers[CHANNELS.of_node(node)] = 1
    await cluster.start()
    request = await request_of(carrier)
    assert reply(cluster, ANN, request, orjson.dumps(["tea"]))
    if left:
        receive_heartbeat(cluster, ANN, HeartbeatKind.BYE)
    else:
        cluster._monitor.peers.left(ANN)
        cluster.lost(ANN)
    assert reply(cluster, BOB, request, orjson.dumps(["bar"]))
    await eventually(lambda: not cluster._known_rooms._tasks)
    assert cluster._known_rooms._known == {"/": {BOB: ("bar",)}}
    await cluster.close(1)


async def test_what_makes_no_sense_or_is_too_much_is_not_remembered(
    carrier: Carrier, told: _Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_rooms_module, "MAX_ROOMS_IN_ALL", 1500)
    cluster = make_cluster(carrier, told)
    for node in (ANN, BOB):
        receive_heartbeat(cluster, node, HeartbeatKind.ALIVE)
    await cluster.start()
    await _answered(
        cluster, carrier, ann=list(map(str, range(2000))), bob=list(map(str, range(900)))
    )
    cluster.lost(ANN)
    cluster.lost(BOB)
    assert [len(rooms) for _, rooms in told.lost] == [1000, 500]
    for nonsense in ({"tea": 1}, [1], [""], None):
        carrier.sent.clear()
        receive_heartbeat(cluster, ANN, HeartbeatKind.ALIVE)
        cluster._known_rooms.start()
        await _answered(cluster, carrier, ann=nonsense, bob=[])
        cluster.lost(ANN)
        assert told.lost[-1] == (ANN, ())
    await cluster.close(1)


def _queries(carrier: Carrier, channel: bytes) -> Callable[[], int]:
    """How many queries have been sent to a worker."""
    return lambda: carrier.heartbeats().count((channel, HeartbeatKind.QUERY))
