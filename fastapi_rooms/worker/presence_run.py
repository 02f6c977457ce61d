"""Who is present, in one run of a manager: in all of its namespaces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from fastapi_rooms.adapters.presence import Entry, SupportsPresence, UserEvent
from fastapi_rooms.errors import ConfigurationError, NotStarted
from fastapi_rooms.presence.host import Name
from fastapi_rooms.presence.keeper import PresenceKeeper
from fastapi_rooms.types import Room, Sid

if TYPE_CHECKING:
    from fastapi_rooms.worker.runtime import Runtime
    from fastapi_rooms.worker.socket import Socket

GRACE = 10.0
"""Seconds that users are present after their last socket has left, where nothing else is said."""


class PresenceEdge(Protocol):
    """An edge, where the sockets of this worker have their endpoints, and its rules, elsewhere."""

    def holds(self, socket: Socket) -> bool:
        """Whether the endpoint of a socket is elsewhere."""

    def user_of(self, socket: Socket, room: Room) -> str | None:
        """Who a socket is that is about to join a room; `None` if its endpoint does not care.

        Raises `UsageError` if that is not known.
        """

    def made(self, name: Name, events: Sequence[UserEvent]) -> None:
        """Users came or went by what this worker has done: handlers elsewhere may want to know."""

    def entering(self, name: Name, entries: Sequence[Entry]) -> None:
        """Sockets are about to join a room."""

    def absent(self, name: Name, sids: Iterable[Sid]) -> None:
        """Sockets that were about to join a room have not come in."""

    async def close(self, timeout: float) -> None:
        """Tell what is still to be told."""


class PresenceRun:
    """The keeper of a run, if any rooms know who is present. It is the keeper's `PresenceHost`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.keeper: PresenceKeeper | None = None
        """That of the present run, if there is one."""
        self.edge: PresenceEdge | None = None
        """The edge that uses this run, if one does."""

    @property
    def running(self) -> PresenceKeeper:
        """The keeper. Raises `NotStarted` if there is none."""
        if self.keeper is None:
            raise NotStarted
        return self.keeper

    def check(self) -> bool:
        """Whether any rooms know who is present.

        Raises `ConfigurationError` if there are some, and the adapter cannot know it.
        """
        runtime = self._runtime
        patterns = [p for here in runtime.all_namespaces() for p in here.handlers.presence]
        if patterns and not isinstance(runtime.adapter, SupportsPresence):
            raise ConfigurationError(
                f"presence({patterns[0]!r}) needs an adapter that knows who is present, which "
                f"{type(runtime.adapter).__name__} does not. In memory and on Redis it can be had."
            )
        return bool(patterns)

    def start(self) -> None:
        """Begin, in a run that has begun, unless it has begun."""
        runtime = self._runtime
        heartbeat = runtime.settings.heartbeat
        assert isinstance(runtime.adapter, SupportsPresence)
        if self.keeper is None and not heartbeat.observer:  # which has no sockets
            self.keeper = PresenceKeeper(
                runtime.run.node,
                runtime.adapter,
                runtime.channels.of_room,
                self,
                heartbeat.interval,
                self._connection,
            )
            self.keeper.start()

    def _connection(self) -> object:
        adapter = self._runtime.adapter
        assert isinstance(adapter, SupportsPresence)
        return adapter.health.since, adapter.health.reconnects, adapter.relinks()

    async def stop(self, timeout: float) -> None:
        """The run is about to end; its sockets have left."""
        keeper = self.keeper
        if keeper is not None:
            try:
                await keeper.close(timeout)
                if self.edge is not None:  # the last leaves were only just made
                    await self.edge.close(timeout)
            finally:
                self.forget()

    def forget(self) -> None:
        """The run is over, or its event loop is gone."""
        self.keeper = None
        for here in self._runtime.all_namespaces():
            here.presences.forget()

    # What the keeper calls.

    def grace_of(self, name: Name) -> float:
        """The grace that was declared; of rooms that are another application's, the usual one."""
        here = self._runtime.living.get(name.namespace)
        rule = None if here is None else here.presences.rule_of(name.room)
        return GRACE if rule is None else rule.grace

    def made(self, name: Name, events: Sequence[UserEvent]) -> None:
        """Users came or went, by what this worker has done."""
        here = self._runtime.living.get(name.namespace)
        if here is not None:
            here.presences.made(name.room, events)
        if self.edge is not None:
            self.edge.made(name, events)

    def told(self) -> list[tuple[str, str]]:
        """The patterns of rooms for which there are handlers here, with their namespaces."""
        return [
            (here.name, pattern)
            for here in self._runtime.all_namespaces()
            for pattern, rule in here.handlers.presence.items()
            if rule.has_handlers
        ]

    def heard(self, name: Name) -> int:
        """The highest version of a room's events that handlers were told of."""
        here = self._runtime.living.get(name.namespace)
        return 0 if here is None else here.presences.heard(name.room)

    def compared(self, name: Name, version: int) -> None:
        """A room has this version."""
        here = self._runtime.living.get(name.namespace)
        if here is not None:
            here.presences.compared(name.room, version)
