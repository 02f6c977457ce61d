"""What the script that changes a room answers: pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import hiredis

from fastapi_rooms.adapters.redis.history.refusals import explain
from fastapi_rooms.core.presence import MAX_VERSION, Changed, UserEvent
from fastapi_rooms.errors import AdapterUnavailable


class Done(NamedTuple):
    """What a step has done."""

    changed: Changed
    sockets: int
    """How many of the worker there are now."""


def decode(reply: Any) -> Done:
    """What has become of a room. Raises `AdapterUnavailable` if Redis refused."""
    if isinstance(reply, hiredis.ReplyError):
        raise AdapterUnavailable(f"Redis refused to say who is present: {explain(str(reply))}")
    try:
        return _done(*reply)
    except (TypeError, ValueError, AttributeError):
        raise AdapterUnavailable("Redis' answer to who is present makes no sense") from None


def _done(
    fenced: int, version: int, wait: int, sockets: int, refusal: bytes, unkept: bytes, *told: Any
) -> Done:
    if (
        fenced not in (0, 1)
        or not 0 <= version <= MAX_VERSION
        or not type(wait) is type(sockets) is int
    ):
        raise ValueError(fenced)
    events: tuple[UserEvent, ...] = ()
    if told:
        parts = zip(told[::3], told[1::3], told[2::3], strict=True)
        events = tuple([_event(*each) for each in parts])
    failure = None
    if refusal or unkept:
        what = "tell who is present" if refusal else "keep who is where"
        why = explain((refusal or unkept).decode(errors="replace"))
        failure = AdapterUnavailable(f"Redis refused to {what}: {why}", uncertain=True)
    next_leave = None if wait < 0 else wait / 1000
    changed = Changed(fenced == 1, events, version, next_leave, failure, is_whole=wait != -2)
    return Done(changed, sockets)


def _event(kind: bytes, user: bytes, version: int) -> UserEvent:
    if kind not in (b"join", b"leave") or type(version) is not int:
        raise ValueError(kind)
    return UserEvent("join" if kind == b"join" else "leave", user.decode(), version)
