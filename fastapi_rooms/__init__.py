"""Rooms for native FastAPI WebSocket endpoints, across any number of workers.

Start reading at `manager.py` for what a user touches, `everywhere.py` for the path of a broadcast,
`adapters/base.py` for what lies between workers.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from fastapi_rooms.adapters import (
    Adapter,
    AdapterHealth,
    MemoryAdapter,
    MemoryBus,
    Outage,
    Receiver,
    RedisAdapter,
    RedisClusterAdapter,
)
from fastapi_rooms.broadcast import BroadcastOperator
from fastapi_rooms.cluster.description import Worker
from fastapi_rooms.cluster.remote import RemoteSocket, ServerReply
from fastapi_rooms.door.origins import AllowedOrigins
from fastapi_rooms.door.ratelimit import RateLimit
from fastapi_rooms.emitter import AsyncEmitter, EmitNamespace, EmitOperator, Emitter
from fastapi_rooms.errors import (
    AdapterError,
    AdapterUnavailable,
    ClientError,
    ConfigurationError,
    InvalidMessage,
    InvalidNamespace,
    InvalidRoomName,
    JoinRefused,
    ListenerOverflow,
    MalformedEnvelope,
    MessageTooLarge,
    NotStarted,
    RateLimited,
    RequestError,
    RequestRefused,
    RequestTimeout,
    RoomsError,
    ShuttingDown,
    SidInUse,
    SocketClosed,
    TooManyRooms,
    UsageError,
)
from fastapi_rooms.events import Gap
from fastapi_rooms.listener import Listener, RoomMessage
from fastapi_rooms.manager import RoomManager
from fastapi_rooms.namespace import Namespace
from fastapi_rooms.outbox import OutboxPolicy
from fastapi_rooms.runtime import Health
from fastapi_rooms.socket import Socket

__all__ = [  # noqa: RUF022 -- grouped by module
    # .adapters
    "Adapter",
    "AdapterHealth",
    "MemoryAdapter",
    "MemoryBus",
    "Outage",
    "Receiver",
    "RedisAdapter",
    "RedisClusterAdapter",
    # .broadcast
    "BroadcastOperator",
    # .cluster
    "RemoteSocket",
    "ServerReply",
    "Worker",
    # .door
    "AllowedOrigins",
    "RateLimit",
    # .emitter
    "AsyncEmitter",
    "EmitNamespace",
    "EmitOperator",
    "Emitter",
    # .errors
    "AdapterError",
    "AdapterUnavailable",
    "ClientError",
    "ConfigurationError",
    "InvalidMessage",
    "InvalidNamespace",
    "InvalidRoomName",
    "JoinRefused",
    "ListenerOverflow",
    "MalformedEnvelope",
    "MessageTooLarge",
    "NotStarted",
    "RateLimited",
    "RequestError",
    "RequestRefused",
    "RequestTimeout",
    "RoomsError",
    "ShuttingDown",
    "SidInUse",
    "SocketClosed",
    "TooManyRooms",
    "UsageError",
    # .events
    "Gap",
    # .listener
    "Listener",
    "RoomMessage",
    # .manager
    "RoomManager",
    # .namespace
    "Namespace",
    # .outbox
    "OutboxPolicy",
    # .runtime
    "Health",
    # .socket
    "Socket",
]

try:
    __version__ = version("fastapi-rooms")
except PackageNotFoundError:  # used from a checkout that is not installed
    __version__ = "0+unknown"
