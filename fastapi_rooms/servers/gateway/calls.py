"""What was asked of an edge, and has not been answered yet."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi_rooms.errors import AdapterUnavailable
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


class Call:
    """One that waits for its reply."""

    def __init__(self, number: int) -> None:
        self.number = number
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
        elif not reply.get("pending"):
            self._reply.set_result(reply)
        elif self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time() + self._timeout)

    def fail(self) -> None:
        """There will be no reply."""
        if not self._reply.done():
            self._reply.set_exception(ConnectionError("the client is gone"))
            self._reply.exception()  # whoever has been cancelled does not ask for it


class Calls:
    """Those of one connection."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._pending: dict[int, Call] = {}

    @contextmanager
    def begin(self) -> Iterator[Call]:
        """A new one."""
        call = Call(next(self._numbers))
        self._pending[call.number] = call
        try:
            yield call
        finally:
            del self._pending[call.number]

    def replied(self, reply: dict[str, Any]) -> None:
        """A reply has come. Raises `MalformedEnvelope`."""
        call = self._pending.get(wire.field(reply, "id", int))
        if call is not None:
            call.replied(reply)

    def fail(self) -> None:
        """The client is gone: none of them is replied to."""
        for call in self._pending.values():
            call.fail()
