"""What a user chains of an emitter, and its namespaces, whether it blocks or is awaited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from fastapi_rooms.adapters.redis.presence.questions import PresenceQuestions, Question
from fastapi_rooms.core.close_codes import check_close
from fastapi_rooms.core.names import check_rooms
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.emitter.presence import EmitPresence
from fastapi_rooms.operators.addressing import Addressing
from fastapi_rooms.types import Room
from fastapi_rooms.wire.drafts import Draft, Drafts, ForeignDraft
from fastapi_rooms.wire.verbs import Verb

R = TypeVar("R")


class Outlet(NamedTuple, Generic[R]):
    """What the operators of one emitter share."""

    drafts: Drafts
    send: Callable[[Draft | ForeignDraft | None], R]
    """Publishes a draft; does nothing for `None`."""
    ask: Callable[[Question[Any]], Any]
    """Answers a question; of an `AsyncEmitter` the answer has to be awaited."""
    questions: PresenceQuestions
    """Makes the questions."""


class EmitOperator(Addressing["EmitOperator[R]"], Generic[R]):
    """Whom to send to, or do something with. Chain it in any order, keep it, use it again.

        emitter.to("lobby", "bar").except_("muted").send_json({"hello": "everyone"})

    A socket in several of the rooms gets the message once. Without `to`, everyone in the
    namespace gets it. What is sent to a room with a history is numbered and kept there, as far as
    workers have told Redis of it; such a room is addressed alone. Each verb returns when the
    carrier, Redis or RabbitMQ, has accepted it; that of an `AsyncEmitter` has to be awaited.
    Nobody answers: what workers make of it, and whether there are any, is not known.

    All verbs raise:

    * `AdapterUnavailable` when the carrier cannot be reached, refuses, or does not accept it in
      time. If `uncertain`, a message to a room with a history may be in it all the same, once.
    * `UsageError`, or one of its kinds, for what cannot be sent, and for a room with a history
      among several.
    """

    __slots__ = ("_namespace", "_outlet", "_volatile")

    def __init__(
        self,
        outlet: Outlet[R],
        namespace: str,
        target: Target = Target(),  # noqa: B008 -- immutable
        *,
        volatile: bool = False,
    ) -> None:
        super().__init__(target)
        self._outlet = outlet
        self._namespace = namespace
        self._volatile = volatile

    @property
    def volatile(self) -> EmitOperator[R]:
        """Skip sockets that cannot take a message now; do not raise `AdapterUnavailable`.

        Such a message is not kept, whether or not the room has a history.
        """
        return EmitOperator(self._outlet, self._namespace, self._target, volatile=True)

    def send_text(self, data: str) -> R:
        """Send text. Raises `MessageTooLarge` for what is over the emitter's limit."""
        return self._send(Payload.of_text(data))

    def send_bytes(self, data: bytes | bytearray | memoryview) -> R:
        """Send bytes, as `send_text` does text."""
        return self._send(Payload.of_bytes(data))

    def send_json(self, data: Any) -> R:
        """Send `data` as JSON, as a text message, as `send_text` does."""
        return self._send(Payload.of_json(data))

    def emit(self, event: str, *args: Any) -> R:
        """Send an event, to Socket.IO's clients, too: see `BroadcastOperator.emit`."""
        drafts, send = self._outlet[:2]
        return send(
            drafts.emit(self._namespace, self._target, event, args, volatile=self._volatile)
        )

    def sockets_join(self, *names: Room) -> R:
        """Put the sockets into rooms, once each worker gets to it.

        A message to such a room that is sent next may be too early for them: send it to where they
        are already.
        """
        return self._request(Verb.JOIN, {"rooms": list(check_rooms(names))})

    def sockets_leave(self, *names: Room) -> R:
        """Take the sockets out of rooms, once each worker gets to it."""
        return self._request(Verb.LEAVE, {"rooms": list(check_rooms(names))})

    def disconnect_sockets(self, code: int = 1000, reason: str = "") -> R:
        """Close the sockets, once they have what was sent to them before.

        Raises `UsageError` for a code or reason that cannot be sent.
        """
        check_close(code, reason)
        return self._request(Verb.DISCONNECT, {"code": code, "reason": reason})

    def _send(self, payload: Payload) -> R:
        drafts, send = self._outlet[:2]
        return send(
            drafts.broadcast(self._namespace, self._target, payload, volatile=self._volatile)
        )

    def _request(self, verb: Verb, arguments: dict[str, Any]) -> R:
        drafts, send = self._outlet[:2]
        return send(drafts.request(self._namespace, self._target, verb, arguments))

    def _with_target(self, target: Target) -> EmitOperator[R]:
        return EmitOperator(self._outlet, self._namespace, target, volatile=self._volatile)

    def __repr__(self) -> str:
        words = [f"of={self._namespace}", f"to={self._target.rooms}"]
        words += [f"except_={self._target.except_}"] + ["volatile"] * self._volatile
        return f"<{type(self).__name__} {' '.join(words)}>"


class EmitNamespace(EmitOperator[R]):
    """Everyone in one namespace: `emitter.of("/chat")`."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """Its name, with the leading slash."""
        return self._namespace

    @property
    def presence(self) -> EmitPresence[R]:
        """Who is present in its rooms."""
        return EmitPresence(self._outlet.questions, self._outlet.ask, self._namespace)

    def server_side_emit(self, event: str, *args: Any) -> R:
        """Have every worker call its handler of an event with these JSON values.

        That is what the worker's `rooms.on_server_side(event)` decorates; one without is passed by.
        Raises `UsageError` for an event that is no string, `TypeError` for what is not JSON.
        """
        drafts, send = self._outlet[:2]
        return send(drafts.event(self._namespace, event, args))
