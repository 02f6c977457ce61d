"""Nodes of a Redis Cluster die, freeze and come back, and slots move, in full flow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest
from redis.asyncio.cluster import RedisCluster as Client

from fastapi_rooms import AdapterUnavailable, RedisClusterAdapter, RoomManager
from fastapi_rooms.adapters import retries
from fastapi_rooms.adapters.redis.sharded import slot_subscribers
from fastapi_rooms.cluster import heartbeat
from fastapi_rooms.testing import Member, RedisCluster, RedisClusterNode, eventually
from tests.faults.cluster_scene import (
    assert_none_twice_and_in_order,
    channel,
    flows_again,
    gaps_of,
    manager,
    rooms_by_node,
    scene,
)
from tests.faults.support import NEVER, ready, talking


@pytest.fixture(scope="module")
def replicated() -> Iterator[RedisCluster]:
    with RedisCluster(replicas=1, node_timeout=1000) as cluster:
        yield cluster


@pytest.fixture
async def cluster(replicated: RedisCluster) -> AsyncIterator[RedisCluster]:
    """Three masters with a replica each, whole again after every test."""
    yield replicated
    await asyncio.to_thread(replicated.restart)


@pytest.fixture(scope="module")
def plain() -> Iterator[RedisCluster]:
    """Three masters that have no replicas."""
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers do not wait for each other at the start: nobody is asked for anything here."""
    monkeypatch.setattr(heartbeat, "DISCOVERY_TIMEOUT", 0.1)


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_a_replica_takes_over_and_every_message_that_was_lost_is_in_a_gap(
    cluster: RedisCluster, how: str
) -> None:
    async with scene(cluster) as s:
        getattr(s.node, how)()
        await eventually(lambda: cluster.taken_over(s.node, channel(s.room)), 20)
        await ready(s.near, s.far, after=1)
        await flows_again(s.talk, s.there)
        if how == "freeze":
            s.node.thaw()
    assert any(s.room in gap.rooms for gap in s.gaps)
    assert not any(s.other in gap.rooms for gap in s.gaps)


async def fail_over(cluster: RedisCluster, node: RedisClusterNode, channel: str) -> None:
    """Have a replica take over: asked again, as Redis gives up what has not succeeded in 5 s.

    It says OK at once, and no more: an election can be lost, as after another one just before.
    """
    for _ in range(4):
        if not cluster.taken_over(node, channel):
            cluster.replica_of(node).command("CLUSTER", "FAILOVER")
        with suppress(AssertionError):
            await eventually(lambda: cluster.taken_over(node, channel), 7)
            return
    raise AssertionError(f"No replica has taken over from {node.url}")


async def test_a_planned_failover_doubles_nothing_and_keeps_the_order(
    cluster: RedisCluster,
) -> None:
    async with scene(cluster) as s:
        await fail_over(cluster, s.node, channel(s.room))
        # Until the second is told, one who has not noticed may still publish at the old master.
        await eventually(lambda: [s.room in gap.rooms for gap in s.gaps].count(True) >= 2)
        await ready(s.near, s.far)


async def test_what_a_dead_node_did_not_answer_goes_to_the_one_that_takes_over(
    cluster: RedisCluster,
) -> None:
    near, far = manager(cluster, publish_timeout=20), manager(cluster)
    (node, room), *_ = rooms_by_node(cluster)
    async with near, far, Member(far, room) as there:
        await near.to(room).send_text("before")
        node.freeze()
        sending = [asyncio.create_task(near.to(room).send_text(str(n))) for n in range(50)]
        await eventually(lambda: near.health.buffered > 50)
        node.kill()
        await eventually(lambda: cluster.taken_over(node, channel(room)), 20)
        await asyncio.gather(*sending)
        await ready(near, far)
        await near.to(room).send_text("last")
        received = await there.receive_until("last")
        assert received[0] == "before"
        assert_none_twice_and_in_order(received[1:])


async def test_a_slot_that_moves_and_moves_back_loses_nothing_silently(
    plain: RedisCluster,
) -> None:
    async with scene(plain) as s:
        slot = plain.slot_of(channel(s.room))
        for node in (s.target, s.node, s.target, s.node):
            told = len(s.gaps)
            await asyncio.to_thread(plain.move, slot, node)
            await eventually(lambda told=told: len(s.gaps) > told)  # type: ignore[misc]
            await flows_again(s.talk, s.there)
        await ready(s.near, s.far)
    assert all(gap.rooms == (s.room,) for gap in s.gaps)


@pytest.mark.parametrize("late", [True, False], ids=["late", "never"])
async def test_a_node_that_learns_late_or_never_that_it_lost_a_slot_is_left(
    late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot_subscribers, "LEAVE_DELAY", NEVER if late else 0.1)
    async with RedisCluster() as cluster:
        near, far = (manager(cluster, refresh_interval=0.3) for _ in range(2))
        (source, room), (target, _), (third, _) = rooms_by_node(cluster)
        slot = cluster.slot_of(channel(room))
        async with near, far, Member(far, room) as there:
            gaps = gaps_of(far)
            for node in (target, third):
                source.command("CLUSTER", "FORGET", node.id)  # now nobody can tell it anything
            target.command("CLUSTER", "SETSLOT", str(slot), "IMPORTING", source.id)
            for node in (target, third):
                node.command("CLUSTER", "SETSLOT", str(slot), "NODE", target.id)
            if late:
                pool = far._runtime.adapter._pool  # type: ignore[attr-defined]
                await eventually(lambda: pool._topology.owner(slot).port == target.port)
                assert source.shard_numsub(channel(room)) == 1
                source.command("CLUSTER", "DELSLOTS", str(slot))
            await eventually(lambda: target.shard_numsub(channel(room)) == 1)
            assert source.shard_numsub(channel(room)) == 0
            await eventually(lambda: any(room in gap.rooms for gap in gaps))
            await near.to(room).send_text("hello")
            assert await there.receive() == "hello"


async def test_joins_and_messages_that_go_to_the_wrong_node_find_the_right_one(
    plain: RedisCluster,
) -> None:
    near, far = manager(plain, refresh_interval=3600), manager(plain, refresh_interval=3600)
    (source, room), (target, _), _ = rooms_by_node(plain)
    slot = plain.slot_of(channel(room))
    async with near, far, Member(far) as there:
        await eventually(lambda: near.health.ready and far.health.ready)
        await asyncio.to_thread(plain.move, slot, target)
        await there.socket.join(room)
        assert target.shard_numsub(channel(room)) == 1
        sent = [str(number) for number in range(100)]
        await asyncio.gather(*(near.to(room).send_text(text) for text in sent))
        assert [await there.receive() for _ in sent] == sent
        assert near.health.dropped == near.health.buffered == 0
    await asyncio.to_thread(plain.move, slot, source)


async def test_a_killed_connection_is_a_gap_of_the_rooms_at_that_node_alone(
    plain: RedisCluster,
) -> None:
    near, far = manager(plain), manager(plain)
    (node, room), (_, other), _ = rooms_by_node(plain)
    async with near, far, Member(far, room) as there, Member(far, other):
        gaps = gaps_of(far)
        async with talking(near, room) as talk:
            node.kill_connections("normal")
            await talk.goes_on()
            node.command("CLIENT", "KILL", "TYPE", "pubsub")
            await ready(near, far, after=1)
            await flows_again(talk, there)
        assert talk.refused == []
        assert_none_twice_and_in_order(there.unread)
        assert [gap.rooms for gap in gaps] == [(room,)]


async def test_an_outage_of_the_whole_cluster_is_one_line_at_each_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with RedisCluster(node_timeout=2000) as cluster:
        near, far = manager(cluster, publish_timeout=0.2), manager(cluster)
        rooms = [room for _, room in rooms_by_node(cluster)]
        async with near, far, Member(near, *rooms) as here, Member(far, *rooms) as there:
            caplog.set_level(logging.WARNING, "fastapi_rooms")
            for node in cluster.nodes:
                node.kill()
            await eventually(lambda: not near.health.ready and not far.health.ready)
            for room in rooms:
                with pytest.raises(AdapterUnavailable, match="did not accept it"):
                    await near.to(room).send_text("only here")
            await asyncio.to_thread(cluster.restart)
            await ready(near, far)
            for room in rooms:
                await near.to(room).send_text(room)
            assert [await there.receive() for _ in rooms].sort() == rooms.sort()
            assert [await here.receive() for _ in range(3)] == ["only here"] * 3
            lines = [record.getMessage() for record in caplog.records]
            assert sum("out of reach" in line for line in lines) == 2  # one for each worker
            assert sum("is back after" in line for line in lines) == 2


async def test_a_worker_starts_without_the_cluster_and_finds_it_when_it_comes(
    cluster: RedisCluster,
) -> None:
    for node in cluster.nodes:
        node.freeze()
    near = manager(cluster, connect_timeout=0.3, publish_timeout=0.2)
    async with near:
        assert not near.health.ready
        with pytest.raises(AdapterUnavailable):
            await near.to("lobby").send_text("to nobody")
        for node in cluster.nodes:
            node.thaw()
        await ready(near)
        async with Member(near, "lobby"):
            await near.to("lobby").send_text("hello")


async def test_what_waits_for_all_nodes_together_has_one_limit(cluster: RedisCluster) -> None:
    near = manager(cluster, max_buffered_bytes=10_000, publish_timeout=0.5)
    rooms = [room for _, room in rooms_by_node(cluster)]
    async with near:
        for node in cluster.nodes:
            node.freeze()
        kept = [asyncio.create_task(near.to(room).send_bytes(b"x" * 4000)) for room in rooms[:2]]
        await eventually(lambda: near.health.buffered > 8000)
        with pytest.raises(AdapterUnavailable, match="of 10000 allowed"):
            await near.to(rooms[2]).send_bytes(b"x" * 4000)
        results = await asyncio.gather(*kept, return_exceptions=True)
        assert all(isinstance(result, AdapterUnavailable) for result in results)
        for node in cluster.nodes:
            node.thaw()
        await ready(near)
        await eventually(lambda: near.health.buffered == 0)


async def test_closing_in_an_outage_leaves_no_task(cluster: RedisCluster) -> None:
    tasks = len(asyncio.all_tasks())
    near = manager(cluster)
    async with near, Member(near, "lobby") as here:
        for node in cluster.nodes:
            node.freeze()
        waiting = asyncio.create_task(here.socket.join("another"))
        await asyncio.sleep(0)
    with pytest.raises(AdapterUnavailable):
        await waiting
    for node in cluster.nodes:
        node.thaw()
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks)


async def test_a_user_who_may_not_subscribe_to_what_a_worker_needs_is_told_at_the_start(
    plain: RedisCluster,
) -> None:
    for node in plain.nodes:
        rules = ("on", ">secret", "+@all", "resetchannels", "&rooms#probe*")
        node.command("ACL", "SETUSER", "stranger", *rules)
    url = plain.url.replace("//", "//stranger:secret@")
    with pytest.raises(AdapterUnavailable, match="permission"):
        async with RoomManager(url):
            pytest.fail("it started")


def has_forbidden(node: RedisClusterNode, name: str) -> bool:
    entries: list[Any] = node.admin.acl_log()
    return any(entry["object"] == name for entry in entries)


async def test_a_forbidden_room_follows_its_slot_and_comes_back_with_a_gap(
    plain: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "FORBIDDEN_DELAY", 0.05)
    allowed = [f"&rooms#{kind}" for kind in ("[0-9a-f]*", "workers#", "probe*", "/#", "{/#a*")]
    some = ("ACL", "SETUSER", "some")

    def rule(*rules: str) -> None:
        for node in plain.nodes:
            node.command(*some, *rules)

    rule("on", ">secret", "+@all", "resetchannels", "&rooms#*")
    url = plain.url.replace("//", "//some:secret@")
    near, far = RoomManager(RedisClusterAdapter(url), linger=0.05), manager(plain)
    gaps = gaps_of(near)
    async with near, far, Member(near, "allowed", "bar") as here:
        rule("resetchannels", *allowed)
        await ready(near, after=1)
        await eventually(lambda: near.health.forbidden == 1)
        old = plain.master_of(channel("bar"))
        new = next(node for node in plain.nodes if node is not old)
        plain.move(plain.slot_of(channel("bar")), new)
        await eventually(lambda: has_forbidden(new, channel("bar")), what="it is asked for there")
        rule("&rooms#*")
        await eventually(lambda: gaps[-1].rooms == ("bar",))
        assert near.health.ready
        assert near.health.forbidden == 0
        assert new.shard_numsub(channel("bar")) == 1
        await far.to("bar").send_text("back again")
        assert await here.receive() == "back again"


async def test_a_new_master_that_cannot_be_followed_is_an_outage_until_it_can(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with RedisCluster(masters=1) as cluster, RedisClusterNode() as added:
        [first] = cluster.nodes
        added.command("CLUSTER", "MEET", first.host, str(first.port), str(first.bus_port))
        await eventually(lambda: {n.knows("cluster_known_nodes") for n in (first, added)} == {"2"})
        cluster.nodes.append(added)
        known: dict[tuple[str, int], tuple[str, int]] = {}
        client = Client.from_url(first.url, address_remap=lambda address: known[address])
        near, far = RoomManager(RedisClusterAdapter(client)), manager(cluster)
        async with near, far:
            await ready(near)
            cluster.move(cluster.slot_of(channel("lobby")), added)
            await eventually(lambda: "KeyError" in near.health.reason)
            assert not near.health.ready
            known[added.host, added.port] = added.host, added.port
            await ready(near, far)
            async with Member(near, "lobby") as here:
                await far.to("lobby").send_text("here we are")
                assert await here.receive() == "here we are"
    assert len([record for record in caplog.records if record.exc_info]) == 1, "not with every look"
