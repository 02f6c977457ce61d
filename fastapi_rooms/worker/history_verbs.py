"""What a namespace offers for rooms that remember, beside joining and listening."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi_rooms.adapters.history import Retention
from fastapi_rooms.core.checks import check_count, check_positive
from fastapi_rooms.core.names import check_room
from fastapi_rooms.core.patterns import check_pattern
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import ConfigurationError, UsageError
from fastapi_rooms.operators.dispatcher import ClusterRequest
from fastapi_rooms.types import Room
from fastapi_rooms.wire.verbs import Verb
from fastapi_rooms.worker.handlers import Handlers
from fastapi_rooms.worker.room_message import RoomMessage
from fastapi_rooms.worker.runtime import Runtime

if TYPE_CHECKING:
    from fastapi_rooms.worker.local_namespace import LocalNamespace


class HistoryVerbs:
    """The verbs; a part of `Namespace`."""

    _here: LocalNamespace
    _handlers: Handlers
    _runtime: Runtime

    def history(self, pattern: str, *, size: int = 100, ttl: float = 300.0) -> None:
        """Have the rooms of a pattern remember what is sent to them, and recover it.

            rooms.history("chat-*", size=200, ttl=3600)

        Declare it before the manager starts. What is sent to such a room is numbered and kept by
        Redis, and comes back to everyone in one order, the sender's own worker included. A worker
        that has missed something reads it, and its members notice nothing. Clients go on where they
        were (`socket.join(room, since=…)`), and newcomers get the last messages (`recent=…`).

        Such a room is addressed alone. While Redis is away nobody hears anything in it, and sending
        raises `AdapterUnavailable`.

        Args:
            pattern: a room's name, or the beginning of names and a `*`. Of several that match, the
                longest counts.
            size: how many messages somebody who was away may have missed.
            ttl: seconds after the last message of a room that its messages are forgotten.

        Raises:
            ConfigurationError: the pattern, size or ttl cannot be; the pattern is declared already,
                with another size or ttl; or the manager is running: to read what was said, call
                `recent`.
        """
        if self._runtime.is_running:
            raise ConfigurationError(
                "Which rooms have a history is declared before the manager starts. To read what "
                "was said in one, `await rooms.recent(room)`."
            )
        check_count("size", size, "messages")
        check_positive("ttl", ttl)
        pattern = check_pattern(
            pattern, "history", "A longer pattern can be declared for some of these rooms."
        )
        self._handlers.keep_history(pattern, Retention(size, ttl))

    async def recent(self, room: Room, limit: int = 50) -> list[RoomMessage]:
        """The last messages of a room with a history, oldest first.

        Raises:
            UsageError: the room has none.
            AdapterUnavailable: they could not be read.
        """
        if type(limit) is not int or limit < 0:
            raise UsageError(f"limit is a number of messages, not {limit!r}.")
        return await self._here.recovery.read(check_room(room), limit)

    async def position(self, room: Room) -> str:
        """Where a room with a history is now: what is sent from now on comes after it.

        Take it before you load a page from a database, and join with it as `since`: so nothing is
        missed in between.

        Raises:
            UsageError: the room has no history.
            AdapterUnavailable: it could not be read.
        """
        return await self._here.recovery.top(check_room(room))

    async def clear_history(self, room: Room) -> None:
        """Forget what was said in a room with a history, on every worker. The numbering goes on.

        On Redis Cluster, what is sent in the same moment may reach a worker before it has heard of
        this: until the next message, who comes back there may be told that it was not recovered.

        Raises:
            UsageError: the room has none.
            AdapterUnavailable: it could not be forgotten.
        """
        room = check_room(room)
        await self._here.recovery.clear(room)
        request = ClusterRequest(Verb.FORGET, Target(()), {"rooms": [room]}, here=False)
        await self._runtime.attribute(self._runtime.run.cluster.notify(self._here.name, request))
