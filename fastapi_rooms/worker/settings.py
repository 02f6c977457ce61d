"""What a `RoomManager` is told."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from fastapi_rooms.cluster.heartbeat import HeartbeatSettings
from fastapi_rooms.core.checks import check_count, check_not_negative, check_positive
from fastapi_rooms.core.drain_schedule import DrainSchedule
from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.errors import TooManyRooms
from fastapi_rooms.types import Room

MAX_ROOMS_PER_SOCKET = 1000
"""Far more than a client needs, and few enough that one client cannot do harm by joining."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one manager, for its namespaces to go by.

    Raises:
        ConfigurationError: a number that its setting cannot have.
    """

    outbox: OutboxPolicy
    join_timeout: float
    linger: float
    max_message_bytes: int
    direct: bool
    request_timeout: float = 5.0
    pace: HeartbeatSettings = HeartbeatSettings()  # noqa: RUF009 -- immutable
    max_rooms_per_socket: int = MAX_ROOMS_PER_SOCKET
    drain_schedule: DrainSchedule = field(default_factory=DrainSchedule)

    def __post_init__(self) -> None:
        check_positive("join_timeout", self.join_timeout)
        check_not_negative("linger", self.linger)
        check_count("max_message_bytes", self.max_message_bytes, "bytes")
        check_positive("request_timeout", self.request_timeout)
        check_count("max_rooms_per_socket", self.max_rooms_per_socket, "rooms")

    def check_rooms(self, mine: Collection[Room], new: Collection[Room]) -> None:
        """Raise `TooManyRooms` if a socket in some rooms may not be in some more."""
        limit = self.max_rooms_per_socket
        if len(mine) + len(new) > limit:  # its own is one of these, and not counted
            rooms = len({*mine, *new}) - 1
            if rooms > limit:
                raise TooManyRooms(rooms, limit)
