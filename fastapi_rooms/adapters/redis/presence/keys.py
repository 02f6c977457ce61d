"""The names of what Redis keeps of who is present: pure.

    {prefix}:presence:{room}     a hash, the truth about a room:
        s node sid   the user of a worker's socket
        u user       how many sockets a user has here; 0 in their grace
        = sid        how many workers hold a sid that an application has chosen
        w node       of a worker: the number of its lease, how many sockets, their checksum
        v n m g      the room's version; how many users, sids, and users in their grace
        f            the fences: for each a node, the number of a lease, and since when
        r            when the version was last found to have fallen
    {prefix}:room:{room}         a set: the sids, to be read by people
    {prefix}:gone:{room}         a sorted set: the users in their grace, by its end

    {prefix}:socket:namespace#sid   a set: the rooms of a socket, to be read by people
    {prefix}:user:namespace#user    a set: the rooms in which a user may be present
    {prefix}:worker:node:number     a set: the rooms where a worker may have sockets under a lease
    {prefix}:worker:{slot}:node:number   in a cluster, the same of the rooms of one slot
    {prefix}:{workers}              a sorted set: `node:number` of each lease, by its end, 0 if
                                    it was given back; with `:dead` behind it, it is to be
                                    reaped

The braces are literal. In a cluster the three keys of a room are of one slot, which is that of its
channel; so is the set of a worker that it is in. The others are anywhere.
"""

from __future__ import annotations

from typing import NamedTuple

from fastapi_rooms.core.presence import Lease

TTL = 24 * 3600 * 1000
"""Milliseconds that anything is kept which nobody touches: for when every worker has died."""


class Keys(NamedTuple):
    """The keys of one room."""

    truth: bytes
    sids: bytes
    gone: bytes


def keys_of(prefix: bytes, name: bytes) -> Keys:
    """The keys of the room with this name, which includes that of its namespace."""
    return Keys(
        b"%b:presence:{%b}" % (prefix, name),
        b"%b:room:{%b}" % (prefix, name),
        b"%b:gone:{%b}" % (prefix, name),
    )


def namespace_of(name: bytes) -> bytes:
    """The namespace of a room, by its name."""
    return name.partition(b"#")[0]


def socket_key(prefix: bytes, namespace: bytes, sid: bytes) -> bytes:
    """The key of a socket's rooms."""
    return b"%b:socket:%b#%b" % (prefix, namespace, sid)


def user_key(prefix: bytes, namespace: bytes, user: bytes) -> bytes:
    """The key of a user's rooms."""
    return b"%b:user:%b#%b" % (prefix, namespace, user)


def worker_key(prefix: bytes, lease: Lease, tag: bytes = b"") -> bytes:
    """The key of a worker's rooms; in a cluster, of those whose slot is that of the tag."""
    at = b"{%b}:" % tag if tag else b""
    return b"%b:worker:%b%b:%d" % (prefix, at, lease.node.encode(), lease.number)


def workers_key(prefix: bytes) -> bytes:
    """The key of the leases."""
    return b"%b:{workers}" % prefix
