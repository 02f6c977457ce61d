"""What an application has registered for one namespace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi_rooms.errors import UsageError
from fastapi_rooms.worker.authorization import Authorization
from fastapi_rooms.worker.events import EventHandlers


class Handlers:
    """The handlers of one namespace. They belong to no run, and clones of a manager share them."""

    def __init__(self) -> None:
        self.events = EventHandlers()
        """Of what happens on this worker."""
        self.authorization = Authorization()
        """Asked before a socket joins."""
        self.server_side: dict[str, Callable[..., Any]] = {}
        """Of what other workers `server_side_emit`, by the event."""

    def server_side_handler(self, event: str) -> Callable[..., Any]:
        """The handler of a server-side event. Raises `UsageError` if there is none."""
        handler = self.server_side.get(event)
        if handler is None:
            raise UsageError(f"There is no handler of {event!r} here.")
        return handler
