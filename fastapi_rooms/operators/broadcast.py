"""The operator that says who gets a message: immutable, every call gives another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.operators.addressing import Addressing
from fastapi_rooms.operators.dispatcher import ClusterRequest, Dispatcher, Part, ResponseReader, T
from fastapi_rooms.operators.socket_commands import SocketCommands
from fastapi_rooms.wire.verbs import Verb


class BroadcastOperator(Addressing["BroadcastOperator"], SocketCommands):
    """Whom to send to, or do something with. Chain it in any order, keep it, use it again.

        await rooms.to("lobby", "bar").except_("muted").send_json({"hello": "everyone"})

    A socket in several of the rooms gets the message once. Without `to`, everyone in the
    namespace gets it.
    """

    __slots__ = ("_dispatcher", "_local", "_volatile")

    def __init__(
        self,
        dispatcher: Dispatcher,
        target: Target = Target(),  # noqa: B008 -- immutable
        *,
        local: bool = False,
        volatile: bool = False,
    ) -> None:
        super().__init__(target)
        self._dispatcher = dispatcher
        self._local = local
        self._volatile = volatile

    @property
    def local(self) -> BroadcastOperator:
        """Only this worker's sockets."""
        return self._with(self._target, local=True, volatile=self._volatile)

    @property
    def volatile(self) -> BroadcastOperator:
        """Skip sockets that cannot take it now; never raise for, or wait for, the adapter."""
        return self._with(self._target, local=self._local, volatile=True)

    async def send_text(self, data: str) -> None:
        """Send text.

        Returns when local sockets have it in their outboxes and the adapter has accepted it. If it
        is cancelled before the adapter has written it, no other worker gets it.

        Raises:
            AdapterUnavailable: the adapter did not accept it in time; local sockets have it.
            MessageTooLarge: it is over the manager's limit; nobody has it.
            NotStarted: the manager is not running.
        """
        await self._dispatcher.send(
            self._target, Payload.of_text(data), local=self._local, volatile=self._volatile
        )

    async def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, as `send_text` does text."""
        await self._dispatcher.send(
            self._target, Payload.of_bytes(data), local=self._local, volatile=self._volatile
        )

    async def send_json(self, data: Any) -> None:
        """Send a value as JSON, in a text message, as `send_text` does.

        It may be whatever Starlette's `send_json` takes, and hold Pydantic models, dataclasses,
        dates, UUIDs, Decimals, sets and NumPy's numbers and arrays.

        Raises:
            TypeError: the value, or a part of it, has no JSON form.
        """
        payload = Payload.of_json(data, self._dispatcher.json)
        await self._dispatcher.send(
            self._target, payload, local=self._local, volatile=self._volatile
        )

    async def emit(self, event: str, *args: Any) -> None:
        """Send an event, to Socket.IO's clients, too, unless the manager's mode is `receive`.

        They get it as if a Node server had emitted it. Native clients get the message that the
        codec makes of it: of `Events`, `{"event": event, "args": [...]}`, or, of the event
        `message` with one argument, that alone, as `send_text`, `send_bytes` or `send_json` would
        send it. Arguments are what `send_json` takes, with bytes anywhere in lists and dicts.

        Raises:
            UsageError: the manager has no `socketio`, or this namespace is not shared; or the event
                would disconnect those clients, by a name that Socket.IO keeps for itself or more
                than ten byte strings.
            TypeError: an argument, or a part of it, has no JSON form.
            MessageTooLarge: the event is over the manager's limit; nobody has it.
        """
        await self._dispatcher.emit(
            self._target, event, args, local=self._local, volatile=self._volatile
        )

    async def _request(
        self,
        verb: Verb,
        arguments: Mapping[str, Any],
        reader: ResponseReader[Part, T],
        timeout: float | None,
    ) -> T:
        request = ClusterRequest(verb, self._target, arguments, elsewhere=not self._local)
        return await self._dispatcher.request(request, reader, timeout)

    def _with_target(self, target: Target) -> BroadcastOperator:
        return self._with(target, local=self._local, volatile=self._volatile)

    def _with(self, target: Target, *, local: bool, volatile: bool) -> BroadcastOperator:
        return BroadcastOperator(self._dispatcher, target, local=local, volatile=volatile)

    def __repr__(self) -> str:
        words = [f"to={self._target.rooms}", f"except_={self._target.except_}"]
        words += ["local"] * self._local + ["volatile"] * self._volatile
        return f"<BroadcastOperator {' '.join(words)}>"
