"""Who is present in the rooms of a namespace, asked from a process that has no manager."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeAlias, TypeVar, overload

from fastapi_rooms.adapters.redis.presence.questions import PresenceQuestions, Question
from fastapi_rooms.core.names import check_room, check_user
from fastapi_rooms.operators.present import Present, PresentPages
from fastapi_rooms.types import Room

R = TypeVar("R")
T = TypeVar("T")

Awaited: TypeAlias = Coroutine[Any, Any, T]
Sent: TypeAlias = Awaited[None]
"""Nothing is sent before it is awaited."""


class EmitPresence(Generic[R]):
    """Who is present in the rooms of a namespace: `emitter.presence`.

        emitter.presence.count("tea")
        emitter.of("/chat").presence.users("lobby")

    Redis is asked, and no worker. Every answer of an `AsyncEmitter` has to be awaited.

    Which rooms know who is present, an emitter learns from Redis, where workers have declared it at
    their start. It reads that before it first asks, and again every few seconds.

    All questions raise:

    * `UsageError` for a room that no worker has declared by `rooms.presence`, or before the first
      worker that does was ever started; `rooms`, if no room of the namespace was.
    * `AdapterUnavailable` when Redis cannot be reached, refuses, or does not answer in time.
    * `InvalidRoomName` for what can be the name of no room, or of no user.
    """

    __slots__ = ("_ask", "_namespace", "_questions")

    def __init__(
        self,
        questions: PresenceQuestions,
        ask: Callable[[Question[Any]], Any],
        namespace: str,
    ) -> None:
        self._questions = questions
        self._ask = ask
        self._namespace = namespace

    @overload
    def users(self: EmitPresence[None], room: Room) -> Present: ...
    @overload
    def users(self: EmitPresence[Sent], room: Room) -> Awaited[Present]: ...
    def users(self, room: Room) -> Any:
        """Who is present in a room.

        It is read in parts, so that a large room holds up nobody. Each part has the emitter's
        timeout, and what is sent meanwhile goes out between them.
        """
        return self._ask(self._about(room, self._users(check_room(room))))

    @overload
    def count(self: EmitPresence[None], room: Room) -> int: ...
    @overload
    def count(self: EmitPresence[Sent], room: Room) -> Awaited[int]: ...
    def count(self, room: Room) -> Any:
        """How many users are present in a room."""
        name = self._name(check_room(room))
        return self._ask(self._about(room, self._questions.count(name)))

    @overload
    def is_present(self: EmitPresence[None], user: str, room: Room) -> bool: ...
    @overload
    def is_present(self: EmitPresence[Sent], user: str, room: Room) -> Awaited[bool]: ...
    def is_present(self, user: str, room: Room) -> Any:
        """Whether a user is present in a room."""
        name = self._name(check_room(room))
        return self._ask(self._about(room, self._questions.is_present(name, check_user(user))))

    @overload
    def rooms(self: EmitPresence[None], user: str) -> set[Room]: ...
    @overload
    def rooms(self: EmitPresence[Sent], user: str) -> Awaited[set[Room]]: ...
    def rooms(self, user: str) -> Any:
        """The rooms of the namespace in which a user is present, whatever pattern they match."""
        question = self._questions.rooms_of_user(self._namespace, check_user(user))
        return self._ask(self._about(None, question))

    def _users(self, room: Room) -> Question[Present]:
        name, pages = self._name(room), PresentPages(room)
        version = yield from self._questions.version(name)
        cursor = None
        while cursor != 0:
            page = yield from self._questions.page(name, cursor or 0)
            pages.add(version, page.users, [entry for _, entry in page.sockets])
            cursor = page.cursor
        return pages.present

    def _about(self, room: Room | None, question: Question[T]) -> Question[T]:
        """A question, asked only if it has an answer."""
        yield from self._questions.ensure_known(self._namespace, room)
        return (yield from question)

    def _name(self, room: Room) -> bytes:
        return f"{self._namespace}#{room}".encode()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} in {self._namespace}>"
