"""Appending at a simulated cluster whose slots move, whose nodes die, and whose answers are late.

Whatever happens, everything is kept in time, once, in order, and where it was said to be.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import hiredis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from fastapi_rooms.adapters.command_queue import ByteBudget
from fastapi_rooms.adapters.history import Position, Retention, RoomKey
from fastapi_rooms.adapters.redis.history.appends import Append
from fastapi_rooms.adapters.redis.history.rights import HISTORY
from fastapi_rooms.adapters.redis.history.script import Message
from fastapi_rooms.adapters.redis.links.link import Link
from fastapi_rooms.adapters.redis.sharded.slot_lanes import NodeLane, SlotLanes
from fastapi_rooms.adapters.redis.sharded.slots import Node, Range, Topology, slot_of
from fastapi_rooms.errors import AdapterUnavailable
from tests.stateful.settings import UNHURRIED

NODES = [Node("a", 1), Node("b", 2)]
ROOMS = sorted(
    [RoomKey(b"/#one", b"rooms#{/#one}#"), RoomKey(b"/#two", b"rooms#{/#two}#")],
    key=lambda room: slot_of(room.channel),
)
BOUND = slot_of(ROOMS[1].channel)
EPOCH = "0" * 16
RETENTION = Retention(1000, 60.0)


class FakeLink(Link):
    """Leads to a node of ours; what is written on it waits there."""

    def __init__(self) -> None:
        self.writable = True
        self.address, self.peer = "a node", None
        self.arrived: deque[list[bytes]] = deque()
        self.answers: deque[Any] = deque()
        self._commands = hiredis.Reader()

    def write(self, data: bytes) -> None:
        self._commands.feed(data)
        while (command := self._commands.gets()) is not False:
            self.arrived.append(command)

    def abort(self, reason: str) -> None:
        raise AssertionError(reason)


class NoSource:
    """Nobody opens anything here."""

    async def open(self, *_: object) -> Link:
        await asyncio.Event().wait()
        raise AssertionError

    def background_tasks(self) -> list[Any]:
        return []


def topology_of(owners: dict[RoomKey, Node]) -> Topology:
    one, two = ROOMS
    return Topology([Range(0, BOUND - 1, owners[one]), Range(BOUND, 16_383, owners[two])])


class SlotLanesMachine(RuleBasedStateMachine):
    """Drives the lanes as the node pool does, and plays the nodes. A slot's messages go with it."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.owners = dict.fromkeys(ROOMS, NODES[0])
        self.down: set[RoomKey] = set()
        self.links: dict[Node, FakeLink] = {}
        self.lanes: dict[Node, NodeLane] = {}
        self.kept: dict[RoomKey, list[int]] = {room: [] for room in ROOMS}
        self.sent: dict[int, tuple[RoomKey, Append]] = {}
        self.taken_back: set[int] = set()
        self.budget = ByteBudget(1 << 30)
        self.in_loop(self.begin)

    def in_loop(self, act: Any, *arguments: Any) -> None:
        async def run() -> None:
            if asyncio.iscoroutine(result := act(*arguments)):
                await result
            for _ in range(4):
                await asyncio.sleep(0)

        self.loop.run_until_complete(run())

    def begin(self) -> None:
        self.sharded = SlotLanes(self.budget, timeout=10_000, refresh=lambda: None)
        for node in NODES:
            self.add(node)
        self.sharded.update(topology_of(self.owners))

    def add(self, node: Node) -> None:
        self.lanes[node] = NodeLane(
            node,
            self.sharded,
            NoSource(),
            "rooms",
            connect_timeout=1,
            timeout=10_000,
            patience=10_000,
            budget=self.budget,
        )
        self.sharded.add(self.lanes[node])
        self.connect(node)

    def connect(self, node: Node) -> None:
        """A link comes up, and no right is missing."""
        link = self.links[node] = FakeLink()
        self.lanes[node]._use(HISTORY)
        self.lanes[node].link_up(link)
        for _ in range(len(link.arrived)):
            self.lanes[node].reply(b"OK")
            link.arrived.popleft()

    # The application.

    @rule(room=st.sampled_from(ROOMS), count=st.integers(1, 4))
    def append(self, room: RoomKey, count: int) -> None:
        def some() -> None:
            for _ in range(count):
                number = len(self.sent) + 1
                append = self.sharded.append(Message(room, number, RETENTION, b"hello"))
                assert isinstance(append, Append)
                self.sent[number] = room, append

        self.in_loop(some)

    @rule(data=st.data(), count=st.integers(1, 4))
    def cancel(self, data: st.DataObject, count: int) -> None:
        """Callers stop waiting. What was not written by then must never be kept."""
        for _ in range(count):
            waiting = [number for number, (_, append) in self.sent.items() if not append.done()]
            if waiting:
                number = data.draw(st.sampled_from(waiting))
                _, append = self.sent[number]
                if append.waits_in is not None:
                    self.taken_back.add(number)
                self.in_loop(append.cancel)

    # The cluster.

    @rule(node=st.sampled_from(NODES), count=st.integers(1, 4))
    def work(self, node: Node, count: int) -> None:
        """A node does what has arrived, or sends it elsewhere."""
        link = self.links.get(node)
        for _ in range(count):
            if link is None or not link.arrived:
                return
            _, _, keys, meta, _, again, _, _, channel, *rest = link.arrived.popleft()
            assert keys == b"2", "one slot at a time"
            (room,) = (room for room in ROOMS if room.channel == channel)
            assert meta == b"rooms:meta:{%b}" % room.name
            if room in self.down:
                link.answers.append(hiredis.ReplyError("CLUSTERDOWN Hash slot not served"))
            elif self.owners[room] != node:
                link.answers.append(hiredis.ReplyError(f"MOVED {slot_of(channel)} x:1"))
            else:
                tags = [int(tag) for tag in rest[1::5]]
                link.answers.append([self.keep(room, tag, again == b"1") for tag in tags])

    def keep(self, room: RoomKey, tag: int, again: bool) -> bytes:
        assert tag not in self.taken_back
        if not again or tag not in self.kept[room]:
            self.kept[room].append(tag)
        return f"{EPOCH} {self.kept[room].index(tag) + 1}".encode()

    @rule(node=st.sampled_from(NODES), count=st.integers(1, 4))
    def answer(self, node: Node, count: int) -> None:
        """Some of its answers come."""
        link = self.links.get(node)
        for _ in range(count):
            if link is not None and link.answers:
                self.in_loop(self.lanes[node].reply, link.answers.popleft())

    @rule(room=st.sampled_from(ROOMS), node=st.sampled_from(NODES))
    def move(self, room: RoomKey, node: Node) -> None:
        if node in self.links:
            self.owners[room] = node

    @rule(room=st.sampled_from(ROOMS))
    def turn_down(self, room: RoomKey) -> None:
        self.down ^= {room}

    @rule(node=st.sampled_from(NODES))
    def cut(self, node: Node) -> None:
        """The connection is lost, with what is on it, and made again."""
        if node in self.links:
            self.in_loop(self.lanes[node].link_down, "cut")
            self.in_loop(self.connect, node)

    @precondition(lambda self: len(self.links) == 2)
    @rule(node=st.sampled_from(NODES))
    def die(self, node: Node) -> None:
        """A node goes for good, and the other has its slots, and what was kept there."""
        (other,) = set(NODES) - {node}
        self.owners = dict.fromkeys(ROOMS, other)
        del self.links[node], self.lanes[node]
        self.in_loop(lambda: self.sharded.remove(node).close())
        self.learn()

    @rule()
    def come_back(self) -> None:
        for node in NODES:
            if node not in self.links:
                self.in_loop(self.add, node)

    @rule()
    def learn(self) -> None:
        self.in_loop(self.sharded.update, topology_of(self.owners))

    def teardown(self) -> None:
        """Left alone, everything is answered; what was confirmed is kept, in order, once."""
        self.down.clear()
        for _ in range(8):
            for node in NODES:
                self.work(node, 1000)
                self.answer(node, 1000)
            self.learn()
        for kept in self.kept.values():
            assert kept == sorted(set(kept)), "in order, and once"
        for number, (room, append) in self.sent.items():
            assert append.done()
            if append.cancelled():
                continue
            offset = self.kept[room].index(number) + 1
            assert append.result() == Position(EPOCH, offset, number)
        assert self.budget.used == 0
        self.in_loop(self.sharded.close)
        self.loop.close()


SlotLanesMachine.TestCase.settings = UNHURRIED
TestSlotLanes = SlotLanesMachine.TestCase


def test_a_batch_that_is_sent_elsewhere_goes_before_what_came_after_it() -> None:
    one, (a, b) = ROOMS[0], NODES
    cluster = SlotLanesMachine()
    cluster.append(one, 2)
    cluster.move(one, b)
    cluster.append(one, 2)
    cluster.work(a, 1)
    cluster.answer(a, 1)
    assert not cluster.links[a].arrived
    cluster.append(one, 1)
    cluster.learn()
    assert [command[10::5] for command in cluster.links[b].arrived] == [[b"1", b"2"]]
    cluster.teardown()
    assert cluster.kept[one] == [1, 2, 3, 4, 5]


def test_a_slot_leaves_when_the_batch_under_way_is_answered() -> None:
    one, (a, b) = ROOMS[0], NODES
    cluster = SlotLanesMachine()
    cluster.append(one, 2)
    cluster.work(a, 1)
    cluster.move(one, b)
    cluster.append(one, 2)
    cluster.learn()
    assert not cluster.links[b].arrived
    cluster.answer(a, 1)
    assert not cluster.links[a].arrived
    assert len(cluster.links[b].arrived) == 1
    cluster.teardown()
    assert cluster.kept[one] == [1, 2, 3, 4]


def test_a_slot_whose_last_message_is_answered_leaves_without_a_trace() -> None:
    one, (a, b) = ROOMS[0], NODES
    cluster = SlotLanesMachine()
    cluster.append(one, 1)
    cluster.work(a, 1)
    cluster.move(one, b)
    cluster.learn()
    cluster.answer(a, 1)
    cluster.append(one, 1)
    assert len(cluster.links[b].arrived) == 1
    cluster.teardown()
    assert cluster.kept[one] == [1, 2]


def test_what_a_node_died_over_is_looked_for_at_the_next() -> None:
    one, (a, b) = ROOMS[0], NODES
    cluster = SlotLanesMachine()
    cluster.append(one, 2)
    cluster.work(a, 1)
    cluster.die(a)
    (command,) = cluster.links[b].arrived
    assert command[5] == b"1", "it is marked"
    cluster.teardown()
    assert cluster.kept[one] == [1, 2]


def test_slots_of_one_node_do_not_wait_for_each_other() -> None:
    cluster = SlotLanesMachine()
    for room in ROOMS:
        cluster.append(room, 1)
    assert len(cluster.links[NODES[0]].arrived) == 2
    cluster.teardown()


def test_what_no_node_takes_fails_in_time_without_a_doubt() -> None:
    async def unserved() -> None:
        refreshes: list[None] = []
        lanes = SlotLanes(ByteBudget(1 << 20), timeout=0.01, refresh=lambda: refreshes.append(None))
        append = lanes.append(Message(ROOMS[0], 1, RETENTION, b"hello"))
        await asyncio.wait((append,))
        error = append.exception()
        assert isinstance(error, AdapterUnavailable)
        assert "no node is known to serve its slot" in str(error)
        assert not error.uncertain
        assert refreshes
        assert lanes.dropped == 1
        late = lanes.append(Message(ROOMS[0], 2, RETENTION, b"hello"))
        await lanes.close()
        assert "closed" in str(late.exception())
        assert "closed" in str(lanes.append(Message(ROOMS[0], 3, RETENTION, b"")).exception())

    asyncio.run(unserved())
