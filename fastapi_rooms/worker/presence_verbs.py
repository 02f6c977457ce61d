"""What a namespace offers for rooms that know who is present."""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import TYPE_CHECKING

from fastapi_rooms.core.checks import check_not_negative
from fastapi_rooms.core.patterns import check_pattern
from fastapi_rooms.errors import ConfigurationError
from fastapi_rooms.worker.handlers import Handlers
from fastapi_rooms.worker.presence import Presence
from fastapi_rooms.worker.presence_rules import PresenceRule, UserOf
from fastapi_rooms.worker.presence_run import GRACE
from fastapi_rooms.worker.runtime import Runtime

if TYPE_CHECKING:
    from fastapi_rooms.worker.local_namespace import LocalNamespace


class PresenceVerbs:
    """The verb; a part of `Namespace`."""

    _here: LocalNamespace
    _handlers: Handlers
    _runtime: Runtime

    def presence(self, pattern: str, *, user: UserOf = None, grace: float = GRACE) -> Presence:
        """Have the rooms of a pattern know who is present, on all workers.

            presence = rooms.presence("chat-*", user="name", grace=10)

        Declare it before the manager starts. From then on `await presence.users(room)` tells who is
        there, and handlers of `presence.on("join")` and `on("leave")` are told who comes and goes:
        each user once, however many tabs they have, and whatever becomes of workers.

        Several modules may declare the same: handlers of each are called.

        Args:
            pattern: a room's name, or the beginning of names and a `*`. Of several that match, the
                longest counts.
            user: who a socket is, as it joins: a key of `socket.data`, or a plain function of the
                socket. A string of 1 to 255 UTF-8 bytes; if it is missing, the join raises
                `UsageError`. Left out, each socket is somebody of its own, known by its sid.
            grace: seconds that users are present after their last socket has left, so that a page
                that is reloaded makes no events. 0 for none.

        Raises:
            ConfigurationError: the pattern, user or grace cannot be; the pattern is declared
                already, with another user or grace; or the manager is running.
        """
        if self._runtime.is_running:
            raise ConfigurationError(
                "Which rooms know who is present is declared before the manager starts. To ask who "
                "is, keep what `rooms.presence(…)` returned, and `await presence.users(room)`."
            )
        given: object = user
        if iscoroutinefunction(given):
            raise ConfigurationError(f"user is a plain function, not an async one as {user!r} is.")
        if not (given is None or callable(given) or (isinstance(given, str) and given)):
            raise ConfigurationError(
                f"user is a key of socket.data, or a function of the socket, not {user!r}."
            )
        check_not_negative("grace", grace)
        pattern = check_pattern(
            pattern, "presence", "A longer pattern can be declared for some of these rooms."
        )
        rule = self._handlers.declare_presence(PresenceRule(pattern, user, grace))
        return Presence(self._here, rule)
