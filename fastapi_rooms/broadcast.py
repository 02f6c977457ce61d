"""The operator that says who gets a message: immutable, every call a new one."""

from __future__ import annotations

from typing import Any, Protocol

from fastapi_rooms.codec import MAX_NAMES
from fastapi_rooms.envelope import Target
from fastapi_rooms.errors import UsageError
from fastapi_rooms.frames import Payload
from fastapi_rooms.names import check_rooms
from fastapi_rooms.types import Room


class Deliverer(Protocol):
    """What an operator hands its message to: a namespace."""

    async def deliver(
        self, target: Target, payload: Payload, *, local: bool, volatile: bool
    ) -> None:
        """Deliver to the target's members here and, unless `local`, on every other worker."""


class BroadcastOperator:
    """Whom to send to. Chain it in any order; keep it and use it again as often as you like.

        await rooms.to("lobby", "bar").except_("muted").send_json({"hello": "everyone"})

    A socket in several of the rooms gets the message once. Without `to`, everyone in the
    namespace gets it.
    """

    __slots__ = ("_deliverer", "_local", "_target", "_volatile")

    def __init__(
        self,
        deliverer: Deliverer,
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
