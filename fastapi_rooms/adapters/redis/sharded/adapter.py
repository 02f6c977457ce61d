"""The adapter for Redis Cluster, by sharded pub/sub: a message goes to the node of its channel."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import replace

from redis.asyncio.cluster import RedisCluster

from fastapi_rooms.adapters.base import AdapterHealth, Receiver
from fastapi_rooms.adapters.connection_pair import Settings
from fastapi_rooms.adapters.connection_status import ConnectionStatus
from fastapi_rooms.adapters.declarations import Declaration
from fastapi_rooms.adapters.delegating import DelegatesPresence
from fastapi_rooms.adapters.history import Retention, RoomKey
from fastapi_rooms.adapters.redis.presence.rights import needs_to_declare
from fastapi_rooms.adapters.redis.sharded.access import access_of
from fastapi_rooms.adapters.redis.sharded.history import ClusterHistory
from fastapi_rooms.adapters.redis.sharded.node_pool import NodePool
from fastapi_rooms.adapters.redis.sharded.presence import ClusterPresence
from fastapi_rooms.adapters.redis.sharded.slots import slot_of
from fastapi_rooms.adapters.urls import Url
from fastapi_rooms.core.checks import check_positive
from fastapi_rooms.core.names import check_sharded_prefix
from fastapi_rooms.core.position import Position
from fastapi_rooms.core.room_log import Stretch
from fastapi_rooms.errors import AdapterUnavailable, NotStarted
from fastapi_rooms.types import Channel


class RedisClusterAdapter(DelegatesPresence):
    """Carries bytes between workers by a Redis Cluster's sharded pub/sub: Redis 7.0 or newer.

    Each worker has two connections to every master, and a third one for rooms whose messages are
    kept, or of which is known who is present; that is opened when the first of them at the node is
    used. Rooms are spread over the
    masters by their names. The messages of one sender to one room arrive in order, also while slots
    move or a replica takes over; those to different rooms may overtake each other. A prefix with a
    part in braces, such as `{shop}`, puts all rooms on one node, where order holds across them.

    Args:
        redis: a URL (`redis+cluster://host:7000,host:7001`, with TLS `rediss+cluster://`, with
            redis-py's query options) that names some of the nodes, or a
            `redis.asyncio.RedisCluster` of your own. Its settings are used; its connections not.
        prefix: the first part of every channel, so that applications can share one cluster.
        publish_timeout: seconds a message may take to be accepted, outages included.
        connect_timeout: seconds that opening a connection may take.
        max_buffered_bytes: how much may wait to be accepted, over all nodes; each message
            counts its length and 256 bytes.
        probe_interval: every so many seconds the adapter publishes a message to itself at each
            master. If it does not come back within as many seconds again, both connections there
            are made anew, however healthy their sockets look; if other messages do arrive, only
            when it is the third in a row.
        refresh_interval: at least so often, in seconds, one of the nodes is asked which node serves
            which slots. It is asked at once when a connection is lost or a slot has moved.

    Raises:
        ConfigurationError: for a URL or client that cannot be used, or a number that a setting
            cannot have.
    """

    def __init__(
        self,
        redis: Url | RedisCluster,
        *,
        prefix: str = "rooms",
        publish_timeout: float = 5.0,
        connect_timeout: float = 5.0,
        max_buffered_bytes: int = 32 * 1024 * 1024,
        probe_interval: float = 10.0,
        refresh_interval: float = 1.0,
    ) -> None:
        self._settings = Settings(
            publish_timeout, connect_timeout, max_buffered_bytes, probe_interval
        ).checked()
        check_positive("refresh_interval", refresh_interval)
        self._refresh_interval = refresh_interval
        self.prefix = check_sharded_prefix(prefix)
        self._access = access_of(redis)
        self._status = ConnectionStatus(
            "Redis", outage="A part of the Redis Cluster is out of reach, its rooms are local"
        )
        self._pool: NodePool | None = None
        self._history: ClusterHistory | None = None
        self._presence: ClusterPresence | None = None

    @property
    def health(self) -> AdapterHealth:
        """The state of the connections to all masters, taken together."""
        if self._pool is None:
            return AdapterHealth(False, self._status.since, None)
        health, presence = self._pool.health, self._presence
        if presence is None or not presence.malformed:
            return health
        return replace(health, dropped=health.dropped + presence.malformed)

    def shard_of(self, channel: Channel) -> int:
        """The slot of a channel: order holds within it."""
        return slot_of(channel)

    def is_reachable(self, channel: Channel) -> bool:
        """Whether the node of its slot is known and connected."""
        return self._pool is not None and self._pool.is_reachable(channel)

    async def start(self, receiver: Receiver, channels: Iterable[Channel]) -> None:
        """Find the masters and connect; return when ready, or when the first attempt failed.

        Raises:
            AdapterUnavailable: the cluster rejects the username or password.
        """
        self._status.start()
        pool = self._pool = NodePool(
            self._access,
            self._settings,
            self._refresh_interval,
            receiver,
            self._status,
            self.prefix,
        )
        self._history = ClusterHistory(pool.lanes, self.prefix)
        self._presence = ClusterPresence(pool.lanes, self.prefix)
        try:
            pool.require(channels)
            await self._status.first_attempt(self._settings.connect_timeout)
            why = pool.why_refused
            if why:
                raise AdapterUnavailable(f"Redis rejects the login: {why}")  # noqa: TRY301
        except BaseException:
            await self.close()
            raise

    def publish(self, channel: Channel, data: bytes) -> Awaitable[int | None]:
        """Send it; done when its node has accepted it, with the number of others it went to.

        For a few seconds after slots have moved, 0 is reported as `None`: subscribers may be on
        their way to another node.
        """
        return self._running().publish(channel, data)

    def publish_volatile(self, channel: Channel, data: bytes) -> None:
        """Send it if the node of its slot can take it at once."""
        self._running().publish_volatile(channel, data)

    def is_live(self, channel: Channel) -> bool:
        """Whether the node of its slot has confirmed it, and it is still wanted."""
        return self._pool is not None and self._pool.is_live(channel)

    async def subscribe(self, channels: Iterable[Channel]) -> None:
        """Return when every channel is confirmed by the node of its slot."""
        await self._running().subscribe(channels)

    def want(self, channels: Iterable[Channel]) -> None:
        """Subscribe to each channel when the node of its slot can be reached."""
        self._running().want(channels)

    def unsubscribe(self, channels: Iterable[Channel]) -> None:
        """Leave the channels with the next command."""
        self._running().unsubscribe(channels)

    def append(
        self, room: RoomKey, data: bytes, tag: int, retention: Retention
    ) -> Awaitable[Position]:
        """Number, keep and publish it by one script, at the node of its slot."""
        return self._running_history().append(room, data, tag, retention)

    async def read(self, room: RoomKey) -> Stretch[bytes]:
        """Read all that is kept of a room, and its top, from the master of its slot."""
        return await self._running_history().read(room)

    async def read_since(self, room: RoomKey, position: Position) -> Stretch[bytes]:
        """Read the top of a room, and what is kept from that of `position` on."""
        return await self._running_history().read(room, position)

    async def tops(self, rooms: Sequence[RoomKey]) -> list[Position | None]:
        """The top of each room. To ask for none connects to every master, and tries the rights."""
        return await self._running_history().tops(rooms)

    async def forget(self, room: RoomKey) -> None:
        """Delete the messages of a room, and keep the numbering."""
        await self._running_history().forget(room)

    async def declare(self, declarations: Sequence[Declaration]) -> None:
        """Tell others what rooms have, at the node of one key."""
        await self._running_history().declare(declarations, needs_to_declare(declarations))

    async def declared(self) -> list[Declaration]:
        """What rooms have, as workers have told."""
        return await self._running_history().declared()

    async def close(self) -> None:
        """Close every connection."""
        pool, self._pool = self._pool, None
        self._history = self._presence = None
        if pool is not None:
            await pool.close()
            self._status.close()

    def _running_history(self) -> ClusterHistory:
        if self._history is None:
            raise NotStarted
        return self._history

    def _running_presence(self) -> ClusterPresence:
        if self._presence is None:
            raise NotStarted
        return self._presence

    def _running(self) -> NodePool:
        if self._pool is None:
            raise NotStarted
        return self._pool
