"""The settings of a `RoomManager`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypedDict, get_args

from fastapi_rooms.cluster.heartbeat import HeartbeatSettings
from fastapi_rooms.core.checks import (
    check_count,
    check_not_negative,
    check_one_of,
    check_positive,
)
from fastapi_rooms.core.compression import Compression
from fastapi_rooms.core.drain_schedule import DrainSchedule
from fastapi_rooms.core.json_codec import DEFAULT_JSON, JsonCodec
from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.errors import TooManyRooms
from fastapi_rooms.types import Room
from fastapi_rooms.wire.socketio.settings import SocketIO

MAX_ROOMS_PER_SOCKET = 1000
"""Far more than a client needs, and few enough that one client cannot do harm by joining."""


WhenUnavailable: TypeAlias = Literal["refuse", "admit"]
"""What becomes of a client that comes while the adapter's carrier is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one manager, which its namespaces share. Times are in seconds.

    Raises:
        ConfigurationError: a setting has a value that it cannot have.
    """

    outbox: OutboxPolicy = field(default_factory=OutboxPolicy)
    join_timeout: float = 5.0
    linger: float = 1.0
    max_lag: float = 0.5
    max_message_bytes: int = 16 * 1024 * 1024
    max_rooms_per_socket: int = MAX_ROOMS_PER_SOCKET
    request_timeout: float = 5.0
    heartbeat: HeartbeatSettings = field(default_factory=HeartbeatSettings)
    drain_schedule: DrainSchedule = field(default_factory=DrainSchedule)
    direct_writes: bool = True
    compression: Compression | None = field(default_factory=Compression)
    json: JsonCodec = DEFAULT_JSON
    when_unavailable: WhenUnavailable = "refuse"
    socketio: SocketIO | None = None

    def __post_init__(self) -> None:
        check_positive("join_timeout", self.join_timeout)
        check_not_negative("linger", self.linger)
        check_positive("max_lag", self.max_lag)
        check_count("max_message_bytes", self.max_message_bytes, "bytes")
        check_positive("request_timeout", self.request_timeout)
        check_count("max_rooms_per_socket", self.max_rooms_per_socket, "rooms")
        check_one_of("when_unavailable", self.when_unavailable, get_args(WhenUnavailable))

    @property
    def admits(self) -> bool:
        """Whether clients are let in while the carrier is away."""
        return self.when_unavailable == "admit"

    def check_rooms(self, mine: Collection[Room], new: Collection[Room]) -> None:
        """Raise `TooManyRooms` if a socket in some rooms may not be in some more."""
        limit = self.max_rooms_per_socket
        if len(mine) + len(new) > limit:  # its own is one of these, and not counted
            rooms = len({*mine, *new}) - 1
            if rooms > limit:
                raise TooManyRooms(rooms, limit)


class ManagerSettings(TypedDict, total=False):
    """What `RoomManager` takes besides the adapter, which says what each of them means."""

    outbox: OutboxPolicy
    prefix: str | None
    join_timeout: float
    publish_timeout: float
    linger: float
    max_lag: float
    max_message_bytes: int
    max_rooms_per_socket: int
    request_timeout: float
    heartbeat: float
    observer: bool
    drain_window: float
    drain_timeout: float
    direct_writes: bool
    compression: Compression | bool | None
    json: JsonCodec
    when_unavailable: WhenUnavailable
    socketio: SocketIO | None
