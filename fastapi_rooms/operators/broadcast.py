"""The operator that says who gets a message: immutable, every call a new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi_rooms.core.names import check_rooms
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import UsageError
from fastapi_rooms.operators.commands import (
    ClusterRequest,
    Dispatcher,
    Part,
    ResponseReader,
    SocketCommands,
    T,
)
from fastapi_rooms.types import Room
from fastapi_rooms.wire.codec import MAX_NAMES


class BroadcastOperator(SocketCommands):
    """Whom to send to, or do something with. Chain it in any order, keep it, use it again.

        await rooms.to("lobby", "bar").except_("muted").send_json({"hello": "everyone"})

    A socket in several of the rooms gets the message once. Without `to`, everyone in the
    namespace gets it.
    """

    __slots__ = ("_deliverer", "_local", "_target", "_volatile")

    def __init__(
        self,
        deliverer: Dispatcher,
        target: Target = Target(),  # noqa: B008 -- immutable
        *,
        local: bool = False,
        volatile: bool = False,
    ) -> None:
        self._deliverer = deliverer
        self._target = target
        self._local = local
        self._volatile = volatile

    def to(self, *names: Room) -> BroadcastOperator:
        """Address these rooms, or sids, too.

        No names address nobody: a computed list that comes out empty must not reach everyone.

        Raises:
            InvalidRoomName: a name is not a string of 1 to 255 UTF-8 bytes.
            UsageError: these are more than 65,535 names.
        """
        return self._at(self._target.to(check_rooms(names)))

    def except_(self, *names: Room) -> BroadcastOperator:
        """Leave out every socket that is in one of these rooms, or has one of these sids.

        Raises:
            InvalidRoomName: a name is not a string of 1 to 255 UTF-8 bytes.
            UsageError: these are more than 65,535 names.
        """
        return self._at(self._target.excluding(check_rooms(names)))

    @property
    def local(self) -> BroadcastOperator:
        """Only this worker's sockets."""
        return BroadcastOperator(self._deliverer, self._target, local=True, volatile=self._volatile)

    @property
    def volatile(self) -> BroadcastOperator:
        """Skip sockets that cannot take it now; never raise for, or wait for, the adapter."""
        return BroadcastOperator(self._deliverer, self._target, local=self._local, volatile=True)

    async def send_text(self, data: str) -> None:
        """Send text.

        Returns when local sockets have it in their outboxes and the adapter has accepted it.

        Raises:
            AdapterUnavailable: the adapter did not accept it in time; local sockets have it.
            MessageTooLarge: it is over the manager's limit; nobody has it.
            NotStarted: the manager is not running.
        """
        await self._deliverer.deliver(
            self._target, Payload.of_text(data), local=self._local, volatile=self._volatile
        )

    async def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, as `send_text` does text."""
        await self._deliverer.deliver(
            self._target, Payload.of_bytes(data), local=self._local, volatile=self._volatile
        )

    async def send_json(self, data: Any) -> None:
        """Send what orjson makes of `data`, as a text message, as `send_text` does."""
        await self._deliverer.deliver(
            self._target, Payload.of_json(data), local=self._local, volatile=self._volatile
        )

    async def _ask(
        self,
        verb: str,
        arguments: Mapping[str, Any],
        answer: ResponseReader[Part, T],
        timeout: float | None,
    ) -> T:
        ask = ClusterRequest(verb, self._target, arguments, elsewhere=not self._local)
        return await self._deliverer.ask(ask, answer, timeout)

    @property
    def _asker(self) -> Dispatcher:
        return self._deliverer

    def _at(self, target: Target) -> BroadcastOperator:
        if len(target.rooms or ()) > MAX_NAMES or len(target.except_) > MAX_NAMES:
            raise UsageError(f"One broadcast can name, or leave out, at most {MAX_NAMES} rooms.")
        return BroadcastOperator(
            self._deliverer, target, local=self._local, volatile=self._volatile
        )

    def __repr__(self) -> str:
        words = [f"to={self._target.rooms}", f"except_={self._target.except_}"]
        words += ["local"] * self._local + ["volatile"] * self._volatile
        return f"<BroadcastOperator {' '.join(words)}>"


class Everyone(SocketCommands):
    """What may be done with everyone in a namespace, and how to address fewer."""

    @property
    def _everyone(self) -> BroadcastOperator:
        raise NotImplementedError

    def to(self, *names: Room) -> BroadcastOperator:
        """Address rooms or sids: see `BroadcastOperator.to`."""
        return self._everyone.to(*names)

    def except_(self, *names: Room) -> BroadcastOperator:
        """Address everyone but some rooms or sids: see `BroadcastOperator.except_`."""
        return self._everyone.except_(*names)

    @property
    def local(self) -> BroadcastOperator:
        """Address this worker's sockets only."""
        return self._everyone.local

    @property
    def volatile(self) -> BroadcastOperator:
        """Address those that can take it now: see `BroadcastOperator.volatile`."""
        return self._everyone.volatile

    async def send_text(self, data: str) -> None:
        """Send text to everyone in the namespace: see `BroadcastOperator.send_text`."""
        await self._everyone.send_text(data)

    async def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes to everyone in the namespace."""
        await self._everyone.send_bytes(data)

    async def send_json(self, data: Any) -> None:
        """Send JSON to everyone in the namespace."""
        await self._everyone.send_json(data)

    async def _ask(
        self,
        verb: str,
        arguments: Mapping[str, Any],
        answer: ResponseReader[Part, T],
        timeout: float | None,
    ) -> T:
        return await self._asker.ask(ClusterRequest(verb, Target(), arguments), answer, timeout)
