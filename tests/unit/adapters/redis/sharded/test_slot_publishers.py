"""What is published in a cluster while slots move, and in which order it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

import hiredis
import pytest

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.adapters.command_queue import ByteBudget, Command
from fastapi_rooms.adapters.redis.pubsub.publisher import Publisher, command_queue
from fastapi_rooms.adapters.redis.sharded.slot_publishers import SlotPublishers
from fastapi_rooms.adapters.redis.sharded.slots import SLOTS, Node, Range, Topology, slot_of

ONE, TWO = Node("one", 7000), Node("two", 7000)
ROOM = b"rooms#/#tea#"
MOVED = hiredis.ReplyError(f"MOVED {slot_of(ROOM)} two:7000")


class FakePublisher:
    """The connection to a node, which takes and answers what the test says."""

    def __init__(self, budget: ByteBudget) -> None:
        self.queue = command_queue(
            b"SPUBLISH", budget, timeout=60.0, why_waiting=lambda: "no reason"
        )
        self.dropped = 0
        self.volatile: list[bytes] = []

    def publish(self, channel: bytes, data: bytes, slot: int) -> asyncio.Future[int]:
        return self.queue.publish(channel, data, slot)

    def publish_volatile(self, channel: bytes, data: bytes, slot: int) -> None:
        self.queue.publish_volatile(channel, data, slot)

    def put(self, commands: Iterable[Command]) -> None:
        self.queue.put(commands)

    def close(self) -> None:
        self.queue.close()


class Cluster:
    """Two nodes, the first of which serves every slot."""

    def __init__(self) -> None:
        budget = ByteBudget(100_000)
        self.refreshes = 0
        self.nodes = {node: FakePublisher(budget) for node in (ONE, TWO)}
        self.publishers = SlotPublishers(budget, timeout=60.0, refresh=self._refresh)
        for node, publisher in self.nodes.items():
            self.publishers.add(node, cast("Publisher", publisher))
        self.serve(ONE)

    def _refresh(self) -> None:
        self.refreshes += 1

    def serve(self, *nodes: Node) -> None:
        """The topology was refreshed: one node serves every slot, or none does."""
        self.publishers.update(Topology([Range(0, SLOTS - 1, node) for node in nodes]))

    def publish(self, *data: bytes) -> list[asyncio.Future[int]]:
        return [self.publishers.publish(ROOM, each) for each in data]

    def takes(self, node: Node) -> list[bytes]:
        """What is written to a node now."""
        reader = hiredis.Reader()
        reader.feed(self.nodes[node].queue.next_batch())
        commands: list[bytes] = []
        while (command := cast("Any", reader.gets())) is not False:
            commands.append(command[-1])
        return commands

    def answers(self, node: Node, error: hiredis.ReplyError | None = None) -> None:
        """A node answers the oldest command that it was written."""
        publisher = self.nodes[node]
        command = publisher.queue.answered()
        assert command is not None
        taken_over = self.publishers.answered(cast("Publisher", publisher), command, error)
        if not taken_over and command.accepted is not None and not command.accepted.done():
            command.accepted.set_result(1)


@pytest.fixture
async def cluster() -> Cluster:
    return Cluster()


async def test_what_a_node_sends_elsewhere_is_tried_there_before_what_came_later(
    cluster: Cluster,
) -> None:
    first, second = cluster.publish(b"1", b"2")
    assert cluster.takes(ONE) == [b"1", b"2"]
    (third,) = cluster.publish(b"3")
    cluster.answers(ONE, MOVED)
    cluster.answers(ONE, MOVED)
    assert cluster.refreshes
    cluster.serve(TWO)
    assert cluster.takes(TWO) == [b"1"]
    assert cluster.publishers.paused == 1
    cluster.answers(TWO)
    assert cluster.takes(TWO) == [b"2", b"3"]
    assert cluster.publishers.paused == 0
    cluster.answers(TWO)
    cluster.answers(TWO)
    assert [each.result() for each in (first, second, third)] == [1, 1, 1]


async def test_a_trial_that_was_accepted_by_a_node_that_lost_the_slot_meanwhile_waits_for_the_next(
    cluster: Cluster,
) -> None:
    cluster.serve()
    cluster.publish(b"1", b"2")
    cluster.serve(ONE)
    assert cluster.takes(ONE) == [b"1"]
    cluster.serve(TWO)
    cluster.answers(ONE)
    assert cluster.takes(ONE) == cluster.takes(TWO) == []
    cluster.serve(TWO)
    assert cluster.takes(TWO) == [b"2"]


async def test_a_node_that_is_no_master_any_more_gives_back_its_trial(cluster: Cluster) -> None:
    cluster.serve()
    cluster.publish(b"1", b"2")
    cluster.serve(ONE)
    assert cluster.takes(ONE) == [b"1"]
    question = cluster.nodes[ONE].queue.query(b"ROLE")
    cluster.publishers.remove(ONE)
    with pytest.raises(AdapterUnavailable, match="no master any more"):
        await question
    cluster.serve(TWO)
    assert cluster.takes(TWO) == [b"1"], "it was given back, and is tried again"


async def test_what_moves_before_it_is_written_is_written_once_to_the_node_that_has_the_slot(
    cluster: Cluster,
) -> None:
    cluster.publish(b"1", b"2")
    cluster.serve(TWO)
    assert cluster.takes(ONE) == []
    assert cluster.takes(TWO) == [b"1"]
    cluster.answers(TWO)
    assert cluster.takes(TWO) == [b"2"]


async def test_a_volatile_message_is_sent_at_once_or_dropped_and_counted(cluster: Cluster) -> None:
    cluster.publishers.publish_volatile(ROOM, b"in time")
    assert cluster.takes(ONE) == [b"in time"]
    cluster.answers(ONE, MOVED)
    assert cluster.publishers.dropped == 1
    cluster.publishers.publish_volatile(ROOM, b"while it is paused")
    assert cluster.publishers.dropped == 2
    cluster.serve(TWO)
    assert cluster.takes(TWO) == []
    assert cluster.publishers.paused == 0


async def test_a_volatile_message_that_waits_with_others_may_be_the_trial(cluster: Cluster) -> None:
    cluster.publishers.publish_volatile(ROOM, b"volatile")
    cluster.publish(b"1")
    cluster.serve(TWO)
    assert cluster.takes(TWO) == [b"volatile"]
    cluster.answers(TWO)
    assert cluster.takes(TWO) == [b"1"]


async def test_a_trial_whose_caller_gives_up_has_another_tried_soon(cluster: Cluster) -> None:
    cluster.serve()
    first, second = cluster.publish(b"1", b"2")
    cluster.serve(ONE)
    before = cluster.refreshes
    first.cancel()
    await asyncio.wait((first,))
    await asyncio.sleep(0)
    assert cluster.refreshes > before
    cluster.serve(ONE)
    assert cluster.takes(ONE) == [b"2"]
    assert not second.done()


async def test_who_waits_when_it_is_closed_is_told(cluster: Cluster) -> None:
    cluster.serve()
    paused = cluster.publish(b"1")
    cluster.publishers.close()
    with pytest.raises(AdapterUnavailable):
        await paused[0]
    assert cluster.publishers.paused == 0
