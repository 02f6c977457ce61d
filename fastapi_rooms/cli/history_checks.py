"""The checks of `fastapi-rooms doctor` for rooms with a history, where there are any."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.adapters import HistoryDeclaration
from fastapi_rooms.cli.advice import settings_of
from fastapi_rooms.cli.findings import Finding, Grade
from fastapi_rooms.cli.output import duration, plural
from fastapi_rooms.cli.session import Session

_SHOWN = 5
"""Patterns that are named; of more, how many there are."""

TRIED = 64
"""Rooms that are tried in a cluster, so that hardly any node has none: each has its own users."""


async def history_findings(session: Session) -> list[Finding]:
    """What there is to say; nothing where no room has a history."""
    try:
        declarations = await session.declarations()
    except AdapterUnavailable as error:
        return [Finding("history", Grade.UNKNOWN, str(error))]
    declared = [each for each in declarations if isinstance(each, HistoryDeclaration)]
    if not declared:
        return []
    found = [_patterns(declared), await _rights(session)]
    if session.is_one_server:
        return [*found, *await _settings(session)]
    text = "several servers: what becomes of histories there is not checked"
    advice = "Check each: redis-cli -h <host> CONFIG GET maxmemory*, save, appendonly"
    return [*found, Finding("eviction", Grade.UNKNOWN, text, advice)]


def _patterns(declared: Iterable[HistoryDeclaration]) -> Finding:
    texts = [
        f"{pattern} in {namespace} (the last {plural(size, 'message')}, {span(ttl)})"
        for namespace, pattern, (size, ttl) in sorted(declared)
    ]
    return Finding("history", Grade.OK, some_of(texts))


def some_of(texts: Sequence[str]) -> str:
    """The first few in a row, and how many more there are."""
    more = [f"{len(texts) - _SHOWN} more"] if len(texts) > _SHOWN else []
    return "; ".join([*texts[:_SHOWN], *more])


def span(seconds: float) -> str:
    """Seconds, also short ones, for people."""
    return duration(seconds) if seconds >= 1 else f"{seconds:g}s"


async def _rights(session: Session) -> Finding:
    """Whether this user may do what history needs: a manager tries all of it before anything."""
    manager = session.manager()
    name = f"doctor {secrets.token_hex(8)}"
    manager.history(f"{name}*")
    rooms = [f"{name} {number}" for number in range(1 if session.is_one_server else TRIED)]
    try:
        async with manager:
            for room in rooms:
                await manager.clear_history(room)  # tries the rights, and changes nothing
    except AdapterUnavailable as error:
        return Finding("history rights", Grade.WRONG, str(error))
    return Finding("history rights", Grade.OK, "this user may number, keep and read messages")


async def _settings(session: Session) -> list[Finding]:
    settings = await read_settings(session, "maxmemory*", "save", "append*")
    try:
        return [
            eviction(settings["maxmemory"], settings["maxmemory-policy"]),
            persistence(settings["save"], settings["appendonly"], settings["appendfsync"]),
        ]
    except LookupError:
        text = "this user may not read the settings that histories depend on"
        advice = "Ask the administrator of Redis for maxmemory, maxmemory-policy, save, appendonly."
        return [Finding("eviction", Grade.UNKNOWN, text, advice)]


async def read_settings(session: Session, *patterns: str) -> dict[str, str]:
    """The settings of the one server whose names match; none if this user may not read them."""
    client: Any = Redis.from_url(
        session.redis_url, socket_timeout=session.timeout, socket_connect_timeout=session.timeout
    )
    found: dict[str, str] = {}
    try:
        async with client:
            for pattern in patterns:
                found.update(await settings_of(client, pattern))
    except (RedisError, ValueError):
        return {}
    return found


def eviction(maxmemory: str, policy: str) -> Finding:
    """Whether histories can be driven out when the memory is full.

    They expire, so that `volatile-*` takes them as `allkeys-*` does.
    """
    if maxmemory == "0":
        return Finding("eviction", Grade.OK, "no maxmemory: no history is driven out")
    if policy == "noeviction":
        text = "noeviction: when the memory is full, sending raises AdapterUnavailable"
        return Finding("eviction", Grade.OK, text)
    text = f"{policy}: when the memory is full, histories are driven out"
    advice = (
        "Clients are told that they missed messages, and get nothing wrong. So that they are "
        "recovered: CONFIG SET maxmemory-policy noeviction"
    )
    return Finding("eviction", Grade.NOTE, text, advice)


def persistence(save: str, appendonly: str, appendfsync: str) -> Finding:
    """How much of a history is there again after Redis was restarted."""
    if appendonly == "yes":
        lost = {"always": "nothing", "everysec": "about the last second"}.get(
            appendfsync, "what the system had not written"
        )
        return Finding("persistence", Grade.OK, f"append-only file: a crash loses {lost}")
    if save:
        text = f"snapshots (save {save}): a crash loses what came after the last"
        return Finding("persistence", Grade.OK, text)
    return Finding(
        "persistence",
        Grade.NOTE,
        "none: a restart of Redis loses all histories",
        "Clients are told that they missed messages. To recover them: CONFIG SET appendonly yes",
    )
