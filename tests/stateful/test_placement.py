"""At which node each channel is subscribed, against a simulated cluster whose slots move.

Nodes subscribe and unsubscribe when they like, end subscriptions to what has moved away or refuse
them, and connections end. What is believed of the cluster may be out of date.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastapi_rooms.adapters.redis.sharded.placement import Placed, Placement
from fastapi_rooms.adapters.redis.sharded.slots import Node, Range, Topology, slot_of
from tests.stateful.settings import UNHURRIED

NODES = [Node("a", 1), Node("b", 2), Node("c", 3)]
CHANNELS = sorted([b"one", b"two", b"three", b"four"], key=slot_of)
BOUNDS = [0, *(slot_of(channel) for channel in CHANNELS[1:]), 16_384]
nodes = st.sampled_from(NODES)
channels = st.sampled_from(CHANNELS)


def topology_of(owners: dict[bytes, Node]) -> Topology:
    """A topology by the owners of the channels."""
    return Topology(
        Range(BOUNDS[at], BOUNDS[at + 1] - 1, owners[channel])
        for at, channel in enumerate(CHANNELS)
    )


class PlacementMachine(RuleBasedStateMachine):
    """Drives the machine as the node pool does, with nodes of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.placement = Placement()
        self.owners = dict.fromkeys(CHANNELS, NODES[0])
        self.believed: dict[bytes, Node] = {}
        self.wanted: set[bytes] = set()
        self.asked: list[tuple[str, Node, bytes]] = []  # on its way to a node
        self.subscribed: set[tuple[Node, bytes]] = set()  # the truth

    def place(self, placed: Placed) -> None:
        for node, some in placed.items():
            self.asked += [("subscribe", node, channel) for channel in some]

    # The application.

    @rule(channel=channels)
    def want(self, channel: bytes) -> None:
        self.wanted.add(channel)
        self.place(self.placement.want([channel]))

    @rule(channel=channels)
    def unwant(self, channel: bytes) -> None:
        self.wanted.discard(channel)
        for node, some in self.placement.unwant([channel]).items():
            self.asked += [("unsubscribe", node, c) for c in some]

    # The cluster.

    @rule(channel=channels, node=nodes)
    def move(self, channel: bytes, node: Node) -> None:
        self.owners[channel] = node

    @rule(node=nodes)
    def notice(self, node: Node) -> None:
        """A node ends what it does not serve any more."""
        for at, channel in sorted(self.subscribed):
            if at == node and self.owners[channel] != node:
                self.subscribed.discard((at, channel))
                self.place(self.placement.withdrawn(node, [channel]))

    @precondition(lambda self: self.asked)
    @rule()
    def answer(self) -> None:
        verb, node, channel = self.asked.pop(0)
        if verb == "unsubscribe":
            self.subscribed.discard((node, channel))
            self.place(self.placement.released(node, [channel]))
        elif self.owners[channel] == node:
            self.subscribed.add((node, channel))
        else:
            self.place(self.placement.withdrawn(node, [channel]))

    @rule(node=nodes)
    def lose(self, node: Node) -> None:
        """The connection is made anew, and asks for everything that is placed there."""
        self.subscribed -= {(node, channel) for channel in CHANNELS}
        self.asked = [command for command in self.asked if command[1] != node]
        self.place(self.placement.link_lost(node))
        again = self.placement.at(node, lambda _: True)
        self.asked += [("subscribe", node, c) for c in again]

    # What is known of it.

    @rule()
    def learn(self) -> None:
        self.believed = dict(self.owners)
        self.place(self.placement.update(topology_of(self.owners)))
        for node in NODES:
            if node not in self.owners.values():
                self.subscribed -= {(node, channel) for channel in CHANNELS}
                self.asked = [command for command in self.asked if command[1] != node]
                self.place(self.placement.removed(node))

    @rule()
    def leave(self) -> None:
        for node, some in self.placement.misplaced().items():
            self.placement.leave(some)
            self.asked += [("unsubscribe", node, channel) for channel in some]

    # What holds.

    @invariant()
    def what_is_wanted_is_known_and_nothing_else(self) -> None:
        assert {channel for channel in CHANNELS if channel in self.placement} == self.wanted

    @invariant()
    def a_channel_at_no_node_is_unplaced(self) -> None:
        without = [c for c in self.wanted if self.placement.node_of(c) is None]
        assert len(without) == self.placement.unplaced

    @invariant()
    def nothing_new_is_asked_of_a_second_node_before_the_first_has_released_it(self) -> None:
        for channel in self.wanted:
            node = self.placement.node_of(channel)
            held = {node for node, c in self.subscribed if c == channel}
            being_left = {n for verb, n, c in self.asked if (verb, c) == ("unsubscribe", channel)}
            assert held - being_left <= {node}

    def teardown(self) -> None:
        """Left alone, all that is wanted is subscribed where it lives, and only there."""
        for _ in range(4):
            self.learn()
            self.leave()
            for node in NODES:
                self.notice(node)
            while self.asked:
                self.answer()
        assert self.subscribed == {(self.owners[c], c) for c in self.wanted}


PlacementMachine.TestCase.settings = UNHURRIED
TestPlacement = PlacementMachine.TestCase


def test_what_moved_stays_where_it_is_until_it_is_released() -> None:
    placement = Placement()
    one, two = NODES[:2]
    owners = dict.fromkeys(CHANNELS, one)
    placement.update(topology_of(owners))
    assert placement.want(CHANNELS) == {one: CHANNELS}
    assert placement.update(topology_of(dict.fromkeys(CHANNELS, two))) == {}
    assert placement.misplaced() == {one: CHANNELS}
    assert placement.withdrawn(one, CHANNELS[:1]) == {two: CHANNELS[:1]}
    placement.leave(CHANNELS[1:])
    assert placement.misplaced() == {}
    assert placement.released(one, CHANNELS[1:2]) == {two: CHANNELS[1:2]}
    assert placement.link_lost(one) == {two: CHANNELS[2:]}


def test_what_a_node_gives_up_that_should_have_it_waits_for_the_next_look() -> None:
    placement = Placement()
    one, two = NODES[:2]
    placement.update(topology_of(dict.fromkeys(CHANNELS, one)))
    placement.want([b"one"])
    assert placement.withdrawn(one, [b"one"]) == {}
    assert placement.unplaced == 1
    assert placement.update(topology_of(dict.fromkeys(CHANNELS, two))) == {two: [b"one"]}


def test_a_node_cannot_take_what_is_at_another() -> None:
    placement = Placement()
    one, two = NODES[:2]
    placement.update(topology_of(dict.fromkeys(CHANNELS, two)))
    placement.want([b"one"])
    assert placement.withdrawn(one, [b"one"]) == {}
    assert placement.node_of(b"one") == two


def test_what_is_wanted_anew_while_it_is_left_stays() -> None:
    placement = Placement()
    one, two = NODES[:2]
    placement.update(topology_of(dict.fromkeys(CHANNELS, one)))
    placement.want([b"one"])
    placement.update(topology_of(dict.fromkeys(CHANNELS, two)))
    placement.leave([b"one"])
    assert placement.unwant([b"one"]) == {one: [b"one"]}
    placement.update(topology_of(dict.fromkeys(CHANNELS, one)))
    assert placement.want([b"one"]) == {one: [b"one"]}
    assert placement.released(one, [b"one"]) == {}
    assert placement.node_of(b"one") == one
