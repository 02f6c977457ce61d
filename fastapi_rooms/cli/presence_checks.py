"""The checks of `fastapi-rooms doctor` for rooms that know who is present, where there are any."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.adapters import PresenceDeclaration
from fastapi_rooms.cli.findings import Finding, Grade
from fastapi_rooms.cli.history_checks import TRIED, read_settings, some_of, span
from fastapi_rooms.cli.session import Session


async def presence_findings(session: Session) -> list[Finding]:
    """What there is to say; nothing where no room knows who is present."""
    try:
        declarations = await session.declarations()
    except AdapterUnavailable as error:
        return [Finding("presence", Grade.UNKNOWN, str(error))]
    declared = [each for each in declarations if isinstance(each, PresenceDeclaration)]
    if not declared:
        return []
    return [_patterns(declared), await _rights(session), await _eviction(session)]


def _patterns(declared: Iterable[PresenceDeclaration]) -> Finding:
    texts = [
        f"{pattern} in {namespace} ({f'{span(grace)} of grace' if grace else 'no grace'})"
        for namespace, pattern, grace in sorted(declared)
    ]
    return Finding("presence", Grade.OK, some_of(texts))


async def _rights(session: Session) -> Finding:
    """Whether this user may do what presence needs: a manager tries all of it before it asks."""
    manager = session.manager()
    name = f"doctor {secrets.token_hex(8)}"
    presence = manager.presence(f"{name}*")
    try:
        async with manager:
            for number in range(1 if session.is_one_server else TRIED):
                await presence.count(f"{name} {number}")
    except AdapterUnavailable as error:
        return Finding("presence rights", Grade.WRONG, str(error))
    return Finding("presence rights", Grade.OK, "this user may keep and tell who is present")


async def _eviction(session: Session) -> Finding:
    if not session.is_one_server:
        text = "several servers: what becomes there of who is present is not checked"
        advice = "Check each: redis-cli -h <host> CONFIG GET maxmemory*"
        return Finding("presence eviction", Grade.UNKNOWN, text, advice)
    settings = await read_settings(session, "maxmemory*")
    try:
        return eviction(settings["maxmemory"], settings["maxmemory-policy"])
    except LookupError:
        text = "this user may not read the settings that presence depends on"
        advice = "Ask the administrator of Redis for maxmemory and maxmemory-policy."
        return Finding("presence eviction", Grade.UNKNOWN, text, advice)


def eviction(maxmemory: str, policy: str) -> Finding:
    """Whether who is present can be driven out when the memory is full.

    All of it expires, so that `volatile-*` takes it as `allkeys-*` does.
    """
    if maxmemory == "0":
        return Finding("presence eviction", Grade.OK, "no maxmemory: nobody is driven out")
    if policy == "noeviction":
        text = "noeviction: when the memory is full, joining such a room raises AdapterUnavailable"
        return Finding("presence eviction", Grade.OK, text)
    text = f"{policy}: when the memory is full, it is forgotten for a while who is present"
    advice = (
        "Workers notice within a minute or so, and put it in again. So that it is not lost: "
        "CONFIG SET maxmemory-policy noeviction"
    )
    return Finding("presence eviction", Grade.NOTE, text, advice)
