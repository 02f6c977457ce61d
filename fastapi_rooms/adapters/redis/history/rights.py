"""What a user of Redis has to be allowed for history: tried on every link before its use. Pure.

A script that is refused half way rolls nothing back. So each command is tried before, on keys and a
channel that are for nothing else. All of them travel together, and the last deletes the keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import hiredis

from fastapi_rooms.adapters.redis.declared.form import key_of
from fastapi_rooms.adapters.redis.history.keys import keys_of
from fastapi_rooms.adapters.redis.history.script import FIELD, PLAIN, SHARDED, Calls, encode
from fastapi_rooms.adapters.redis.links.link import FORBIDDEN, pack

TRIAL = b"trial"
"""Stands where a room's name does, whose own begins with that of a namespace: with a slash."""


class Needs(NamedTuple):
    """What something that is done over a lane needs to be allowed."""

    what: str
    """What that is, in errors."""
    rooms: str
    """What rooms with it have, in the log."""
    trial: Callable[[bytes, Calls], tuple[bytes, Sequence[str]]]
    """The commands that try it, and their names; by the prefix, and how scripts are called."""


def trial(prefix: bytes, calls: Calls = PLAIN) -> tuple[bytes, Sequence[str]]:
    """Every command that is used, from the script or without, and their names.

    A node of a cluster looks at the rights first, and then whether it serves the slot.
    """
    meta, stream = keys_of(prefix, TRIAL)
    channel = b"%b#{%b}#" if calls is SHARDED else b"%b#%b#"
    commands = [
        encode(calls.eval, prefix, (), "", again=False),
        encode(calls.evalsha, prefix, (), "", again=False),
        pack(b"HMGET", meta, b"epoch"),
        pack(b"HSET", meta, b"epoch", b""),
        pack(b"HSETNX", meta, b"epoch", b""),
        pack(b"PEXPIRE", meta, b"1000"),
        pack(b"XADD", stream, b"MAXLEN", b"=", b"1", b"1-1", FIELD, b""),
        pack(b"PEXPIRE", stream, b"1000"),
        pack(b"XRANGE", stream, b"1", b"+"),
        pack(b"XREVRANGE", stream, b"+", b"-", b"COUNT", b"1"),
        pack(calls.publish, channel % (prefix, TRIAL), b""),
        pack(b"HGETALL", meta),  # and the next, to declare which rooms have a history
        pack(b"HDEL", meta, b"none"),
        pack(b"DEL", meta, stream),
    ]
    names = [command.split(b"\r\n", 3)[2].decode() for command in commands]
    return b"".join(commands), names


HISTORY = Needs("history", "a history", trial)


def reading_trial(prefix: bytes, calls: Calls) -> tuple[bytes, Sequence[str]]:  # noqa: ARG001 -- as every trial
    """The command by which is read what rooms have, and its name."""
    return pack(b"HGETALL", key_of(prefix)), ["HGETALL"]


DECLARED = Needs("knowing what rooms have", "a history or presence", reading_trial)


def missing(
    prefix: str, names: Sequence[str], replies: Sequence[Any], what: str = HISTORY.what
) -> str:
    """What the user may not do, and the cure; empty if nothing is missing."""
    return cure(
        prefix,
        {
            name: str(reply)
            for name, reply in zip(names, replies, strict=True)
            if isinstance(reply, hiredis.ReplyError) and str(reply).startswith(FORBIDDEN)
        },
        what,
    )


def cure(prefix: str, refusals: Mapping[str, str], what: str = HISTORY.what) -> str:
    """What the user may not do, by the refusals of commands, and the cure; empty if all is well."""
    if not refusals:
        return ""
    rules: dict[str, None] = {}
    for name, refusal in refusals.items():
        if "keys" in refusal or "a key" in refusal:
            rules[f"~{prefix}:*"] = None
        elif "channel" in refusal:
            rules[f"&{prefix}#*"] = None
        else:
            rules[f"+{name.lower()}"] = None
    return (
        f"the user of Redis may not do what {what} needs: {', '.join(refusals)} "
        f"({next(iter(refusals.values()))}). Allow it: ACL SETUSER <user> {' '.join(rules)}"
    )
