"""Who is present in the rooms of a namespace: what an application asks, and is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi_rooms.core.names import check_room, check_user
from fastapi_rooms.operators.present import Present
from fastapi_rooms.types import Room
from fastapi_rooms.worker.events import InNamespace
from fastapi_rooms.worker.presence_rules import PresenceEventName, PresenceRule, check_event

if TYPE_CHECKING:
    from fastapi_rooms.namespace import Namespace
    from fastapi_rooms.worker.local_namespace import LocalNamespace

Handler = TypeVar("Handler", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class PresenceEvent(InNamespace):
    """A user has come into a room, or gone from it."""

    kind: PresenceEventName
    room: Room
    user: str
    version: int
    """Its number among the events of the room: each has the next one, on every worker the same."""

    @property
    def namespace(self) -> Namespace:
        """The namespace it is in, to tell its members: `event.namespace.local.to(event.room)`.

        It is no field, and an event that was copied or made by hand has none.
        """
        return self._namespace


class Presence:
    """Who is present in the rooms of a pattern, on all workers: what `rooms.presence` returns.

        presence = rooms.presence("chat-*", user="name", grace=10)

        @presence.on("join")
        async def came(event: PresenceEvent) -> None:
            await event.namespace.local.to(event.room).send_json({"came": event.user})

    A user is present while one of their sockets is in the room, however many there are and on
    whichever worker, and for the grace after that.
    """

    def __init__(self, here: LocalNamespace, rule: PresenceRule) -> None:
        self._here = here
        self._rule = rule

    def of(self, namespace: Namespace) -> Presence:
        """The same presence, asked through another manager: a clone, in tests."""
        return Presence(namespace._here, self._rule)

    def on(
        self, event: PresenceEventName, *, one_worker: bool = False
    ) -> Callable[[Handler], Handler]:
        """Decorate a handler, plain or async, of users who come (`join`) and go (`leave`).

        It gets a `PresenceEvent`, once for each time that a user comes or goes: not for each of
        their tabs, and not if they are back within the grace.

        Args:
            event: `join` or `leave`.
            one_worker: have it called on one worker of all, the one that made the carrier know of
                it, whether or not that has members of the room: for what is to be done once, such
                as a note in a database. If that worker dies at this moment, or its connection to
                the carrier breaks before it has the answer, it is not called at all. Left out, it
                is called on every worker that has members of the room.

        Raises:
            ConfigurationError: there is no such event.
        """
        check_event(event)

        def register(handler: Handler) -> Handler:
            self._rule.on(event, handler, one_worker=one_worker)
            return handler

        return register

    async def users(self, room: Room) -> Present:
        """Who is present in a room.

        It is read in parts, so that a large room holds up nobody.

        Raises:
            UsageError: the room does not know who is present.
            AdapterUnavailable: it could not be read.
        """
        return await self._here.presences.users(check_room(room))

    async def count(self, room: Room) -> int:
        """How many users are present in a room.

        Raises:
            UsageError: the room does not know who is present.
            AdapterUnavailable: it could not be read.
        """
        return await self._here.presences.count(check_room(room))

    async def is_present(self, user: str, room: Room) -> bool:
        """Whether a user is present in a room.

        Raises:
            UsageError: the room does not know who is present.
            AdapterUnavailable: it could not be read.
        """
        return await self._here.presences.is_present(check_user(user), check_room(room))

    async def rooms(self, user: str) -> set[Room]:
        """The rooms of this pattern in which a user is present.

        Raises:
            AdapterUnavailable: it could not be read.
        """
        return await self._here.presences.rooms_of(check_user(user), self._rule)

    def __repr__(self) -> str:
        return f"<Presence of {self._rule.pattern!r} in {self._here.name}>"
