"""Requests to the other workers, which the tests answer."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms import AdapterUnavailable, NotStarted, RequestTimeout
from fastapi_rooms.cluster import requester
from fastapi_rooms.cluster.cluster import Cluster
from fastapi_rooms.cluster.collect import collect
from fastapi_rooms.operators.remote import COUNT as COUNTED
from fastapi_rooms.testing import eventually
from fastapi_rooms.wire.envelope import HeartbeatKind, Reply
from fastapi_rooms.wire.verbs import Verb
from tests.unit.cluster.support import (
    ANN,
    BOB,
    CHANNELS,
    COUNT,
    ME,
    Carrier,
    add_pattern_subscribers,
    make_cluster,
    receive_heartbeat,
    reply,
    request_of,
)
from tests.unit.support import WORKERS


async def test_a_single_worker_can_be_asked(carrier: Carrier, cluster: Cluster) -> None:
    receive_heartbeat(cluster, BOB, HeartbeatKind.ALIVE)
    carrier.receivers[CHANNELS.of_node(BOB)] = 1
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT._replace(node=BOB), 60))
    request = await request_of(carrier)
    assert carrier.sent[-1][0] == CHANNELS.of_node(BOB)
    assert reply(cluster, BOB, request, b"3")
    assert (await asked).responses == {BOB: b"3"}
    assert (await cluster._requester.ask("/", COUNT._replace(node="c" * 16), 60)).is_done()


async def test_a_request_that_is_not_accepted_is_an_error_and_leaves_nothing(
    carrier: Carrier, cluster: Cluster
) -> None:
    carrier.down = True
    with pytest.raises(AdapterUnavailable):
        await cluster._requester.ask("/", COUNT, 60)
    carrier.down = False
    late = Reply(ANN, 1, carrier.requests()[-1].id, 0, last=True, refused=False, data=b"1")
    assert cluster.received(late)  # nobody waits for it, and that is no offence


@pytest.mark.parametrize("until", ["it is accepted", "it is answered"])
async def test_a_request_that_is_cancelled_leaves_nothing_and_its_answer_is_ignored(
    carrier: Carrier, cluster: Cluster, until: str
) -> None:
    if until == "it is accepted":
        carrier.hold()
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 60))
    request = await request_of(carrier)
    asked.cancel()
    await asyncio.wait([asked])
    assert asked.cancelled()
    assert not cluster._requester._pending
    assert cluster.received(Reply(ANN, 1, request.id, 0, last=True, refused=False, data=b"1"))


async def test_a_reply_that_fits_no_request_is_reported(carrier: Carrier, cluster: Cluster) -> None:
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 60))
    request = await request_of(carrier)
    assert not cluster.received(Reply(ANN, 1, request.id, 1, last=True, refused=False, data=b""))
    assert reply(cluster, ANN, request, b"1")
    assert (await asked).responses == {ANN: b"1"}
    carrier.receivers[CHANNELS.of_node(ANN)] = 1
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT._replace(node=ANN), 60))
    await eventually(lambda: len(carrier.requests()) == 2, what="another request")
    assert not reply(cluster, BOB, carrier.requests()[-1], b"1")
    assert reply(cluster, ANN, carrier.requests()[-1], b"1")
    assert (await asked).responses == {ANN: b"1"}


async def test_a_late_worker_is_checked_until_the_carrier_can_tell_that_it_is_gone(
    carrier: Carrier, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requester, "LATE_AFTER", 0.005)
    own = CHANNELS.of_node(ANN)
    carrier.receivers[own] = None
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 60))
    await eventually(
        lambda: carrier.heartbeats().count((own, HeartbeatKind.QUERY)) >= 2, what="two looks"
    )
    add_pattern_subscribers(carrier, 2)  # and nobody else
    pending = await asked
    assert pending.is_done()
    assert pending.responses == {}
    assert cluster.nodes == {ME}


async def test_a_worker_that_is_late_with_many_answers_is_checked_once_at_a_time(
    carrier: Carrier, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requester, "LATE_AFTER", 0.005)
    asked = [asyncio.ensure_future(cluster._requester.ask("/", COUNT, 0.1)) for _ in range(3)]
    await eventually(lambda: len(carrier.requests()) == 3, what="three requests")
    carrier.hold()
    assert [(await pending).missing for pending in asked] == [{ANN}] * 3
    assert carrier.heartbeats().count((CHANNELS.of_node(ANN), HeartbeatKind.QUERY)) == 1


async def test_closing_ends_pending_requests(carrier: Carrier) -> None:
    cluster = make_cluster(carrier)
    await cluster.start()
    receive_heartbeat(cluster, ANN, HeartbeatKind.ALIVE)
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 60))
    await request_of(carrier)
    await cluster.close(1)
    with pytest.raises(NotStarted):
        await asked
    with pytest.raises(NotStarted):
        await cluster._requester.ask("/", COUNT, 60)


async def test_closing_ends_the_wait_for_discovery(carrier: Carrier, cluster: Cluster) -> None:
    carrier.hold()
    cluster.discover()
    waits = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 60))
    await eventually(lambda: len(carrier.heartbeats()) == 2, what="another HELLO")
    await cluster.close(1)
    with pytest.raises(NotStarted):
        await waits


async def test_a_request_that_fails_because_of_the_closing_says_so(carrier: Carrier) -> None:
    cluster = make_cluster(carrier)
    await cluster.start()
    carrier.hold()
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 60))
    await request_of(carrier)
    closing = asyncio.ensure_future(cluster.close(1))
    await asyncio.sleep(0)
    carrier.down = True
    carrier.release()
    with pytest.raises(NotStarted):
        await asked
    await closing


async def test_a_request_that_is_not_accepted_in_time_is_an_error(
    carrier: Carrier, cluster: Cluster
) -> None:
    carrier.hold()
    with pytest.raises(AdapterUnavailable, match="before the adapter had accepted"):
        await cluster._requester.ask("/", COUNT, 0.02)


async def test_counting_unidentified_workers_takes_no_longer_than_the_request_may(
    carrier: Carrier, cluster: Cluster
) -> None:
    carrier.receivers[WORKERS] = 2
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 0.05))
    await request_of(carrier)
    carrier.hold()
    pending = await asked
    assert (pending.missing, pending.unidentified) == ({ANN}, 1)


# Unidentified: workers that are not known, and get what goes to all of them.


async def test_a_worker_that_never_answered_the_hello_is_waited_for(
    carrier: Carrier, cluster: Cluster
) -> None:
    carrier.receivers[WORKERS] = 2
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 60))
    request = await request_of(carrier)
    assert reply(cluster, ANN, request, b"1")
    assert cluster.nodes == {ME, ANN}
    assert reply(cluster, BOB, request, b"2")
    assert (await asked).responses == {ANN: b"1", BOB: b"2"}
    assert cluster.nodes == {ME, ANN, BOB}  # now it is known


async def test_a_result_without_an_unidentified_worker_is_incomplete_and_says_so(
    carrier: Carrier, cluster: Cluster
) -> None:
    carrier.receivers[WORKERS] = 2
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 0.1))
    assert reply(cluster, ANN, await request_of(carrier), b"1")
    pending = await asked
    assert (pending.responses, pending.missing, pending.unidentified) == ({ANN: b"1"}, set(), 1)
    with pytest.raises(RequestTimeout, match="from 1 unidentified") as caught:
        await collect(COUNT, COUNTED, pending, 0.1)
    assert (caught.value.partial, caught.value.unidentified) == (1, 1)
    assert not caught.value.silent


async def test_a_worker_that_identifies_itself_but_does_not_answer_is_named(
    carrier: Carrier, cluster: Cluster
) -> None:
    carrier.receivers[WORKERS] = 2
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 0.1))
    assert reply(cluster, ANN, await request_of(carrier), b"1")
    await eventually(lambda: len(carrier.heartbeats()) == 2, what="it has been counted")
    receive_heartbeat(cluster, BOB, HeartbeatKind.ALIVE)
    pending = await asked
    assert (pending.missing, pending.unidentified) == ({BOB}, 0)


async def test_a_worker_that_leaves_during_a_request_is_not_waited_for(
    carrier: Carrier, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requester, "LATE_AFTER", 0.005)
    carrier.receivers |= {WORKERS: 2, CHANNELS.of_node(ANN): 1}
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 60))
    assert reply(cluster, ANN, await request_of(carrier), b"1")
    await eventually(
        lambda: (WORKERS, HeartbeatKind.QUERY) in carrier.heartbeats(), what="it is counted again"
    )
    assert not asked.done()
    carrier.down = True
    looks = len(carrier.heartbeats())
    await eventually(lambda: len(carrier.heartbeats()) > looks + 1, what="it is tried again")
    carrier.down = False
    carrier.receivers[WORKERS] = 1
    assert (await asked).is_done()


async def test_a_worker_that_died_after_its_answer_is_not_counted_for_an_unidentified_one(
    carrier: Carrier, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requester, "LATE_AFTER", 0.005)
    carrier.receivers[WORKERS] = 2
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 60))
    request = await request_of(carrier)
    assert reply(cluster, ANN, request, b"1")
    carrier.receivers |= {WORKERS: 1, CHANNELS.of_node(ANN): 0}
    await eventually(
        lambda: carrier.heartbeats().count((WORKERS, HeartbeatKind.QUERY)) > 2, what="some counts"
    )
    assert not asked.done()
    assert reply(cluster, BOB, request, b"2")
    assert (await asked).responses == {ANN: b"1", BOB: b"2"}


async def test_pattern_subscribers_are_not_waited_for(carrier: Carrier, cluster: Cluster) -> None:
    add_pattern_subscribers(carrier, 3, ANN)
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 60))
    assert reply(cluster, ANN, await request_of(carrier), b"1")
    assert (await asked).is_done()


async def test_a_connection_that_stays_silent_is_not_waited_for_forever(
    carrier: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = make_cluster(carrier, interval=0.01)
    await cluster.start()
    receive_heartbeat(cluster, ANN, HeartbeatKind.ALIVE)
    carrier.receivers[WORKERS] = 2
    assert (
        await cluster._requester.ask("/", COUNT._replace(verb=Verb.ROOMS), 0.02)
    ).unidentified == 1
    await eventually(lambda: "send no heartbeat" in caplog.text, what="it is not expected any more")
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 60))
    await eventually(lambda: len(carrier.requests()) == 2, what="another request")
    assert reply(cluster, ANN, carrier.requests()[-1], b"1")
    assert (await asked).is_done()
    assert caplog.text.count("send no heartbeat") == 1
    await cluster.close(1)


async def test_a_dead_connection_stays_dead_when_new_workers_start(carrier: Carrier) -> None:
    cluster = make_cluster(carrier, interval=0.01)
    await cluster.start()
    carrier.receivers[WORKERS] = 1
    assert (await cluster._requester.ask("/", COUNT, 0.05)).unidentified == 1
    assert (await cluster._requester.ask("/", COUNT, 5)).is_done()
    receive_heartbeat(cluster, ANN, HeartbeatKind.HELLO)
    carrier.receivers[WORKERS] = 2
    requests = len(carrier.requests())
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 0.02))
    await eventually(lambda: len(carrier.requests()) > requests, what="another request")
    assert reply(cluster, ANN, carrier.requests()[-1], b"1")
    assert (await asked).is_done()
    await cluster.close(1)


async def test_an_accepted_request_goes_on_although_unidentified_workers_cannot_be_counted(
    carrier: Carrier, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(receivers: int | None) -> int:
        raise AdapterUnavailable("down")

    monkeypatch.setattr(cluster._monitor, "workers_among", fails)
    carrier.receivers[WORKERS] = 2
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 60))
    request = await request_of(carrier)
    assert reply(cluster, ANN, request, b"1")
    assert reply(cluster, BOB, request, b"2")
    assert (await asked).responses == {ANN: b"1", BOB: b"2"}


async def test_known_workers_are_waited_for_when_the_carrier_does_not_count_receivers(
    carrier: Carrier, cluster: Cluster
) -> None:
    carrier.receivers[WORKERS] = None
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 60))
    assert reply(cluster, ANN, await request_of(carrier), b"1")
    assert (await asked).responses == {ANN: b"1"}


async def test_unidentified_workers_are_waited_for_while_they_cannot_be_counted_again(
    carrier: Carrier, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requester, "LATE_AFTER", 0.005)
    carrier.receivers |= {WORKERS: 2, CHANNELS.of_node(ANN): 1}
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 60))
    request = await request_of(carrier)
    assert reply(cluster, ANN, request, b"1")
    carrier.receivers[WORKERS] = None
    recount = (WORKERS, HeartbeatKind.QUERY)
    before = carrier.heartbeats().count(recount)
    await eventually(lambda: carrier.heartbeats().count(recount) > before + 1, what="two recounts")
    assert not asked.done()
    assert reply(cluster, BOB, request, b"2")
    assert (await asked).responses == {ANN: b"1", BOB: b"2"}


async def test_closing_in_the_turn_of_the_last_answer_ends_the_request(
    carrier: Carrier, cluster: Cluster
) -> None:
    carrier.receivers[WORKERS] = 1
    asked = asyncio.ensure_future(cluster._requester.ask("/", COUNT, 60))
    assert reply(cluster, ANN, await request_of(carrier), b"1")
    cluster._requester.close()
    with pytest.raises(NotStarted):
        await asked
