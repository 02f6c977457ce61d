"""Discovery and heartbeats, of which the tests send those of the other workers."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from fastapi_rooms import AdapterUnavailable, ConfigurationError
from fastapi_rooms.cluster import heartbeat as heartbeat_module
from fastapi_rooms.cluster import peers as peers_module
from fastapi_rooms.cluster import requester as requester_module
from fastapi_rooms.cluster.cluster import Cluster
from fastapi_rooms.cluster.heartbeat import HeartbeatSettings
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
    make_cluster,
    receive_heartbeat,
    reply,
    request_of,
)
from tests.unit.support import other_tasks


async def test_a_worker_says_hello_to_all_and_answers_others_on_their_own_channels(
    carrier: Carrier,
) -> None:
    cluster = make_cluster(carrier)
    await cluster.start()
    assert carrier.heartbeats() == [(b"rooms#workers#", HeartbeatKind.HELLO)]
    assert cluster.nodes == {ME}
    receive_heartbeat(cluster, ANN, HeartbeatKind.HELLO)
    assert cluster.nodes == {ME, ANN}
    assert carrier.volatile_heartbeats() == [(f"rooms#{ANN}#".encode(), HeartbeatKind.ALIVE)]
    receive_heartbeat(cluster, BOB, HeartbeatKind.QUERY)
    assert cluster.nodes == {ME, ANN}
    assert carrier.volatile[-1][0] == f"rooms#{BOB}#".encode()
    receive_heartbeat(cluster, ANN, HeartbeatKind.BYE)
    assert cluster.nodes == {ME}
    await cluster.close(1)
    assert carrier.heartbeats()[-1] == (b"rooms#workers#", HeartbeatKind.BYE)


async def test_an_observer_is_not_counted_and_sends_neither_answers_nor_bye(
    carrier: Carrier,
) -> None:
    cluster = make_cluster(carrier, observer=True)
    await cluster.start()
    assert carrier.heartbeats() == [(b"rooms#workers#", HeartbeatKind.QUERY)]
    assert cluster.own_channels == [f"rooms#{ME}#".encode()]
    receive_heartbeat(cluster, ANN, HeartbeatKind.HELLO)
    assert cluster.nodes == {ANN}
    assert carrier.volatile == []
    await cluster.close(1)
    assert len(carrier.heartbeats()) == 1


@pytest.mark.parametrize(
    ("observer", "kind"), [(False, HeartbeatKind.ALIVE), (True, HeartbeatKind.QUERY)]
)
async def test_heartbeats_are_sent_only_while_connected(
    carrier: Carrier, observer: bool, kind: HeartbeatKind
) -> None:
    cluster = make_cluster(carrier, interval=0.001, observer=observer)
    await cluster.start()
    await eventually(lambda: len(carrier.volatile) >= 2, what="two heartbeats")
    assert set(carrier.volatile_heartbeats()) == {(b"rooms#workers#", kind)}
    carrier.health = replace(carrier.health, connected=False)
    before = len(carrier.volatile)
    receive_heartbeat(cluster, ANN, HeartbeatKind.ALIVE, interval=0.001)
    clock = Carrier()
    other = make_cluster(clock, interval=0.001)
    await other.start()
    await eventually(lambda: len(clock.volatile) >= 5, what="time goes by")
    assert len(carrier.volatile) == before
    assert ANN in cluster.nodes  # that we hear nobody says nothing of them
    await cluster.close(1)
    await other.close(1)


@pytest.mark.parametrize("receivers", [0, None, 1])
async def test_a_worker_that_has_gone_silent_is_no_longer_counted(
    carrier: Carrier, receivers: int | None
) -> None:
    cluster = make_cluster(carrier, interval=0.005)
    await cluster.start()
    carrier.receivers[CHANNELS.of_node(ANN)] = receivers
    receive_heartbeat(cluster, ANN, HeartbeatKind.ALIVE, interval=0.005)
    receive_heartbeat(cluster, BOB, HeartbeatKind.ALIVE)
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 0.3))
    reply(cluster, BOB, await request_of(carrier), b"1")
    await eventually(lambda: cluster.nodes == {ME, BOB}, what="it is not expected any more")
    pending = await asked
    assert pending.responses == {BOB: b"1"}
    # Whoever still has its subscription is frozen, and was waited for to the end.
    assert pending.missing == ({ANN} if receivers == 1 else set())
    await cluster.close(1)


async def test_a_silent_worker_is_noticed_between_two_heartbeats(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat_module, "CHECKS_PER_INTERVAL", 10_000)
    cluster = make_cluster(carrier, interval=60)
    await cluster.start()
    receive_heartbeat(cluster, ANN, HeartbeatKind.ALIVE, interval=0.001)
    await eventually(lambda: cluster.nodes == {ME}, what="it is not expected any more")
    assert carrier.volatile == []
    await cluster.close(1)


async def test_no_request_is_sent_before_discovery(carrier: Carrier) -> None:
    carrier.down = True
    cluster = make_cluster(carrier, interval=0.01)
    carrier.health = replace(carrier.health, connected=False)
    await cluster.start()
    with pytest.raises(AdapterUnavailable, match="before this worker had found the others"):
        await cluster._requester.ask("/", COUNT, 0.05)
    carrier.down = False
    assert (await cluster._requester.ask("/", COUNT, 60)).is_done()
    assert carrier.heartbeats()[-1] == (b"rooms#workers#", HeartbeatKind.HELLO)
    await cluster.close(1)


async def test_a_failed_hello_is_soon_sent_again_however_long_the_interval_is(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat_module, "RETRY_DELAY", 0.01)
    carrier.down = True
    cluster = make_cluster(carrier, interval=FAR)
    carrier.health = replace(carrier.health, connected=False)
    await cluster.start()
    with pytest.raises(AdapterUnavailable):
        await cluster._requester.ask("/", COUNT, 0.01)
    carrier.down = False
    assert (await cluster._requester.ask("/", COUNT, 5)).is_done()
    await cluster.close(1)


async def test_discovery_after_an_outage_waits_for_as_many_as_the_hello_reached(
    carrier: Carrier, cluster: Cluster
) -> None:
    carrier.receivers[b"rooms#workers#"] = 2
    cluster.discover()
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 60))
    await eventually(lambda: len(carrier.heartbeats()) >= 2, what="another HELLO")
    receive_heartbeat(cluster, ANN, HeartbeatKind.ALIVE)
    assert carrier.requests() == []
    receive_heartbeat(cluster, BOB, HeartbeatKind.ALIVE)
    request = await request_of(carrier)
    assert reply(cluster, ANN, request, b"1")
    assert reply(cluster, BOB, request, b"2")
    assert (await asked).responses == {ANN: b"1", BOB: b"2"}


async def test_discovery_ends_although_not_all_workers_answer(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat_module, "DISCOVERY_TIMEOUT", 0.02)
    carrier.receivers[b"rooms#workers#"] = 5
    cluster = make_cluster(carrier)
    await cluster.start()
    carrier.receivers[b"rooms#workers#"] = 0
    assert (await cluster._requester.ask("/", COUNT, 60)).is_done()
    await cluster.close(1)


async def test_closing_does_not_wait_for_a_bye_that_cannot_be_sent(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_cluster(carrier)
    await cluster.start()
    carrier.health = replace(carrier.health, connected=False)
    await cluster.close(1)
    assert carrier.heartbeats() == [(b"rooms#workers#", HeartbeatKind.HELLO)]
    carrier.health = replace(carrier.health, connected=True)
    monkeypatch.setattr(heartbeat_module, "GOODBYE_TIMEOUT", 0.02)
    for fails in (True, False):
        cluster = make_cluster(carrier)
        await cluster.start()
        carrier.down = fails
        if not fails:
            carrier.hold()
        await cluster.close(1)
        carrier.down = False
        carrier.release()
    assert other_tasks() == set()


async def test_discovery_goes_on_until_all_is_quiet_when_the_carrier_does_not_count_receivers(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat_module, "DISCOVERY_TIMEOUT", 60.0)
    monkeypatch.setattr(heartbeat_module, "QUIET", 0.02)
    carrier.receivers[b"rooms#workers#"] = None
    cluster = make_cluster(carrier)
    loop = asyncio.get_running_loop()
    began = loop.time()
    starting = asyncio.ensure_future(cluster.start())
    await eventually(carrier.heartbeats, what="a HELLO")
    receive_heartbeat(cluster, ANN, HeartbeatKind.ALIVE)
    await starting
    assert loop.time() - began >= 0.02
    assert cluster.nodes == {ME, ANN}
    await cluster.close(1)


async def test_where_the_carrier_is_slow_all_is_quiet_only_after_as_much_longer(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat_module, "DISCOVERY_TIMEOUT", 60.0)
    monkeypatch.setattr(heartbeat_module, "QUIET", 0.0)
    monkeypatch.setattr(heartbeat_module, "QUIET_FOR_EACH", 1.0)
    carrier.receivers[b"rooms#workers#"] = None
    carrier.hold()
    cluster = make_cluster(carrier)
    loop = asyncio.get_running_loop()
    starting = asyncio.ensure_future(cluster.start())
    await eventually(carrier.heartbeats, what="a HELLO")
    began = loop.time()
    await asyncio.sleep(0.02)
    carrier.release()
    accepted = loop.time()
    await starting
    assert loop.time() - accepted >= accepted - began
    await cluster.close(1)


async def test_a_check_that_cannot_be_sent_says_nothing_of_a_worker(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requester_module, "LATE_AFTER", 0.005)
    cluster = make_cluster(carrier)
    await cluster.start()
    receive_heartbeat(cluster, ANN, HeartbeatKind.ALIVE)
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 60))
    request = await request_of(carrier)
    carrier.down = True
    own = (CHANNELS.of_node(ANN), HeartbeatKind.QUERY)
    await eventually(lambda: carrier.heartbeats().count(own) >= 2, what="two checks that fail")
    assert cluster.nodes == {ME, ANN}
    carrier.down = False
    carrier.receivers[CHANNELS.of_node(ANN)] = 1
    assert reply(cluster, ANN, request, b"1")
    assert (await asked).responses == {ANN: b"1"}
    await cluster.close(1)


async def test_a_heartbeat_is_counted_as_long_as_there_are_unidentified_workers(
    carrier: Carrier,
) -> None:
    counted = (b"rooms#workers#", HeartbeatKind.ALIVE)
    carrier.receivers[b"rooms#workers#"] = 1
    cluster = make_cluster(carrier, interval=0.01)
    await cluster.start()
    await eventually(lambda: counted in carrier.heartbeats(), what="a heartbeat that is counted")
    carrier.down = True
    before = carrier.heartbeats().count(counted)
    await eventually(lambda: carrier.heartbeats().count(counted) > before + 1, what="two that fail")
    carrier.down = False
    carrier.receivers[b"rooms#workers#"] = 0
    volatile = len(carrier.volatile)
    await eventually(lambda: len(carrier.volatile) > volatile, what="one that need not be counted")
    await cluster.close(1)


@pytest.mark.parametrize("interval", [0, -1, 0.0001, 3601, float("nan"), float("inf")])
def test_an_interval_that_others_cannot_be_told_is_refused(interval: float) -> None:
    with pytest.raises(ConfigurationError, match="heartbeat"):
        HeartbeatSettings(interval)


async def test_invented_workers_do_not_keep_out_one_that_starts(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers_module, "MAX_PEERS", 50)
    cluster = make_cluster(carrier, interval=0.05)
    await cluster.start()
    for number in range(1, 101):
        receive_heartbeat(cluster, f"{number:016x}", HeartbeatKind.ALIVE)
    assert len(cluster.nodes) == 51
    carrier.receivers[CHANNELS.of_node(ANN)] = 1

    def is_known() -> bool:
        receive_heartbeat(cluster, ANN, HeartbeatKind.ALIVE)
        return ANN in cluster.nodes

    await eventually(is_known, what="a worker that lives")
    await cluster.close(1)
