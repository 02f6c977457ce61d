"""What was asked of an edge, and has not been answered yet."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

from fastapi_rooms.errors import AdapterUnavailable, UsageError
from fastapi_rooms.wire import gateway as wire


class Refused(Exception):
    """The edge did not do what it was asked: why, in words, and which kind of error that is."""

    def __init__(self, reply: dict[str, Any]) -> None:
        super().__init__(str(reply.get("text", "")))
        self.kind: str = wire.field(reply, "error", str)
        self.numbers: tuple[int, int] = (
            (wire.field(reply, "rooms", int), wire.field(reply, "limit", int))
            if self.kind == "rooms"
            else (0, 0)
        )


Then = Callable[[dict[str, Any]], None]
"""Does what a reply says at once: before anything that the edge says after it."""


class Call:
    """One that waits for its reply."""

    def __init__(self, number: int, then: Then | None = None) -> None:
        self.number = number
        self._then = then
        self._context = copy_context()
        self._reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._timeout = 0.0
        self._limit: asyncio.Timeout | None = None

    async def reply(self, verb: str, timeout: float) -> dict[str, Any]:
        """What the edge says. It has this long, and as long again whenever it is still at it.

        Raises `Refused`, `AdapterUnavailable`, or `ConnectionError` if the client is gone.
        """
        self._timeout = timeout
        try:
            async with asyncio.timeout(timeout) as self._limit:
                return await self._reply
        except TimeoutError:
            raise AdapterUnavailable(
                f"The edge of this client did not answer {verb!r} in {timeout:g} s."
            ) from None

    def replied(self, reply: dict[str, Any]) -> None:
        """The edge has said something. Raises `MalformedEnvelope`."""
        if self._reply.done():
            return
        if "error" in reply:
            self._reply.set_exception(Refused(reply))
        elif reply.get("pending"):
            self.is_pending()
        else:
            if self._then is not None:
                self._context.run(self._then, reply)
            self._reply.set_result(reply)

    def is_pending(self) -> None:
        """The edge is at it still, or will be."""
        if self._limit is not None and not self._reply.done():
            self._limit.reschedule(asyncio.get_running_loop().time() + self._timeout)

    def fail(self) -> None:
        """There will be no reply."""
        if not self._reply.done():
            self._reply.set_exception(ConnectionError("the client is gone"))
            self._reply.exception()  # whoever has been cancelled does not ask for it


class Calls:
    """Those of one connection.

    Args:
        kept: the data of its sockets that the edge has from before, by namespace.
    """

    def __init__(self, kept: dict[str, Any]) -> None:
        self._numbers = itertools.count(1)
        self._pending: dict[int, Call] = {}
        self._kept = {namespace: len(wire.to_json(data)) for namespace, data in kept.items()}

    def pack(self, number: int, verb: str, **arguments: Any) -> bytes:
        """The body of a frame that asks for something.

        Raises `UsageError` if it is too long, with the data of sockets in other namespaces where it
        is about data: the edge has to send all of that to the next backend at once.
        """
        body = wire.to_json({"id": number, "verb": verb, **arguments})
        namespace, is_data = arguments["namespace"], verb in ("enter", "data")
        others = sum(size for name, size in self._kept.items() if name != namespace)
        size = len(body) + (others if is_data else 0)
        if size > wire.MAX_CALL:
            raise UsageError(
                f"What the edge of this client is to know ({verb!r}) has {size:,} bytes as JSON, "
                f"of which it takes {wire.MAX_CALL:,}: keep less in `socket.data`, in all "
                "namespaces together, or join rooms in several calls."
            )
        if is_data:
            self._kept[namespace] = len(body)
        elif verb == "exit":
            self._kept.pop(namespace, None)
        return body

    @contextmanager
    def begin(self, then: Then | None = None) -> Iterator[Call]:
        """A new one."""
        call = Call(next(self._numbers), then)
        self._pending[call.number] = call
        try:
            yield call
        finally:
            del self._pending[call.number]

    def replied(self, reply: dict[str, Any]) -> None:
        """A reply has come; number 0 is about all of them. Raises `MalformedEnvelope`."""
        number = wire.field(reply, "id", int)
        call = self._pending.get(number)
        if call is not None:
            call.replied(reply)
        elif number == 0 and reply.get("pending"):
            for each in self._pending.values():
                each.is_pending()

    def fail(self) -> None:
        """The client is gone: none of them is replied to."""
        for call in self._pending.values():
            call.fail()
