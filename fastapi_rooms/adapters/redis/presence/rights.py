"""What a user of Redis has to be allowed for presence: tried on every link before its use. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi_rooms.adapters.declarations import Declaration, HistoryDeclaration
from fastapi_rooms.adapters.redis.history.rights import HISTORY, TRIAL, Needs
from fastapi_rooms.adapters.redis.history.script import SHARDED, Calls
from fastapi_rooms.adapters.redis.links.link import pack
from fastapi_rooms.adapters.redis.presence.keys import keys_of


def trial(prefix: bytes, calls: Calls) -> tuple[bytes, Sequence[str]]:
    """Every command that is used, from the scripts or without, and their names."""
    truth, sids, gone = keys_of(prefix, TRIAL)
    channel = b"%b#{%b}#" if calls is SHARDED else b"%b#%b#"
    commands = [
        pack(b"EVAL", b"return redis.call('TIME')", b"0"),
        pack(b"EVALSHA", b"0" * 40, b"0"),
        pack(b"TIME"),
        pack(b"HSET", truth, b"v", b"1"),
        pack(b"HGET", truth, b"v"),
        pack(b"HMGET", truth, b"v"),
        pack(b"HEXISTS", truth, b"v"),
        pack(b"HSCAN", truth, b"0"),
        pack(b"HGETALL", truth),  # to declare which rooms know it
        pack(b"HDEL", truth, b"none"),
        pack(b"PEXPIRE", truth, b"1000"),
        pack(b"SADD", sids, b"1"),
        pack(b"SCARD", sids),
        pack(b"SSCAN", sids, b"0"),
        pack(b"SREM", sids, b"1"),
        pack(b"ZADD", gone, b"1", b"1"),
        pack(b"ZCARD", gone),
        pack(b"ZSCORE", gone, b"1"),
        pack(b"ZRANGE", gone, b"0", b"0"),
        pack(b"ZRANGEBYSCORE", gone, b"0", b"0"),
        pack(b"ZREM", gone, b"1"),
        pack(calls.publish, channel % (prefix, TRIAL), b""),
        pack(b"DEL", truth, sids, gone),
    ]
    names = [command.split(b"\r\n", 3)[2].decode() for command in commands]
    return b"".join(commands), names


PRESENCE = Needs("presence", "presence", trial)


def needs_to_declare(declarations: Sequence[Declaration]) -> Needs:
    """What whoever declares this needs for it anyway: each includes what it takes to declare."""
    has_history = any(isinstance(each, HistoryDeclaration) for each in declarations)
    return HISTORY if has_history else PRESENCE
