"""The namespaces of one manager: one object for each name, as long as anybody has to do with it.

Applications make names of what clients ask for, so a name must not cost anything once nobody holds
its namespace and nothing is in it. Three things keep one:

* who holds it: a variable, an operator, a request or a join under way, by ordinary references;
* its clients, listeners and event handlers at work, which the present run has to reach;
* the handlers that are registered for it, whether anybody holds it or not.

For the last two it is one of `Runtime.namespaces`: those are all that messages, gaps, drains and
descriptions are concerned with. No namespace refers to itself in a circle, so one goes with the
last reference, and does not wait for the garbage collector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi_rooms.worker.handlers import HandlerRegistry
from fastapi_rooms.worker.local_namespace import LocalNamespace
from fastapi_rooms.worker.runtime import Runtime

if TYPE_CHECKING:
    from fastapi_rooms.namespace import Namespace


class Namespaces:
    """Finds a manager's namespaces by their names, and makes those that are not there."""

    def __init__(
        self,
        runtime: Runtime,
        registry: HandlerRegistry,
        make_public: Callable[[LocalNamespace], Namespace],
    ) -> None:
        self._runtime = runtime
        self._registry = registry
        self._make_public = make_public
        registry.tell(self)

    def of(self, name: str) -> LocalNamespace:
        """The namespace of a name that was checked."""
        with self._registry.lock:
            found = self._runtime.living.get(name)
            if found is None:
                handlers = self._registry.of(name)
                found = LocalNamespace(name, self._runtime, handlers, self._make_public)
            return found

    def public(self, name: str) -> Namespace:
        """The same, as users have it."""
        return self.of(name).namespace

    def all_public(self) -> dict[str, Namespace]:
        """Those that there are now, as users have them."""
        return {here.name: here.namespace for here in self._runtime.all_namespaces()}

    def handlers_changed(self, namespace: str) -> None:
        """Keep a namespace that has handlers, and no longer one that has none."""
        self.of(namespace).settle()
