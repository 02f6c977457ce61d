"""Learns from the carrier what rooms have, for a manager whose application is elsewhere: an edge's.

Its own declarations are fixed when it starts, and stay. What others have declared is beside them,
and may change: it is read again and again. This worker does not tell it on, or it would never end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi_rooms.adapters.declarations import (
    STALE,
    Declaration,
    Declared,
    HistoryDeclaration,
    SupportsDeclarations,
)
from fastapi_rooms.adapters.history import SupportsHistory
from fastapi_rooms.adapters.presence import SupportsPresence
from fastapi_rooms.core.patterns import Patterns
from fastapi_rooms.worker.presence_rules import PresenceRule
from fastapi_rooms.worker.runtime import Runtime

if TYPE_CHECKING:
    from fastapi_rooms.worker.local_namespace import LocalNamespace


class Learner:
    """Has a manager go by what other workers have declared.

    Args:
        runtime: the manager's.
        find: finds its namespaces, and makes those that are not there.
    """

    def __init__(self, runtime: Runtime, find: Callable[[str], LocalNamespace]) -> None:
        self._runtime = runtime
        self._find = find
        self._known: frozenset[Declaration] = frozenset()
        self._known_at = 0.0
        self._names: set[str] = set()  # of namespaces that have anything of it
        self._lock = asyncio.Lock()

    async def learn(self) -> None:
        """Go by what is declared now, in all namespaces. Raises `AdapterUnavailable`."""
        adapter = self._runtime.adapter
        if not isinstance(adapter, SupportsDeclarations):
            return  # its rooms have neither
        async with self._lock:
            found = frozenset(filter(self._can_be, await adapter.declared()))
            now = asyncio.get_running_loop().time()
            # Nothing is there where the carrier was emptied, too: the workers tell it again.
            if found or now - self._known_at > STALE:
                self._known_at = now
                self._adopt(found)

    def forget(self) -> None:
        """Go by nothing but the manager's own declarations again."""
        self._adopt(frozenset())

    def _can_be(self, declaration: Declaration) -> bool:
        kind = SupportsHistory if isinstance(declaration, HistoryDeclaration) else SupportsPresence
        return isinstance(self._runtime.adapter, kind)

    def _adopt(self, found: frozenset[Declaration]) -> None:
        if found == self._known:
            return
        self._known = found
        self._names |= {each.namespace for each in found}
        declared = Declared(sorted(found, key=repr))
        for name in list(self._names):
            here = self._find(name)
            history = declared.history.get(name, Patterns())
            here.recovery.adopt(here.handlers.history.over(history))
            rules = _rules(declared.presence.get(name, Patterns()))
            here.presences.adopt(here.handlers.presence.over(rules), here.rooms)
            here.settle()
            if not (here.recovery or here.presences):
                self._names.discard(name)
            if here.presences and self._runtime.is_running:
                self._runtime.presence.start()


def _rules(graces: Patterns[float]) -> Patterns[PresenceRule]:
    rules: Patterns[PresenceRule] = Patterns()
    for pattern, grace in graces.items():
        rules.declare(pattern, PresenceRule(pattern, None, grace, is_adopted=True))
    return rules
