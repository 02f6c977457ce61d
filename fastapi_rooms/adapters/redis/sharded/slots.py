"""Slots of a Redis Cluster, and the masters that serve them: `CLUSTER SLOTS` as a value.

A cluster spreads channels over 16,384 slots by a checksum of their name, or of the part of it in
the first `{…}`, and slots over its masters. Sharded pub/sub happens on the master of a channel's
slot.
"""

from __future__ import annotations

from binascii import crc_hqx
from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

from fastapi_rooms.errors import AdapterError
from fastapi_rooms.types import Channel

SLOTS = 16_384

MAX_NODES = 2048
"""More nodes are not believed; Redis recommends half of that as the maximum."""

MAX_TRIES = 1 << 16
"""How many names are tried to find one whose slot is at a given node."""


class Node(NamedTuple):
    """The address of a node."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def slot_of(channel: Channel) -> int:
    """The slot of a channel, as every node computes it."""
    start = channel.find(b"{")
    if start >= 0:
        end = channel.find(b"}", start + 1)
        if end > start + 1:
            channel = channel[start + 1 : end]
    return crc_hqx(channel, 0) % SLOTS


def group_by_slot(channels: Iterable[Channel]) -> dict[int, list[Channel]]:
    """The channels of each slot, in their order."""
    groups: dict[int, list[Channel]] = {}
    for channel in channels:
        groups.setdefault(slot_of(channel), []).append(channel)
    return groups


_REDIRECTIONS = ("MOVED ", "ASK ", "CLUSTERDOWN", "TRYAGAIN", "READONLY", "LOADING", "MASTERDOWN")


def is_redirection(error: str) -> bool:
    """Whether a node says that it does not serve a slot, or not now; it has done nothing."""
    return error.startswith(_REDIRECTIONS)


def slot_in(error: str) -> int | None:
    """The slot that a redirection is about, if it names one."""
    words = error.split(" ")
    if words[0] not in ("MOVED", "ASK") or len(words) < 2 or not words[1].isdecimal():
        return None
    return int(words[1][:6])


class Range(NamedTuple):
    """Slots from `first` to `last`, both included, and the master that serves them."""

    first: int
    last: int
    owner: Node


class Topology:
    """Which master serves which slot. Replicas do not count when topologies are compared."""

    def __init__(self, ranges: Iterable[Range] = (), replicas: Iterable[Node] = ()) -> None:
        merged: list[Range] = []
        for first, last, owner in sorted(ranges):
            if merged and merged[-1].owner == owner and merged[-1].last == first - 1:
                merged[-1] = Range(merged[-1].first, last, owner)
            else:
                merged.append(Range(first, last, owner))
        self.ranges = tuple(merged)
        self._firsts = [r.first for r in merged]
        self.masters = frozenset(r.owner for r in merged)
        self.replicas = frozenset(replicas)

    def owner(self, slot: int) -> Node | None:
        """The master that serves a slot, if one does."""
        at = bisect_right(self._firsts, slot) - 1
        if at >= 0 and slot <= self.ranges[at].last:
            return self.ranges[at].owner
        return None

    @property
    def uncovered(self) -> int:
        """How many slots no master serves."""
        return SLOTS - sum(last - first + 1 for first, last, _ in self.ranges)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Topology) and self.ranges == other.ranges

    def __hash__(self) -> int:
        return hash(self.ranges)

    def __repr__(self) -> str:
        parts = (f"{first}-{last} {owner}" for first, last, owner in self.ranges)
        return f"Topology({', '.join(parts)})"


def channel_at(topology: Topology, node: Node, stem: str) -> Channel | None:
    """A channel, named `stem` and a number, whose slot is at `node`; `None` if none is found.

    If the stem has a part in braces, all such channels are in one slot.
    """
    tries = 1 if slot_of(f"{stem}.0#".encode()) == slot_of(f"{stem}.1#".encode()) else MAX_TRIES
    for number in range(tries):
        channel = f"{stem}.{number}#".encode()
        if topology.owner(slot_of(channel)) == node:
            return channel
    return None


class MalformedTopology(AdapterError):
    """The reply to `CLUSTER SLOTS` is malformed."""


def parse_topology(reply: Any, asked: Node) -> Topology:
    """Parse the reply of `asked` to `CLUSTER SLOTS`. Raises `MalformedTopology`.

    A node that does not know its own address leaves it out: it is the one that was asked.
    """
    ranges: list[Range] = []
    replicas: list[Node] = []
    try:
        for first, last, master, *others in reply:
            if not (type(first) is type(last) is int and 0 <= first <= last < SLOTS):
                raise MalformedTopology(f"slots from {first!r} to {last!r}")
            ranges.append(Range(first, last, _node(master, asked)))
            replicas += [_node(other, asked) for other in others]
    except (TypeError, ValueError, IndexError) as error:
        raise MalformedTopology(str(error)) from error
    ranges.sort()
    topology = Topology(ranges, replicas)
    if len(topology.masters) + len(topology.replicas) > MAX_NODES:
        raise MalformedTopology(f"more than {MAX_NODES} nodes")
    for one, next_ in pairwise(ranges):
        if next_.first <= one.last:
            raise MalformedTopology(f"slot {next_.first} is served twice")
    return topology


def _node(entry: Any, asked: Node) -> Node:
    host, port = entry[0], entry[1]
    if isinstance(host, bytes):
        host = host.decode("ascii")
    if host is None or host in ("", "?"):
        host = asked.host
    if not isinstance(host, str) or type(port) is not int or not 0 <= port < 65_536:
        raise MalformedTopology(f"a node at {entry!r}")
    return Node(host, port or asked.port)
