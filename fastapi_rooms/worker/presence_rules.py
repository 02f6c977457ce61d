"""Which rooms know who is present, as an application has declared it, and who is told of what."""

from __future__ import annotations

import logging
from collections.abc import Callable
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from fastapi_rooms.core.names import check_user
from fastapi_rooms.errors import ConfigurationError, InvalidRoomName, UsageError

if TYPE_CHECKING:
    from fastapi_rooms.worker.socket import Socket

logger = logging.getLogger("fastapi_rooms")

PresenceEventName: TypeAlias = Literal["join", "leave"]
_NAMES = get_args(PresenceEventName)

UserOf: TypeAlias = "str | Callable[[Socket], str] | None"
"""Who a socket is: a key of `socket.data`, a function of the socket, or `None` for its sid."""

_Handler: TypeAlias = Callable[..., Any]


def check_event(event: object) -> None:
    """Raise `ConfigurationError` if presence has no such event."""
    if event not in _NAMES:
        raise ConfigurationError(
            f"There is no event {event!r} of presence. There are: {', '.join(_NAMES)}."
        )


class PresenceRule:
    """What is declared for the rooms of one pattern. A manager and its clones share it."""

    def __init__(
        self, pattern: str, user: UserOf, grace: float, *, is_adopted: bool = False
    ) -> None:
        self.pattern = pattern
        self.user = user
        self.grace = grace
        self.is_adopted = is_adopted
        """Whether it is another application's, and who a socket is is for that to say."""
        self._handlers: dict[tuple[str, bool], list[_Handler]] = {}

    def __str__(self) -> str:
        return f"user={self.user!r} and grace={self.grace:g}"

    def is_same(self, other: PresenceRule) -> bool:
        """Whether another rule says the same of the same rooms."""
        return (self.pattern, self.user, self.grace) == (other.pattern, other.user, other.grace)

    def on(self, event: PresenceEventName, handler: _Handler, *, one_worker: bool) -> None:
        """Register a handler."""
        self._handlers.setdefault((event, one_worker), []).append(handler)

    @property
    def has_handlers(self) -> bool:
        """Whether anybody is told of events."""
        return bool(self._handlers)

    @property
    def is_told_everywhere(self) -> bool:
        """Whether every worker with members of the room is to tell its handlers."""
        return any(not one_worker for _, one_worker in self._handlers)

    def handlers(self, event: PresenceEventName, *, one_worker: bool) -> tuple[_Handler, ...]:
        """The handlers of an event: those on every worker with members, or those on one of all."""
        return tuple(self._handlers.get((event, one_worker), ()))

    def user_or_nobody(self, socket: Socket) -> str:
        """Who a socket is, or an empty text if that cannot be known."""
        try:
            return self.user_of(socket)
        except Exception as error:  # noqa: BLE001 -- a join that needs it raises it
            logger.debug(
                "It is not known who %r is in rooms like %r: %r", socket, self.pattern, error
            )
            return ""

    def user_of(self, socket: Socket) -> str:
        """Who a socket is. Raises `UsageError` if that cannot be known."""
        if self.user is None:
            return socket.sid
        if callable(self.user):
            user: Any = _asked(self.user, socket)
            if iscoroutine(user):
                user.close()  # the error says it all
            source = "what `user` returned"
        else:
            user, source = socket.data.get(self.user), f"socket.data[{self.user!r}]"
            if user is None and self.user not in socket.data:
                raise UsageError(
                    f"{socket} has no {self.user!r} in its data, by which rooms like "
                    f"{self.pattern!r} know who is present. Give it: rooms.connect(websocket, "
                    f"data={{{self.user!r}: …}})."
                )
        try:
            return check_user(user)
        except InvalidRoomName as error:
            raise UsageError(
                f"{source} of {socket} is {user!r}, and a user is a string of 1 to 255 UTF-8 "
                f"bytes: {error}"
            ) from None


def _asked(user: Callable[[Socket], Any], socket: Socket) -> Any:
    try:
        return user(socket)
    except SystemExit as error:  # others may have had it join: it would end their loop
        raise UsageError(f"`user` raised {error!r} for {socket}.") from error
