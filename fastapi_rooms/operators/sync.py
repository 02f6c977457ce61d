"""The same operators for threads and `def` routes: they block, and need no `await`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.operators.addressing import Addressing
from fastapi_rooms.operators.broadcast import BroadcastOperator
from fastapi_rooms.operators.dispatcher import Dispatcher
from fastapi_rooms.operators.remote import RemoteSocket
from fastapi_rooms.types import Room

R = TypeVar("R")


class LoopCaller(Protocol):
    """Runs something in the manager's event loop while the calling thread waits."""

    def call(self, work: Callable[[], Awaitable[R]], timeout: float | None) -> R:
        """Run `work`; `timeout` is how many seconds it may take by itself, if that is known.

        Raises what `work` does; `UsageError` in the event loop's own thread, or in another process;
        `AdapterUnavailable` when the event loop did not get to it in time.
        """


class SyncOperator(Addressing["SyncOperator"]):
    """A `BroadcastOperator` for other threads: each verb returns when the manager has done it.

        rooms.sync.to("lobby").send_json({"hello": "everyone"})

    Use it in `def` routes, which FastAPI runs in threads, in schedulers, and in callbacks of
    libraries that have threads of their own. Every call is bounded by a timeout.

    All verbs raise what those of `BroadcastOperator` do, and `UsageError` in the thread of the
    manager's own event loop, which they would block, and in a process that was forked from the
    manager's, where an `Emitter` is what you want.
    """

    __slots__ = ("_caller", "_dispatcher", "_local", "_volatile")

    def __init__(
        self,
        dispatcher: Dispatcher,
        caller: LoopCaller,
        target: Target = Target(),  # noqa: B008 -- immutable
        *,
        local: bool = False,
        volatile: bool = False,
    ) -> None:
        super().__init__(target)
        self._dispatcher = dispatcher
        self._caller = caller
        self._local = local
        self._volatile = volatile

    @property
    def local(self) -> SyncOperator:
        """Only this worker's sockets."""
        return self._with(self._target, local=True, volatile=self._volatile)

    @property
    def volatile(self) -> SyncOperator:
        """Skip sockets that cannot take it now; never raise for, or wait for, the adapter."""
        return self._with(self._target, local=self._local, volatile=True)

    def send_text(self, data: str) -> None:
        """Send text: see `BroadcastOperator.send_text`."""
        self._send(Payload.of_text(data))

    def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes."""
        self._send(Payload.of_bytes(data))

    def send_json(self, data: Any) -> None:
        """Send JSON, as a text message."""
        self._send(Payload.of_json(data, self._dispatcher.json))

    def emit(self, event: str, *args: Any) -> None:
        """Send an event: see `BroadcastOperator.emit`."""
        self._caller.call(lambda: self._operator.emit(event, *args), None)

    def fetch_sockets(self, *, timeout: float | None = None) -> list[RemoteSocket]:
        """The sockets: see `BroadcastOperator.fetch_sockets`.

        Their own verbs have to be awaited in the manager's event loop. From a thread address them
        by their sids: `rooms.sync.to(socket.sid)`.
        """
        return self._caller.call(lambda: self._operator.fetch_sockets(timeout=timeout), timeout)

    def count(self, *, timeout: float | None = None) -> int:
        """How many sockets there are."""
        return self._caller.call(lambda: self._operator.count(timeout=timeout), timeout)

    def sockets_join(self, *names: Room, timeout: float | None = None) -> None:
        """Put the sockets into rooms; returns when they are in."""
        self._caller.call(lambda: self._operator.sockets_join(*names, timeout=timeout), timeout)

    def sockets_leave(self, *names: Room, timeout: float | None = None) -> None:
        """Take the sockets out of rooms; returns when they are out."""
        self._caller.call(lambda: self._operator.sockets_leave(*names, timeout=timeout), timeout)

    def disconnect_sockets(
        self, code: int = 1000, reason: str = "", *, timeout: float | None = None
    ) -> None:
        """Close the sockets: see `BroadcastOperator.disconnect_sockets`."""
        self._caller.call(
            lambda: self._operator.disconnect_sockets(code, reason, timeout=timeout), timeout
        )

    def _send(self, payload: Payload) -> None:
        self._caller.call(
            lambda: self._dispatcher.send(
                self._target, payload, local=self._local, volatile=self._volatile
            ),
            None,
        )

    @property
    def _operator(self) -> BroadcastOperator:
        return BroadcastOperator(
            self._dispatcher, self._target, local=self._local, volatile=self._volatile
        )

    def _with_target(self, target: Target) -> SyncOperator:
        return self._with(target, local=self._local, volatile=self._volatile)

    def _with(self, target: Target, *, local: bool, volatile: bool) -> SyncOperator:
        return SyncOperator(self._dispatcher, self._caller, target, local=local, volatile=volatile)

    def __repr__(self) -> str:
        words = [f"to={self._target.rooms}", f"except_={self._target.except_}"]
        words += ["local"] * self._local + ["volatile"] * self._volatile
        return f"<{type(self).__name__} {' '.join(words)}>"
