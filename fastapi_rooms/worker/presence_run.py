"""Who is present, in one run of a manager: in all of its namespaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastapi_rooms.adapters.presence import SupportsPresence, UserEvent
from fastapi_rooms.errors import ConfigurationError, NotStarted
from fastapi_rooms.presence.host import Name
from fastapi_rooms.presence.keeper import PresenceKeeper

if TYPE_CHECKING:
    from fastapi_rooms.worker.runtime import Runtime

GRACE = 10.0
"""Seconds that users are present after their last socket has left, where nothing else is said."""


class PresenceRun:
    """The keeper of a run, if any rooms know who is present. It is the keeper's `PresenceHost`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.keeper: PresenceKeeper | None = None
        """That of the present run, if there is one."""

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
        """Begin, in a run that has begun."""
        runtime = self._runtime
        heartbeat = runtime.settings.heartbeat
        assert isinstance(runtime.adapter, SupportsPresence)
        if not heartbeat.observer:  # which has no sockets
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
        health = self._runtime.adapter.health
        return health.since, health.reconnects

    async def stop(self, timeout: float) -> None:
        """The run is about to end; its sockets have left."""
        keeper = self.keeper
        if keeper is not None:
            try:
                await keeper.close(timeout)
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
        rule = None if here is None else here.handlers.presence.find(name.room)
        return GRACE if rule is None else rule.grace

    def made(self, name: Name, events: Sequence[UserEvent]) -> None:
        """Users came or went, by what this worker has done."""
        here = self._runtime.living.get(name.namespace)
        if here is not None:
            here.presences.made(name.room, events)

    def heard(self, name: Name) -> int:
        """The highest version of a room's events that handlers were told of."""
        here = self._runtime.living.get(name.namespace)
        return 0 if here is None else here.presences.heard(name.room)

    def compared(self, name: Name, version: int) -> None:
        """A room has this version."""
        here = self._runtime.living.get(name.namespace)
        if here is not None:
            here.presences.compared(name.room, version)
