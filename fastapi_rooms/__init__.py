"""Rooms for native FastAPI WebSocket endpoints, across any number of workers.

Start reading at `manager.py` for what a user touches, `worker/local_namespace.py` for the path of a
broadcast, `adapters/base.py` for what lies between workers. A module's folder says its layer:

errors, types, concurrency       the ground
core                             state and its transitions: pure
wire, transports, security       bytes between workers; the way to a client; origins, rate limits
operators, adapters, servers     what users chain; what carries bytes; servers' insides
cluster, history, presence       workers among themselves; rooms that remember; who is present
socketio                         Node servers of Socket.IO on the same Redis
emitter                          other processes
client                           the other end of a WebSocket: for browsers, and for Python
worker                           this worker: sockets, rooms, fan-out, drain
namespace, manager               what users touch
cli, testing                     edges, on the public API alone
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from fastapi_rooms import client
from fastapi_rooms.adapters import (
    Adapter,
    AdapterHealth,
    MemoryAdapter,
    MemoryBus,
    Outage,
    RabbitMQAdapter,
    Receiver,
    RedisAdapter,
    RedisClusterAdapter,
)
from fastapi_rooms.cluster.description import BackendRole, EdgeRole, Worker
from fastapi_rooms.core.compression import Compression
from fastapi_rooms.core.json_codec import JsonCodec
from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.emitter import AsyncEmitter, EmitNamespace, EmitOperator, EmitPresence, Emitter
from fastapi_rooms.errors import (
    AdapterError,
    AdapterUnavailable,
    ClientError,
    ConfigurationError,
    Disconnected,
    InvalidMessage,
    InvalidNamespace,
    InvalidRoomName,
    InvalidText,
    JoinRefused,
    ListenerOverflow,
    MalformedEnvelope,
    MessageTooLarge,
    NotConnected,
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
from fastapi_rooms.gateway import Backend, BackendHealth, Gateway, GatewayHealth
from fastapi_rooms.manager import RoomManager
from fastapi_rooms.namespace import Namespace, SyncNamespace
from fastapi_rooms.operators.broadcast import BroadcastOperator
from fastapi_rooms.operators.present import Present, PresentUser
from fastapi_rooms.operators.remote import RemoteSocket, ServerReply
from fastapi_rooms.operators.sync import SyncOperator
from fastapi_rooms.security.origins import AllowedOrigins
from fastapi_rooms.security.rate_limit import RateLimit
from fastapi_rooms.wire.socketio.events import EventCodec, Events
from fastapi_rooms.wire.socketio.settings import SocketIO
from fastapi_rooms.worker.events import Gap, WorkerLost
from fastapi_rooms.worker.listener import Listener
from fastapi_rooms.worker.presence import Presence, PresenceEvent
from fastapi_rooms.worker.resume import Joined
from fastapi_rooms.worker.room_message import RoomMessage
from fastapi_rooms.worker.runtime import Health
from fastapi_rooms.worker.settings import ManagerSettings
from fastapi_rooms.worker.socket import Socket

__all__ = [  # noqa: RUF022 -- grouped by module
    # .adapters
    "Adapter",
    "AdapterHealth",
    "MemoryAdapter",
    "MemoryBus",
    "Outage",
    "RabbitMQAdapter",
    "Receiver",
    "RedisAdapter",
    "RedisClusterAdapter",
    # .client
    "client",
    # .cluster
    "BackendRole",
    "EdgeRole",
    "Worker",
    # .core
    "Compression",
    "JsonCodec",
    "OutboxPolicy",
    # .emitter
    "AsyncEmitter",
    "EmitNamespace",
    "EmitOperator",
    "EmitPresence",
    "Emitter",
    # .errors
    "AdapterError",
    "AdapterUnavailable",
    "ClientError",
    "ConfigurationError",
    "Disconnected",
    "InvalidMessage",
    "InvalidNamespace",
    "InvalidRoomName",
    "InvalidText",
    "JoinRefused",
    "ListenerOverflow",
    "MalformedEnvelope",
    "MessageTooLarge",
    "NotConnected",
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
    # .gateway
    "Backend",
    "BackendHealth",
    "Gateway",
    "GatewayHealth",
    # .manager
    "RoomManager",
    # .namespace
    "Namespace",
    "SyncNamespace",
    # .operators
    "BroadcastOperator",
    "Present",
    "PresentUser",
    "RemoteSocket",
    "ServerReply",
    "SyncOperator",
    # .security
    "AllowedOrigins",
    "RateLimit",
    # .wire
    "EventCodec",
    "Events",
    "SocketIO",
    # .worker
    "Gap",
    "Health",
    "Joined",
    "Listener",
    "ManagerSettings",
    "Presence",
    "PresenceEvent",
    "RoomMessage",
    "Socket",
    "WorkerLost",
]

try:
    __version__ = version("fastapi-rooms")
except PackageNotFoundError:  # used from a checkout that is not installed
    __version__ = "0+unknown"
