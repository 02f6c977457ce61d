"""Slots, who serves them, and what nodes say of both."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from fastapi_rooms.adapters.redis.history.keys import keys_of
from fastapi_rooms.adapters.redis.sharded.slots import (
    MAX_NODES,
    SLOTS,
    MalformedTopology,
    Node,
    Range,
    Topology,
    channel_at,
    group_by_slot,
    is_redirection,
    parse_topology,
    slot_in,
    slot_of,
)
from fastapi_rooms.core.names import Channels, check_sharded_prefix
from fastapi_rooms.errors import ConfigurationError

A, B, C = Node("10.0.0.1", 7000), Node("10.0.0.2", 7000), Node("10.0.0.3", 7000)
HALVES = Topology([Range(0, 8191, A), Range(8192, SLOTS - 1, B)])


@given(st.binary(max_size=40) | st.text("{}ab", max_size=12).map(str.encode))
def test_the_slot_is_the_one_that_redis_py_reckons(channel: bytes) -> None:
    assert slot_of(channel) == key_slot(channel)


hostile = st.text("{}#/aé🎉\0 ", min_size=1, max_size=12) | st.text(min_size=1, max_size=12)


@given(hostile.filter(lambda text: "#" not in text), hostile, hostile)
@example("{shop}", "/", "tea")
@example("rooms", "/", "}")
@example("rooms", "/{", "}{")
@example("}", "/}", "{a}{b}")
@example("rooms", "/", "#")
def test_a_rooms_channel_and_what_is_kept_of_it_are_in_one_slot(
    prefix: str, namespace: str, room: str
) -> None:
    try:
        check_sharded_prefix(prefix)
    except ConfigurationError:
        assume(False)
    namespace = "/" + namespace.replace("#", "").removeprefix("/")
    channel = Channels(prefix, sharded=True).of_room(namespace, room)
    keys = keys_of(prefix.encode(), f"{namespace}#{room}".encode())
    assert {slot_of(name) for name in keys} == {slot_of(channel)}


@given(st.lists(st.binary(max_size=4)))
def test_groups_have_one_slot_each_and_keep_their_order(channels: list[bytes]) -> None:
    groups = group_by_slot(channels)
    assert {slot: [c for c in channels if slot_of(c) == slot] for slot in groups} == groups
    assert sum(map(len, groups.values())) == len(channels)


@pytest.mark.parametrize(
    ("error", "redirection", "slot"),
    [
        ("MOVED 3999 127.0.0.1:6381", True, 3999),
        ("ASK 12 127.0.0.1:6381", True, 12),
        ("MOVED", False, None),
        ("MOVED x y", True, None),
        ("CLUSTERDOWN Hash slot not served", True, None),
        ("TRYAGAIN Multiple keys request", True, None),
        ("READONLY You can't write", True, None),
        ("NOPERM no", False, None),
        ("ERR unknown command", False, None),
        ("", False, None),
    ],
)
def test_errors_that_send_us_elsewhere_are_told_from_others(
    error: str, redirection: bool, slot: int | None
) -> None:
    assert is_redirection(error) is redirection
    assert slot_in(error) == slot


def test_every_slot_has_the_owner_of_its_range() -> None:
    topology = Topology([Range(5, 7, B), Range(0, 3, A)])
    assert [topology.owner(slot) for slot in (0, 3, 4, 5, 7, 8)] == [A, A, None, B, B, None]
    assert topology.masters == {A, B}
    assert topology.uncovered == SLOTS - 7
    assert HALVES.uncovered == 0
    assert Topology().owner(0) is None


def test_topologies_are_equal_that_serve_the_same_however_they_are_cut() -> None:
    cut = [Range(4, 9, A), Range(0, 3, A), Range(10, 12, B)]
    one, two = Topology(cut, [C]), Topology([Range(0, 9, A), Range(10, 12, B)])
    assert one == two
    assert hash(one) == hash(two)
    assert one != Topology([Range(0, 9, A), Range(10, 12, C)])
    assert one != "something else"
    assert repr(two) == "Topology(0-9 10.0.0.1:7000, 10-12 10.0.0.2:7000)"


def test_a_node_is_shown_as_an_address() -> None:
    assert str(Node("::1", 7000)) == "[::1]:7000"


def test_a_channel_is_found_for_every_node_that_serves_something() -> None:
    thirds = Topology([Range(0, 5460, A), Range(5461, 16382, B), Range(16383, 16383, C)])
    for node in (A, B):
        channel = channel_at(thirds, node, "rooms#probe.x")
        assert channel is not None
        assert thirds.owner(slot_of(channel)) == node
    assert channel_at(HALVES, C, "rooms#probe.x") is None


def test_a_stem_in_braces_has_a_channel_at_one_node_only() -> None:
    found = [channel_at(HALVES, node, "{shop}#probe.x") for node in (A, B)]
    assert sum(channel is not None for channel in found) == 1


def entry(node: Node) -> list[Any]:
    return [node.host.encode(), node.port, b"id"]


def test_a_reply_is_read_with_its_replicas() -> None:
    reply = [[0, 8191, entry(A), entry(C)], [8192, SLOTS - 1, [b"10.0.0.2", 7000, b"id", []]]]
    topology = parse_topology(reply, A)
    assert topology == HALVES
    assert topology.replicas == {C}


@pytest.mark.parametrize("host", [None, b"", b"?"])
def test_a_node_that_does_not_know_its_name_is_where_it_was_asked(host: bytes | None) -> None:
    assert parse_topology([[0, 1, [host, 7001, b"id"]]], A).owner(0) == Node(A.host, 7001)
    assert parse_topology([[0, 1, [host, 0, b"id"]]], A).owner(0) == A


@pytest.mark.parametrize(
    "reply",
    [
        None,
        b"OK",
        7,
        [7],
        [[0, 1]],
        [[0, 1, []]],
        [[0, 1, 7]],
        [[b"0", 1, entry(A)]],
        [[True, 1, entry(A)]],
        [[-1, 1, entry(A)]],
        [[2, 1, entry(A)]],
        [[0, SLOTS, entry(A)]],
        [[0, 5, entry(A)], [5, 9, entry(B)]],
        [[0, 1, [b"\xff", 7000]]],
        [[0, 1, [7, 7000]]],
        [[0, 1, [b"host", b"7000"]]],
        [[0, 1, [b"host", 65_536]]],
        [[0, 1, [b"host", -1]]],
        [[0, 1, entry(A), 7]],
        [[0, 1, entry(A), *(entry(Node("r", port)) for port in range(1, MAX_NODES + 2))]],
    ],
)
def test_a_reply_that_cannot_be_is_refused(reply: Any) -> None:
    with pytest.raises(MalformedTopology):
        parse_topology(reply, A)


json_like = st.recursive(
    st.none() | st.integers() | st.binary(max_size=5), lambda inner: st.lists(inner, max_size=4)
)


@given(json_like)
def test_whatever_a_node_says_it_is_read_or_refused(reply: Any) -> None:
    try:
        topology = parse_topology(reply, A)
    except MalformedTopology:
        return
    assert 0 <= topology.uncovered <= SLOTS
