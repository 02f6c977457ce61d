"""One application on several workers at once: each connection is told which manager it has.

FastAPI's overrides are an application's. The one that is put there looks at the connection.
"""

# Not `from __future__ import annotations`: FastAPI reads the annotations of what it calls.

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from fastapi_rooms import Namespace, RoomManager, UsageError

_KEY = "fastapi_rooms.testing.overrides"
"""Where an ASGI scope says which namespaces its connection has instead of the application's."""


class _Override:
    """What `Depends(namespace)` calls while a connection with overrides of it is open."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self.connections = 0

    async def __call__(self, connection: HTTPConnection) -> Namespace:
        overrides: Mapping[Namespace, Namespace] = connection.scope.get(_KEY, {})
        return overrides.get(self._namespace, self._namespace)


class AppOnWorker:
    """An application, whose `Depends(rooms)` gives a worker made by `rooms.clone`.

    And `Depends(rooms.of(name))` that worker's namespace. The application's overrides are there
    while a connection is open, and are for that connection only. Its lifespan is left as it is.
    """

    def __init__(self, app: ASGIApp, rooms: RoomManager, worker: RoomManager) -> None:
        self._app = app
        self._rooms = rooms
        self._worker = worker
        if not list(_overrides_of(app)):
            raise UsageError(
                f"{app!r} is no FastAPI application, nor has one in it: there is nothing that "
                "`Depends` could be overridden in."
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        instead = {
            namespace: self._worker.of(name) for name, namespace in self._rooms.namespaces.items()
        }
        with self._overridden(instead):
            await self._app({**scope, _KEY: instead}, receive, send)

    @contextmanager
    def _overridden(self, namespaces: Mapping[Namespace, Namespace]) -> Iterator[None]:
        found = [(o, namespace) for o in _overrides_of(self._app) for namespace in namespaces]
        for overrides, namespace in found:
            if not isinstance(overrides.get(namespace, _Override(namespace)), _Override):
                raise UsageError(
                    f"The application has an override of {namespace!r} already. Leave that out, or "
                    "do without the cluster's."
                )
        for overrides, namespace in found:
            overrides.setdefault(namespace, _Override(namespace)).connections += 1
        try:
            yield
        finally:
            for overrides, namespace in found:
                override = overrides.get(namespace)
                if isinstance(override, _Override):  # else a test has taken it out
                    override.connections -= 1
                    if not override.connections:
                        del overrides[namespace]


def _overrides_of(app: Any) -> Iterator[dict[Any, Any]]:
    """Those of every FastAPI application in an application: mounted, or under middleware."""
    waiting, seen = [app], set[int]()
    while waiting:
        app = waiting.pop()
        if id(app) in seen:
            continue
        seen.add(id(app))
        if isinstance(overrides := getattr(app, "dependency_overrides", None), dict):
            yield overrides
        waiting += getattr(app, "routes", None) or ()
        if (inner := getattr(app, "app", None)) is not None:
            waiting.append(inner)
