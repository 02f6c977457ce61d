"""At which node each channel is subscribed, against a simulated cluster whose slots move.

Nodes subscribe and unsubscribe when they like, end subscriptions to what has moved away or refuse
them, and connections end. What is believed of the cluster may be out of date.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastapi_rooms.adapters.redis.sharded.placement import Placed, Placement
from fastapi_rooms.adapters.redis.slots import Node, Range, Topology, slot_of
from tests.stateful.settings import UNHURRIED

NODES = [Node("a", 1), Node("b", 2), Node("c", 3)]
CHANNELS = sorted([b"one", b"two", b"three", b"four"], key=slot_of)
BOUNDS = [0, *(slot_of(channel) for channel in CHANNELS[1:]), 16_384]
nodes = st.sampled_from(NODES)
channels = st.sampled_from(CHANNELS)


def topology_of(owners: dict[bytes, Node]) -> Topology:
    """One in which each channel lives where it should."""
    return Topology(
        Range(BOUNDS[at], BOUNDS[at + 1] - 1, owners[channel])
        for at, channel in enumerate(CHANNELS)
    )


class HomesMachine(RuleBasedStateMachine):
    """Drives the machine as the fleet does, with nodes of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.homes = Placement()
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
        self.place(self.homes.want([channel]))

    @rule(channel=channels)
    def unwant(self, channel: bytes) -> None:
        self.wanted.discard(channel)
        for node, some in self.homes.unwant([channel]).items():
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
                self.place(self.homes.taken(node, [channel]))

    @precondition(lambda self: self.asked)
    @rule()
    def answer(self) -> None:
        verb, node, channel = self.asked.pop(0)
        if verb == "unsubscribe":
            self.subscribed.discard((node, channel))
            self.place(self.homes.let_go(node, [channel]))
        elif self.owners[channel] == node:
            self.subscribed.add((node, channel))
        else:
            self.place(self.homes.taken(node, [channel]))

    @rule(node=nodes)
    def lose(self, node: Node) -> None:
        """The connection is made anew, and asks for all that is at home there."""
        self.subscribed -= {(node, channel) for channel in CHANNELS}
        self.asked = [command for command in self.asked if command[1] != node]
        self.place(self.homes.lost(node))
        again = self.homes.at(node, lambda _: True)
        self.asked += [("subscribe", node, c) for c in again]

    # What is known of it.

    @rule()
    def learn(self) -> None:
        self.believed = dict(self.owners)
        self.place(self.homes.learn(topology_of(self.owners)))
        for node in NODES:
            if node not in self.owners.values():
                self.subscribed -= {(node, channel) for channel in CHANNELS}
                self.asked = [command for command in self.asked if command[1] != node]
                self.place(self.homes.gone(node))

    @rule()
    def leave(self) -> None:
        for node, some in self.homes.astray().items():
            self.homes.leave(some)
            self.asked += [("unsubscribe", node, channel) for channel in some]

    # What holds.

    @invariant()
    def what_is_wanted_is_known_and_nothing_else(self) -> None:
        assert {channel for channel in CHANNELS if channel in self.homes} == self.wanted

    @invariant()
    def a_channel_without_a_home_is_homeless(self) -> None:
        without = [c for c in self.wanted if self.homes.home(c) is None]
        assert len(without) == self.homes.homeless

    @invariant()
    def nothing_new_is_asked_of_a_second_node_before_the_first_has_let_go(self) -> None:
        for channel in self.wanted:
            home = self.homes.home(channel)
            held = {node for node, c in self.subscribed if c == channel}
            being_left = {n for verb, n, c in self.asked if (verb, c) == ("unsubscribe", channel)}
            assert held - being_left <= {home}

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


HomesMachine.TestCase.settings = UNHURRIED
TestHomes = HomesMachine.TestCase


def test_what_moved_stays_where_it_is_until_it_is_let_go() -> None:
    homes = Placement()
    one, two = NODES[:2]
    owners = dict.fromkeys(CHANNELS, one)
    homes.learn(topology_of(owners))
    assert homes.want(CHANNELS) == {one: CHANNELS}
    assert homes.learn(topology_of(dict.fromkeys(CHANNELS, two))) == {}
    assert homes.astray() == {one: CHANNELS}
    assert homes.taken(one, CHANNELS[:1]) == {two: CHANNELS[:1]}
    homes.leave(CHANNELS[1:])
    assert homes.astray() == {}
    assert homes.let_go(one, CHANNELS[1:2]) == {two: CHANNELS[1:2]}
    assert homes.lost(one) == {two: CHANNELS[2:]}


def test_what_a_node_gives_up_that_should_have_it_waits_for_the_next_look() -> None:
    homes = Placement()
    one, two = NODES[:2]
    homes.learn(topology_of(dict.fromkeys(CHANNELS, one)))
    homes.want([b"one"])
    assert homes.taken(one, [b"one"]) == {}
    assert homes.homeless == 1
    assert homes.learn(topology_of(dict.fromkeys(CHANNELS, two))) == {two: [b"one"]}


def test_a_node_cannot_take_what_is_at_another() -> None:
    homes = Placement()
    one, two = NODES[:2]
    homes.learn(topology_of(dict.fromkeys(CHANNELS, two)))
    homes.want([b"one"])
    assert homes.taken(one, [b"one"]) == {}
    assert homes.home(b"one") == two


def test_what_is_wanted_anew_while_it_is_left_stays() -> None:
    homes = Placement()
    one, two = NODES[:2]
    homes.learn(topology_of(dict.fromkeys(CHANNELS, one)))
    homes.want([b"one"])
    homes.learn(topology_of(dict.fromkeys(CHANNELS, two)))
    homes.leave([b"one"])
    assert homes.unwant([b"one"]) == {one: [b"one"]}
    homes.learn(topology_of(dict.fromkeys(CHANNELS, one)))
    assert homes.want([b"one"]) == {one: [b"one"]}
    assert homes.let_go(one, [b"one"]) == {}
    assert homes.home(b"one") == one
