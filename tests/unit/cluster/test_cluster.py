"""What is asked of this worker and of the others together, and by which part of the cluster."""

from __future__ import annotations

import asyncio
from operator import attrgetter

import pytest

from fastapi_rooms import AdapterUnavailable, RequestRefused, RequestTimeout, TooManyRooms
from fastapi_rooms.cluster.cluster import Cluster
from fastapi_rooms.core.target import Target
from fastapi_rooms.operators.dispatcher import ClusterRequest
from fastapi_rooms.operators.remote import COUNT as COUNTED
from fastapi_rooms.operators.remote import REPLIES, ServerReply
from fastapi_rooms.wire.envelope import Reply
from fastapi_rooms.wire.verbs import Verb
from tests.unit.cluster.support import (
    ANN,
    BOB,
    CHANNELS,
    COUNT,
    ME,
    Carrier,
    HandlerNamespace,
    reply,
    request_of,
)

EMIT = ClusterRequest(Verb.EMIT, Target(()), {"event": "x", "args": []})


async def test_this_worker_is_asked_as_well_by_the_same_command(
    carrier: Carrier, namespace: HandlerNamespace, cluster: Cluster
) -> None:
    namespace.results = ["mine"]
    asked = asyncio.ensure_future(cluster.request("/", EMIT, REPLIES, 60))
    assert reply(cluster, ANN, await request_of(carrier), b'"hers"')
    mine, hers = ServerReply(ME, "mine", None), ServerReply(ANN, "hers", None)
    assert sorted(await asked, key=attrgetter("node")) == [mine, hers]


async def test_a_command_here_that_has_to_wait_is_awaited(
    namespace: HandlerNamespace, cluster: Cluster
) -> None:
    namespace.results = [asyncio.sleep(0, "later")]
    request = EMIT._replace(elsewhere=False)
    assert await cluster.request("/", request, REPLIES, 60) == [ServerReply(ME, "later", None)]


async def test_this_worker_can_be_left_out(carrier: Carrier, cluster: Cluster) -> None:
    asked = asyncio.ensure_future(cluster.request("/", EMIT._replace(here=False), REPLIES, 60))
    assert reply(cluster, ANN, await request_of(carrier), b"1")
    assert await asked == [ServerReply(ANN, 1, None)]


async def test_a_request_to_this_worker_alone_is_not_sent(
    carrier: Carrier, cluster: Cluster
) -> None:
    assert await cluster.request("/", COUNT._replace(node=ME), COUNTED, 60) == 0
    assert await cluster.request("/", COUNT._replace(elsewhere=False), COUNTED, 60) == 0
    assert carrier.requests() == []


async def test_a_request_to_another_worker_alone_is_not_done_here(
    carrier: Carrier, namespace: HandlerNamespace, cluster: Cluster
) -> None:
    carrier.receivers[CHANNELS.of_node(ANN)] = 1
    namespace.results = ["not asked for"]
    asked = asyncio.ensure_future(cluster.request("/", EMIT._replace(node=ANN), REPLIES, 60))
    assert reply(cluster, ANN, await request_of(carrier), b"1")
    assert await asked == [ServerReply(ANN, 1, None)]
    assert namespace.results == ["not asked for"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TooManyRooms(11, 10), "the limit is 10"),
        (TypeError("not JSON"), "TypeError: not JSON"),
    ],
)
async def test_what_this_worker_refuses_is_told_as_any_others_refusal(
    carrier: Carrier,
    namespace: HandlerNamespace,
    cluster: Cluster,
    error: Exception,
    reason: str,
) -> None:
    namespace.results = [error]
    asked = asyncio.ensure_future(cluster.request("/", EMIT, REPLIES, 60))
    assert reply(cluster, ANN, await request_of(carrier), b"1")
    with pytest.raises(RequestRefused, match=reason) as raised:
        await asked
    assert raised.value.partial == [ServerReply(ANN, 1, None)]
    assert set(raised.value.refusals) == {ME}


async def test_others_are_not_asked_when_this_worker_was_not_done_in_time(
    carrier: Carrier, namespace: HandlerNamespace, cluster: Cluster
) -> None:
    namespace.results = [asyncio.Event().wait()]
    with pytest.raises(AdapterUnavailable, match=r"'emit' was not done on this worker in 0\.01 s"):
        await cluster.request("/", EMIT, REPLIES, 0.01)
    assert carrier.requests() == []


async def test_a_notice_is_sent_without_an_id_to_answer(carrier: Carrier, cluster: Cluster) -> None:
    await cluster.notify("/", EMIT)
    [request] = carrier.requests()
    assert (request.id, request.verb, request.namespace) == (0, "emit", "/")
    carrier.down = True
    with pytest.raises(AdapterUnavailable):
        await cluster.notify("/", EMIT)


# A worker of another version.


async def test_a_worker_that_does_not_know_the_verb_is_named_in_the_refusal(
    carrier: Carrier, cluster: Cluster
) -> None:
    carrier.receivers[CHANNELS.of_workers()] = 2
    asked = asyncio.ensure_future(cluster.request("/", COUNT, COUNTED, 60))
    request = await request_of(carrier)
    assert reply(cluster, ANN, request, b"never heard of it", refused=True, unsupported=True)
    assert reply(cluster, BOB, request, b"not today", refused=True)
    with pytest.raises(RequestRefused) as raised:
        await asked
    assert raised.value.unsupported == {ANN}
    assert raised.value.refusals == {ANN: "never heard of it", BOB: "not today"}
    assert raised.value.partial == 0


async def test_a_worker_that_does_not_know_the_verb_is_named_in_a_timeout(
    carrier: Carrier, cluster: Cluster
) -> None:
    carrier.receivers[CHANNELS.of_workers()] = 2
    asked = asyncio.ensure_future(cluster.request("/", COUNT, COUNTED, 0.05))
    request = await request_of(carrier)
    assert reply(cluster, ANN, request, b"never heard of it", refused=True, unsupported=True)
    assert cluster.received(Reply(BOB, 1, request.id, 0, last=False, refused=False, data=b"1"))
    with pytest.raises(RequestTimeout) as raised:
        await asked
    assert raised.value.unsupported == {ANN}
    assert raised.value.silent == {BOB}
