"""What a user of Redis has to be allowed to emit to rooms that remember: pure."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi_rooms.adapters.redis.history.keys import keys_of, sent_key
from fastapi_rooms.adapters.redis.history.rights import TRIAL
from fastapi_rooms.adapters.redis.history.script import FIELD


def trial(prefix: bytes, *, sharded: bool) -> Sequence[tuple[str | bytes, ...]]:
    """Every command that an emitter uses from the script."""
    meta, stream = keys_of(prefix, TRIAL)
    sent = sent_key(prefix, TRIAL, 0)
    channel = b"%b#{%b}#" if sharded else b"%b#%b#"
    return (
        ("SET", sent, b"", b"PX", b"1000"),
        ("GET", sent),
        ("HMGET", meta, b"epoch"),
        ("HSET", meta, b"epoch", b""),
        ("PEXPIRE", meta, b"1000"),
        ("XADD", stream, b"MAXLEN", b"=", b"1", b"1-1", FIELD, b""),
        ("PEXPIRE", stream, b"1000"),
        ("SPUBLISH" if sharded else "PUBLISH", channel % (prefix, TRIAL), b""),
        ("DEL", meta),
        ("DEL", stream),
    )


def rules(prefix: str) -> Sequence[str]:
    """What an emitter has to be allowed beside publishing, as ACL rules."""
    commands = [
        "HGETALL",
        "EVAL",
        "EVALSHA",
        *(str(c[0]) for c in trial(b"", sharded=False)),
    ]
    names = dict.fromkeys(name.lower() for name in commands if name != "PUBLISH")
    return (f"~{prefix}:*", *(f"+{name}" for name in names))
