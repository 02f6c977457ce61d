"""A keeper of presence with the host that it tells, as tests have it."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi_rooms.adapters.presence import Entry, RoomKey, UserEvent
from fastapi_rooms.core.own_presence import OwnRoom
from fastapi_rooms.presence.host import Name
from fastapi_rooms.presence.keeper import PresenceKeeper
from fastapi_rooms.testing import eventually
from tests.unit.presence.support import CarrierInHand

NODE, OTHER = "0123456789abcdef", "fedcba9876543210"
TEA, RUM = Name("/", "tea"), Name("/", "rum")
ANN, BOB, CEM = Entry("1", "ann"), Entry("2", "bob"), Entry("3", "cem")
KEY = RoomKey(TEA.key, b"channel of tea")


class Host:
    """Who declares graces, and is told."""

    def __init__(self) -> None:
        self.grace = 0.0
        self.told: list[str] = []
        self.versions: dict[Name, int] = {}
        self.unheard: list[int] = []

    def grace_of(self, name: Name) -> float:
        return self.grace

    def made(self, name: Name, events: Sequence[UserEvent]) -> None:
        self.told += [f"{event.kind} {event.user}" for event in events]

    def heard(self, name: Name) -> int:
        return self.versions.get(name, 0)

    def compared(self, name: Name, version: int) -> None:
        self.unheard.append(version)
        self.versions[name] = version


class Keeping:
    """A keeper that runs, its host and its carrier."""

    def __init__(self, carrier: CarrierInHand, *, heartbeat: float = 60, node: str = NODE) -> None:
        self.carrier = carrier
        self.host = Host()
        self.connection = 0
        self.keeper = PresenceKeeper(
            node,
            carrier,
            lambda namespace, room: f"channel of {room}".encode(),
            self.host,
            heartbeat,
            lambda: self.connection,
        )
        self.keeper.start()

    async def entries(self, name: Name = TEA) -> set[Entry]:
        """What the carrier has of a room."""
        return {*(await self.carrier.present(RoomKey(name.key, b""))).entries}

    async def has(self, *entries: Entry, name: Name = TEA) -> None:
        """Wait until the carrier has exactly these, and the keeper has nothing more to tell."""

        async def is_so() -> bool:
            is_told = all(not room.is_due and not room.is_busy for room in self.rooms.values())
            return is_told and await self.entries(name) == {*entries}

        await eventually(is_so, what=f"the carrier has {entries}")

    @property
    def rooms(self) -> dict[Name, OwnRoom]:
        return self.keeper._rooms
