"""Channels that their node has withdrawn: which of them are told to be missed a second time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import pytest

from fastapi_rooms.adapters.base import Outage
from fastapi_rooms.adapters.redis.sharded.slot_subscribers import SlotSubscribers
from fastapi_rooms.adapters.redis.sharded.slots import SLOTS, Node, Range, Topology, slot_of
from fastapi_rooms.testing import eventually

CHANNEL, OTHER = b"rooms#{/#tea}#", b"rooms#{/#milk}#"
MASTER, REPLICA = Node("127.0.0.1", 7000), Node("127.0.0.1", 7001)
BEFORE = 1000.0


class Connection:
    """A subscriber at a node, at which everything is live, and told, as soon as it is wanted."""

    complete_until = None

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.channels: set[bytes] = set()

    def is_live(self, channel: bytes) -> bool:
        return channel in self.channels

    def want(self, channels: Iterable[bytes]) -> None:
        self.channels.update(channels)
        regained = self.worker.subscribers.losses.regain(self.channels)
        if regained is not None:
            self.worker.gaps.append(Outage(regained[0], time.time(), regained[1]))

    def unsubscribe(self, channels: Iterable[bytes]) -> None:
        self.channels.difference_update(channels)


def all_at(node: Node) -> Topology:
    return Topology([Range(0, SLOTS - 1, node)])


class Worker:
    """One that wants two channels, which are live at a master."""

    def __init__(self) -> None:
        self.gaps: list[Outage] = []
        self.subscribers = SlotSubscribers(self.gaps.append, report_delay=0.0)
        for node in (MASTER, REPLICA):
            self.subscribers.add(node, Connection(self))  # type: ignore[arg-type]  # stands for a Subscriber
        self.follow(all_at(MASTER))
        self.subscribers.want([CHANNEL, OTHER])

    def follow(self, topology: Topology) -> None:
        self.subscribers.update(topology, moved_since=time.time())

    def withdraw(self, *channels: bytes, live: Iterable[bytes] | None = None) -> None:
        found: Any = self.subscribers._subscribers[MASTER]
        found.unsubscribe(channels)
        lost = [*channels] if live is None else [*live]
        self.subscribers.withdrawn(MASTER, [*channels], lost, since=BEFORE)

    async def told_again(self) -> set[bytes]:
        """Of what gaps are told when everyone has left the node, which is a replica now."""
        self.follow(all_at(REPLICA))
        self.subscribers.remove(MASTER)
        self.gaps.clear()
        await eventually(lambda: self.gaps, what="it is told")
        return {channel for gap in self.gaps for channel in gap.channels}


async def test_what_a_demoted_master_has_withdrawn_is_missed_again_when_all_have_left_it() -> None:
    worker = Worker()
    worker.withdraw(CHANNEL, OTHER)
    assert await worker.told_again() == {CHANNEL, OTHER}
    assert worker.gaps[-1].since == BEFORE


async def test_a_topology_that_is_late_makes_nothing_be_forgotten() -> None:
    worker = Worker()
    worker.withdraw(CHANNEL)
    connection: Any = worker.subscribers._subscribers[MASTER]
    connection.want = lambda _: None  # it answers that it does not serve them
    worker.follow(all_at(MASTER))
    worker.withdraw(CHANNEL, live=[])
    connection.channels.discard(CHANNEL)
    assert CHANNEL in await worker.told_again()


@pytest.mark.parametrize("how", ["moved", "back"])
async def test_what_a_master_has_withdrawn_that_stays_one_is_told_once(how: str) -> None:
    worker = Worker()
    worker.withdraw(CHANNEL)
    slot = slot_of(CHANNEL)
    moved = [
        Range(0, slot - 1, MASTER),
        Range(slot, slot, REPLICA),
        Range(slot + 1, SLOTS - 1, MASTER),
    ]
    worker.follow(Topology(moved) if how == "moved" else all_at(MASTER))
    worker.follow(all_at(MASTER))
    assert worker.gaps[-1].since == BEFORE
    await worker.told_again()
    assert all(gap.since > BEFORE for gap in worker.gaps)
