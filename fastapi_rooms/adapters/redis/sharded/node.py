"""One master of a cluster: its two connections, and questions to any of its nodes."""

from __future__ import annotations

import asyncio
from typing import Any

import hiredis
from redis.asyncio.connection import ConnectionPool

from fastapi_rooms.adapters.redis.links.link import Link, pack
from fastapi_rooms.adapters.redis.pubsub.probe import Probe
from fastapi_rooms.adapters.redis.pubsub.publisher import Publisher
from fastapi_rooms.adapters.redis.pubsub.subscriber import Subscriber
from fastapi_rooms.adapters.redis.slots import Node
from fastapi_rooms.adapters.supervisor import supervise

TOPOLOGY = (b"CLUSTER", b"SLOTS")
"""Who serves what; understood by every version, and by what is compatible to Redis."""


class Master:
    """The two connections to one master."""

    def __init__(
        self, node: Node, publisher: Publisher, subscriber: Subscriber, round_trip: Probe
    ) -> None:
        self.node = node
        self.publisher = publisher
        self.subscriber = subscriber
        self.round_trip = round_trip
        self.tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Connect, and stay so."""
        publishing, subscribing = supervise(self.publisher), supervise(self.subscriber)
        self.tasks = [
            asyncio.create_task(publishing, name=f"fastapi_rooms publisher {self.node}"),
            asyncio.create_task(subscribing, name=f"fastapi_rooms subscriber {self.node}"),
            asyncio.create_task(self.round_trip.run(), name=f"fastapi_rooms probe {self.node}"),
        ]

    def stop(self, reason: str) -> list[asyncio.Task[None]]:
        """Give both connections up at once. Returns what is about to end."""
        self.subscriber.stop()
        self.subscriber.abort(reason)
        self.publisher.abort(reason)
        for task in self.tasks:
            task.cancel()
        return self.tasks

    @property
    def connected(self) -> bool:
        """Whether a message has come round by this node."""
        return self.round_trip.proven

    @property
    def refused(self) -> bool:
        """Whether we lack a right there."""
        parts = (self.publisher, self.subscriber, self.round_trip)
        return any(part.refused for part in parts)

    @property
    def why_down(self) -> str:
        """Why it is not connected, if that is known."""
        down = [p.why_down for p in (self.publisher, self.subscriber) if not p.connected]
        why = next(filter(None, down), "") if down else self.round_trip.why
        return f"{self.node}: {why}" if why else ""


async def ask_anew(pool: ConnectionPool, connect_timeout: float) -> Any:
    """Ask a node who serves what, over a connection of its own.

    Raises:
        redis.RedisError, OSError, TimeoutError, hiredis.ReplyError: there is no answer.
    """
    reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def answered(answer: Any) -> None:
        if not reply.done() and not isinstance(answer, hiredis.PushNotification):
            reply.set_result(answer)

    link = await Link.open(pool, answered, connect_timeout)
    try:
        link.write(pack(*TOPOLOGY))
        await asyncio.wait((reply, link.lost), return_when=asyncio.FIRST_COMPLETED)
        if not reply.done():
            raise ConnectionError(link.lost.result())
    finally:
        await link.close()
    answer = reply.result()
    if isinstance(answer, hiredis.ReplyError):
        raise answer
    return answer
