"""A namespace's events, and the handlers that are told of them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, get_args

from fastapi_rooms.concurrency import FAULTS, Tasks
from fastapi_rooms.core.membership import Joined, Left
from fastapi_rooms.errors import ConfigurationError
from fastapi_rooms.types import NodeId, Room
from fastapi_rooms.worker.socket import Socket

if TYPE_CHECKING:
    from fastapi_rooms.namespace import Namespace

logger = logging.getLogger("fastapi_rooms")

EventName = Literal[
    "create-room",
    "delete-room",
    "join-room",
    "leave-room",
    "connect",
    "disconnect",
    "gap",
    "worker-lost",
]
_NAMES = frozenset(get_args(EventName))

Handler = TypeVar("Handler", bound=Callable[..., Any])


class InNamespace:
    """Which namespace something is of: no field of it, as a namespace is no data."""

    __slots__ = ("_namespace",)

    _namespace: Namespace

    def _in(self, namespace: Namespace) -> Self:
        object.__setattr__(self, "_namespace", namespace)
        return self


@dataclass(frozen=True, slots=True)
class Gap(InNamespace):
    """A span of time in which messages from other workers may have been missed.

    The worker was cut off from them, or they sent more than it could write to its clients. What
    local members sent to each other is not affected. Times are seconds since the epoch.

    What was missed in a room with a history is read again. Such a room has a gap only where that
    cannot be known any more, of its own: both times are then when this was found out.
    """

    since: float
    """All that was sent before that has arrived."""
    until: float
    """When it was sure to receive again; where more had come than could be written, when it was
    told: what is missed after that is in a gap of its own."""
    rooms: tuple[Room, ...]
    """The rooms of this namespace that had a member or listener on this worker all the while, or
    that one joined meanwhile, where `when_unavailable="admit"` lets it.

    On Redis Cluster: those whose node was lost or whose slot moved. There may be none, if only what
    was sent to single sockets can have been missed.
    """

    @property
    def namespace(self) -> Namespace:
        """The namespace it is in, to tell its members: `gap.namespace.local.to(*gap.rooms)`.

        It is no field, and a gap that was copied or made by hand has none.
        """
        return self._namespace


@dataclass(frozen=True, slots=True)
class WorkerLost(InNamespace):
    """Another worker is gone, and has not said goodbye: it crashed, was killed, or is cut off.

    Its clients are gone with it, or about to come to other workers, and no worker has told of their
    leaving. One that drains and stops is not lost.
    """

    node: NodeId
    """The id that it had."""
    rooms: tuple[Room, ...]
    """The rooms of this namespace that had a member there when it was last asked, by name.

    It is asked every five heartbeats, by workers that have a handler of this event, and tells a
    thousand rooms at most. It may have had more since, or none of these: look at who is there now.
    """

    @property
    def namespace(self) -> Namespace:
        """The namespace that this is about: `lost.namespace.local.to(*lost.rooms)`.

        It is no field, and one that was copied or made by hand has none.
        """
        return self._namespace


class EventHandlers:
    """Handlers by event, in the order of their registration."""

    def __init__(self) -> None:
        self._handlers: dict[str, list[Callable[..., Any]]] = {}

    def __bool__(self) -> bool:
        return any(self._handlers.values())

    def of(self, event: EventName) -> Sequence[Callable[..., Any]]:
        """The handlers of an event, as they are now."""
        handlers = self._handlers.get(event)
        return tuple(handlers) if handlers else ()

    def on(self, event: EventName) -> Callable[[Handler], Handler]:
        """A decorator that registers a handler. Raises `ConfigurationError` for no such event."""
        _check(event)

        def register(handler: Handler) -> Handler:
            self._handlers.setdefault(event, []).append(handler)
            return handler

        return register

    def off(self, event: EventName, handler: Callable[..., Any]) -> None:
        """Take a handler back, registered once. Raises `ConfigurationError` if it is none."""
        _check(event)
        try:
            self._handlers.get(event, []).remove(handler)
        except ValueError:
            raise ConfigurationError(f"{handler!r} is no handler of {event!r}.") from None


def _check(event: object) -> None:
    if event not in _NAMES:
        raise ConfigurationError(
            f"There is no event {event!r}. There are: {', '.join(sorted(_NAMES))}."
        )


class Events:
    """Tells handlers. A plain one is called at once, an async one becomes a task."""

    def __init__(
        self,
        handlers: EventHandlers,
        when_ended: Callable[[], Callable[[], None] | None] = lambda: None,
    ) -> None:
        self.handlers = handlers
        self._when_ended = when_ended
        self._tasks = Tasks()

    @property
    def at_work(self) -> bool:
        """Whether an async handler has not ended."""
        return bool(self._tasks)

    def emit(self, event: EventName, *args: Any) -> None:
        """Tell every handler. One that raises is logged, and harms neither others nor us."""
        self.call(event, self.handlers.of(event), *args)

    def call(self, event: str, handlers: Iterable[Callable[..., Any]], *args: Any) -> None:
        """Tell some handlers of something, as `emit` does."""
        for handler in handlers:
            try:
                result = handler(*args)
            except FAULTS:
                logger.exception("A handler of %r raised", event)
                continue
            if inspect.iscoroutine(result):
                task = self._tasks.create(_run(event, result), f"A handler of {event!r}")
                task.add_done_callback(partial(self._ended, result))

    def joined(self, socket: Socket, joined: Joined) -> None:
        """Tell which rooms a socket has joined, and which of them are new."""
        for room in joined.created:
            self.emit("create-room", room)
        for room in joined.rooms:
            self.emit("join-room", room, socket)

    def left(self, socket: Socket, left: Left) -> None:
        """Tell which rooms a socket has left, and which of them are gone; its own makes none."""
        for room in left.rooms:
            if room != socket.sid:
                self.emit("leave-room", room, socket)
        for room in left.deleted:
            if room != socket.sid:
                self.emit("delete-room", room)

    def departed(self, room: Room, sockets: Iterable[Socket], *, deleted: bool) -> None:
        """Tell that many sockets have left a room, which may be gone by that; as `left`."""
        if self.handlers.of("leave-room"):
            for socket in sockets:
                self.emit("leave-room", room, socket)
        if deleted:
            self.emit("delete-room", room)

    def _ended(self, work: Coroutine[Any, Any, Any], _: object) -> None:
        work.close()  # a task that is cancelled at once has not begun it
        if (tell := self._when_ended()) is not None:
            tell()

    def forget(self) -> None:
        """Forget the handlers that ran in an event loop that is gone."""
        self._tasks.forget()

    async def close(self, timeout: float) -> None:
        """Let the handlers that still run finish, and cancel those that do not in time.

        Those that begin meanwhile count, too. They have as much time again to end by that.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while self._tasks and (left := until - loop.time()) > 0:
            await self._tasks.wait(left)
        await self._tasks.cancel(timeout)


async def _run(event: str, work: Coroutine[Any, Any, Any]) -> None:
    try:
        await work
    except FAULTS:
        logger.exception("A handler of %r raised", event)
