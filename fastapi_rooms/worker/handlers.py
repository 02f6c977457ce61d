"""What an application has registered, namespace by namespace.

A manager and its clones share it. An object for a namespace is there as long as anybody holds it,
or there is a handler in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from inspect import Signature, signature
from threading import RLock
from typing import Any, Protocol
from weakref import WeakSet, WeakValueDictionary

from fastapi_rooms.adapters.history import Retention
from fastapi_rooms.core.patterns import Patterns
from fastapi_rooms.errors import ConfigurationError, MalformedEnvelope, UsageError
from fastapi_rooms.worker.authorization import Authorization, AuthorizeHandler
from fastapi_rooms.worker.events import EventHandlers, EventName, Handler
from fastapi_rooms.worker.presence_rules import PresenceRule


class HandlersListener(Protocol):
    """Who is told which namespaces have handlers: each of the managers that share them."""

    def handlers_changed(self, namespace: str) -> None:
        """One was registered, or taken back."""


class Handlers:
    """The handlers of one namespace. They belong to no run, and clones of a manager share them."""

    __slots__ = (
        "__weakref__",
        "_registry",
        "_signatures",
        "authorization",
        "events",
        "history",
        "namespace",
        "presence",
        "server_side",
    )

    def __init__(self, namespace: str, registry: HandlerRegistry) -> None:
        self.namespace = namespace
        self._registry = registry
        self.events = EventHandlers()
        """Of what happens on this worker."""
        self.authorization = Authorization()
        """Asked before a socket joins."""
        self.history: Patterns[Retention] = Patterns()
        """Which rooms remember, and how much."""
        self.presence: Patterns[PresenceRule] = Patterns()
        """Which rooms know who is present."""
        self.server_side: dict[str, Callable[..., Any]] = {}
        """Of what other workers `server_side_emit`, by the event."""
        self._signatures: dict[str, Signature | None] = {}

    def __bool__(self) -> bool:
        return bool(
            self.events or self.authorization or self.server_side or self.history or self.presence
        )

    @property
    def lock(self) -> RLock:
        """Held while a namespace is looked up or made: see `HandlerRegistry`."""
        return self._registry.lock

    def on(self, event: EventName) -> Callable[[Handler], Handler]:
        """See `Namespace.on`."""
        register = self.events.on(event)

        def changing(handler: Handler) -> Handler:
            register(handler)
            self._registry.changed(self)
            return handler

        return changing

    def off(self, event: EventName, handler: Callable[..., Any]) -> None:
        """See `Namespace.off`."""
        self.events.off(event, handler)
        self._registry.changed(self)

    def authorize(self, pattern: str, handler: AuthorizeHandler) -> AuthorizeHandler:
        """See `Namespace.authorize`."""
        self.authorization.add(pattern, handler)
        self._registry.changed(self)
        return handler

    def keep_history(self, pattern: str, retention: Retention) -> None:
        """See `Namespace.history`. Raises `ConfigurationError` if it is declared otherwise."""
        declared = self.history.declared(pattern)
        if declared is not None and declared != retention:
            raise _declared_otherwise(
                f"history({pattern!r})",
                f"size={declared.size} and ttl={declared.ttl:g}",
                f"size={retention.size} and ttl={retention.ttl:g}",
            )
        self.history.declare(pattern, retention)
        self._registry.changed(self)

    def declare_presence(self, rule: PresenceRule) -> PresenceRule:
        """See `Namespace.presence`. Returns the rule that counts: the same was declared, perhaps.

        Raises `ConfigurationError` if it is declared otherwise.
        """
        declared = self.presence.declared(rule.pattern)
        if declared is None:
            self.presence.declare(rule.pattern, rule)
            self._registry.changed(self)
            return rule
        if not declared.is_same(rule):
            raise _declared_otherwise(f"presence({rule.pattern!r})", str(declared), str(rule))
        return declared

    def on_server_side(self, event: str, handler: Handler) -> Handler:
        """See `Namespace.on_server_side`."""
        if event in self.server_side:
            raise ConfigurationError(f"There is a handler of {event!r} already.")
        self._signatures[event] = _signature_of(handler)
        self.server_side[event] = handler
        self._registry.changed(self)
        return handler

    def call_server_side(self, event: str, args: Sequence[Any]) -> Any:
        """Call the handler of a server-side event.

        Raises `UsageError` if there is none, and `MalformedEnvelope` if it does not take so many
        arguments: they are not its own, as an error in it is.
        """
        handler = self.server_side.get(event)
        if handler is None:
            raise UsageError(f"There is no handler of {event!r} here.")
        taken = self._signatures[event]
        if taken is not None:
            try:
                taken.bind(*args)
            except TypeError as error:
                raise MalformedEnvelope(
                    f"The handler of {event!r} here is given {len(args)} arguments: {error}."
                ) from None
        return handler(*args)


def _declared_otherwise(what: str, before: str, now: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what} is declared already, with {before}, and cannot be with {now} as well. Declare it "
        "in one place, or the same in each. A longer pattern can be declared for some of the rooms."
    )


def _signature_of(handler: Callable[..., Any]) -> Signature | None:
    try:
        return signature(handler)
    except (TypeError, ValueError):  # some builtins have none
        return None


class HandlerRegistry:
    """The handlers of a manager and its clones, by namespace."""

    def __init__(self) -> None:
        self.lock = RLock()
        """Held while a namespace is looked up or made, which threads may do as well."""
        self._living: WeakValueDictionary[str, Handlers] = WeakValueDictionary()
        self._registered: dict[str, Handlers] = {}
        self._listeners: WeakSet[HandlersListener] = WeakSet()

    def __iter__(self) -> Iterator[str]:
        """The names of the namespaces that have handlers."""
        return iter(list(self._registered))

    def of(self, namespace: str) -> Handlers:
        """The handlers of a namespace, made when first asked for."""
        with self.lock:
            handlers = self._living.get(namespace)
            if handlers is None:
                handlers = self._living[namespace] = Handlers(namespace, self)
            return handlers

    def tell(self, listener: HandlersListener) -> None:
        """Tell one more manager which namespaces have handlers, now and later."""
        with self.lock:
            self._listeners.add(listener)
            for namespace in self:
                listener.handlers_changed(namespace)

    def changed(self, handlers: Handlers) -> None:
        """One was registered, or taken back."""
        with self.lock:
            if handlers:
                self._registered[handlers.namespace] = handlers
            else:
                self._registered.pop(handlers.namespace, None)
            for listener in list(self._listeners):
                listener.handlers_changed(handlers.namespace)
