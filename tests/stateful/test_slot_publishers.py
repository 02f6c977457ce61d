"""Publishing to a simulated cluster whose slots move, whose nodes die, and whose answers are late.

Whatever happens, what was accepted has been heard, once and in order, by those who tell what they
have seen by its rising number; and what was not has raised.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import hiredis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from fastapi_rooms.adapters.command_queue import Answer, ByteBudget
from fastapi_rooms.adapters.redis.links.link import Link
from fastapi_rooms.adapters.redis.pubsub.publisher import Publisher
from fastapi_rooms.adapters.redis.sharded.slot_publishers import SlotPublishers
from fastapi_rooms.adapters.redis.sharded.slots import Node, Range, Topology, slot_of
from fastapi_rooms.errors import AdapterUnavailable
from tests.stateful.settings import UNHURRIED

NODES = [Node("a", 1), Node("b", 2)]
CHANNELS = sorted([b"one", b"two"], key=slot_of)
BOUND = slot_of(CHANNELS[1])


class FakeLink(Link):
    """Leads to a node of ours; what is written on it waits there."""

    def __init__(self) -> None:
        self.writable = True
        self.address, self.peer = "a node", None
        self.last_received = 0.0
        self.arrived: deque[list[bytes]] = deque()
        self.answers: deque[Any] = deque()
        self.outcomes: deque[tuple[bytes, bool]] = deque()  # of the commands with these answers
        self._commands = hiredis.Reader()

    @property
    def has_taken_a_later_one(self) -> bool:
        """Whether it has refused one message of a channel and taken the next, and not yet said so.

        If the connection is lost by that, nobody can know.
        """
        refused = set()
        for channel, taken in self.outcomes:
            if taken and channel in refused:
                return True
            if not taken:
                refused.add(channel)
        return False

    def write(self, data: bytes) -> None:
        self._commands.feed(data)
        while (command := self._commands.gets()) is not False:
            self.arrived.append(command)

    def abort(self, reason: str) -> None:
        raise AssertionError(reason)


class NoSource:
    """Nobody opens anything here."""

    async def open(self, *_: object) -> Link:
        raise AssertionError

    def background_tasks(self) -> list[Any]:
        return []


def topology_of(owners: dict[bytes, Node]) -> Topology:
    one, two = CHANNELS
    return Topology([Range(0, BOUND - 1, owners[one]), Range(BOUND, 16_383, owners[two])])


class SlotPublishersMachine(RuleBasedStateMachine):
    """Drives the publishers as the node pool does, and plays the nodes and one receiver."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.owners = dict.fromkeys(CHANNELS, NODES[0])
        self.down: set[bytes] = set()
        self.links: dict[Node, FakeLink] = {}
        self.publishers: dict[Node, Publisher] = {}
        self.highest = dict.fromkeys(CHANNELS, 0)
        self.heard: set[int] = set()
        self.sent: dict[int, asyncio.Future[int]] = {}
        self.taken_back: set[int] = set()
        self.refreshes: list[None] = []
        self.budget = ByteBudget(1 << 30)
        self.in_loop(self.begin)

    def in_loop(self, act: Any, *arguments: Any) -> None:
        async def run() -> None:
            act(*arguments)
            for _ in range(4):
                await asyncio.sleep(0)

        self.loop.run_until_complete(run())

    def begin(self) -> None:
        self.sharded = SlotPublishers(self.budget, timeout=10_000, refresh=self.refreshed)
        for node in NODES:
            self.add(node)
        self.sharded.update(topology_of(self.owners))

    def refreshed(self) -> None:
        self.refreshes.append(None)

    def add(self, node: Node) -> None:
        self.publishers[node] = Publisher(
            NoSource(),
            lambda: None,
            connect_timeout=1,
            timeout=10_000,
            budget=self.budget,
            verb=b"SPUBLISH",
            redirects=self.sharded,
        )
        self.sharded.add(node, self.publishers[node])
        self.connect(node)

    def connect(self, node: Node) -> None:
        self.links[node] = FakeLink()
        self.publishers[node].link_up(self.links[node])

    # The application.

    @rule(channel=st.sampled_from(CHANNELS), count=st.integers(1, 4))
    def publish(self, channel: bytes, count: int) -> None:
        def some() -> None:
            for _ in range(count):
                number = len(self.sent) + 1
                message = str(number).encode()
                self.sent[number] = self.sharded.publish(channel, message)

        self.in_loop(some)

    @rule(data=st.data(), count=st.integers(1, 4))
    def cancel(self, data: st.DataObject, count: int) -> None:
        """Callers stop waiting. What was not written by then must never be heard."""
        for _ in range(count):
            waiting = [number for number, accepted in self.sent.items() if not accepted.done()]
            if waiting:
                number = data.draw(st.sampled_from(waiting))
                accepted = self.sent[number]
                assert isinstance(accepted, Answer)
                if accepted.queue is not None:
                    self.taken_back.add(number)
                self.in_loop(accepted.cancel)

    # The cluster.

    @rule(node=st.sampled_from(NODES), count=st.integers(1, 4))
    def work(self, node: Node, count: int) -> None:
        """A node takes what has arrived, or sends it elsewhere."""
        link = self.links.get(node)
        for _ in range(count if link is not None else 0):
            if link is None or not link.arrived:
                return
            _, channel, message = link.arrived.popleft()
            taken = channel not in self.down and self.owners[channel] == node
            link.outcomes.append((channel, taken))
            if channel in self.down:
                link.answers.append(hiredis.ReplyError("CLUSTERDOWN Hash slot not served"))
            elif self.owners[channel] != node:
                link.answers.append(hiredis.ReplyError(f"MOVED {slot_of(channel)} x:1"))
            else:
                link.answers.append(1)
                number = int(message)
                if number > self.highest[channel]:
                    self.highest[channel] = number
                    assert number not in self.heard | self.taken_back
                    self.heard.add(number)

    @rule(node=st.sampled_from(NODES), count=st.integers(1, 4))
    def answer(self, node: Node, count: int) -> None:
        """Some of its answers come."""
        link = self.links.get(node)
        for _ in range(count):
            if link is not None and link.answers:
                link.outcomes.popleft()
                self.in_loop(self.publishers[node].reply, link.answers.popleft())

    @rule(channel=st.sampled_from(CHANNELS), node=st.sampled_from(NODES))
    def move(self, channel: bytes, node: Node) -> None:
        if node in self.links:
            self.owners[channel] = node

    @rule(channel=st.sampled_from(CHANNELS))
    def turn_down(self, channel: bytes) -> None:
        self.down ^= {channel}

    @rule(node=st.sampled_from(NODES))
    def cut(self, node: Node) -> None:
        """The connection is lost, with what is on it, and made again."""
        if node in self.links and not self.links[node].has_taken_a_later_one:
            self.in_loop(self.publishers[node].link_down, "cut")
            self.in_loop(self.connect, node)

    @precondition(lambda self: len(self.links) == 2)
    @rule(node=st.sampled_from(NODES))
    def die(self, node: Node) -> None:
        """A node goes for good, and the other has its slots."""
        if self.links[node].has_taken_a_later_one:
            return
        (other,) = set(NODES) - {node}
        self.owners = dict.fromkeys(CHANNELS, other)
        del self.links[node], self.publishers[node]
        self.in_loop(self.sharded.remove, node)
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
        """Left alone, everything is answered; what was accepted was heard, in order, once."""
        self.down.clear()
        for _ in range(8):
            for node in NODES:
                self.work(node, 1000)
                self.answer(node, 1000)
            self.learn()
        assert all(task.done() for task in self.sent.values())
        for number, task in self.sent.items():
            if task.cancelled():
                continue
            error = task.exception()
            if error is None:
                assert number in self.heard
            else:
                assert isinstance(error, AdapterUnavailable)
        assert self.budget.used == 0
        assert self.sharded.paused == 0
        self.in_loop(self.sharded.close)
        self.loop.close()


SlotPublishersMachine.TestCase.settings = UNHURRIED
TestSlotPublishers = SlotPublishersMachine.TestCase


def test_what_would_come_after_its_successors_is_refused_instead() -> None:
    one, (a, _) = CHANNELS[0], NODES
    cluster = SlotPublishersMachine()
    cluster.publish(one, 3)
    cluster.turn_down(one)
    cluster.work(a, 1)
    cluster.turn_down(one)
    cluster.work(a, 2)
    cluster.answer(a, 3)
    cluster.teardown()
    assert cluster.heard == {2, 3}
    assert isinstance(cluster.sent[1].exception(), AdapterUnavailable)


def test_a_slot_goes_on_when_the_message_that_goes_ahead_is_cancelled() -> None:
    one, (a, b) = CHANNELS[0], NODES
    cluster = SlotPublishersMachine()
    cluster.move(one, b)
    cluster.publish(one, 3)
    cluster.work(a, 3)
    cluster.answer(a, 3)
    cluster.links.pop(b)
    cluster.in_loop(cluster.publishers[b].link_down, "cut")  # the trial is not written
    cluster.learn()
    refreshes = len(cluster.refreshes)
    cluster.in_loop(cluster.sent[1].cancel)
    assert len(cluster.refreshes) == refreshes + 1
    cluster.in_loop(cluster.connect, b)
    cluster.teardown()
    assert cluster.heard == {2, 3}


def test_what_is_new_waits_for_what_is_still_on_its_way_to_the_old_node() -> None:
    one, (a, b) = CHANNELS[0], NODES
    cluster = SlotPublishersMachine()
    cluster.publish(one, 3)
    cluster.move(one, b)
    cluster.learn()
    cluster.publish(one, 2)
    cluster.learn()
    cluster.work(b, 4)
    cluster.work(a, 3)
    cluster.teardown()
    assert cluster.heard == {1, 2, 3, 4, 5}


def test_one_message_goes_ahead_and_the_rest_follows() -> None:
    one, (a, b) = CHANNELS[0], NODES
    cluster = SlotPublishersMachine()
    cluster.move(one, b)
    cluster.publish(one, 4)
    cluster.work(a, 4)
    cluster.answer(a, 4)
    cluster.learn()
    assert [message for _, _, message in cluster.links[b].arrived] == [b"1"]
    cluster.work(b, 1)
    cluster.answer(b, 1)
    assert [message for _, _, message in cluster.links[b].arrived] == [b"2", b"3", b"4"]
    cluster.teardown()
    assert cluster.heard == {1, 2, 3, 4}
