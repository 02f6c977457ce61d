"""This worker's cluster, and a carrier in a test's hands, by which the tests play the others."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from fastapi_rooms import AdapterHealth, AdapterUnavailable
from fastapi_rooms.cluster.cluster import Cluster
from fastapi_rooms.cluster.commands import EmptyNamespace
from fastapi_rooms.cluster.heartbeat import HeartbeatSettings
from fastapi_rooms.core.names import Channels
from fastapi_rooms.core.target import Target
from fastapi_rooms.operators.dispatcher import ClusterRequest
from fastapi_rooms.testing import eventually
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Envelope, Heartbeat, HeartbeatKind, Reply, Request
from fastapi_rooms.wire.verbs import Verb
from tests.unit.support import WORKERS, FakeAdapter

ME, ANN, BOB = "0" * 16, "a" * 16, "b" * 16
COUNT = ClusterRequest(Verb.COUNT, Target(), {})
CHANNELS = Channels("rooms")
FAR = 3600.0


class Carrier(FakeAdapter):
    """Connected from the start; it says what it is told to of who receives what."""

    def __init__(self) -> None:
        super().__init__()
        self.health = AdapterHealth(connected=True, since=0, last_received=None)
        self.sent: list[tuple[bytes, Envelope]] = []
        self.volatile: list[tuple[bytes, Envelope]] = []
        self.receivers: dict[bytes, int | None] = {}
        self.down = False

    async def publish(self, channel: bytes, data: bytes) -> int | None:
        self.sent.append((channel, codec.decode(data)))
        await self._pass()
        self._check()
        return self.receivers.get(channel, 0)

    def publish_volatile(self, channel: bytes, data: bytes) -> None:
        self.volatile.append((channel, codec.decode(data)))

    async def subscribe(self, channels: Iterable[bytes]) -> None:
        self._check()

    def _check(self) -> None:
        if self.down:
            raise AdapterUnavailable("down")

    def heartbeats(self) -> list[tuple[bytes, HeartbeatKind]]:
        """The heartbeats that were published, and where."""
        return [(to, sent.kind) for to, sent in self.sent if isinstance(sent, Heartbeat)]

    def volatile_heartbeats(self) -> list[tuple[bytes, HeartbeatKind]]:
        """Those that were sent only if that was possible at once."""
        return [(to, sent.kind) for to, sent in self.volatile if isinstance(sent, Heartbeat)]

    def requests(self) -> list[Request]:
        return [message for _, message in self.sent if isinstance(message, Request)]

    def replies(self) -> list[Reply]:
        return [message for _, message in self.sent if isinstance(message, Reply)]


class HandlerNamespace(EmptyNamespace):
    """A namespace with a handler that does what a test wants."""

    def __init__(self) -> None:
        self.results: list[Any] = []

    def handle(self, event: str, args: list[Any]) -> Any:
        result = self.results.pop()
        if isinstance(result, BaseException):
            raise result
        return result


def make_cluster(
    carrier: Carrier, namespace: HandlerNamespace | None = None, **heartbeat: Any
) -> Cluster:
    numbers = itertools.count(1)
    settings = HeartbeatSettings(**{"interval": FAR} | heartbeat)
    namespaces = {"/": namespace or HandlerNamespace()}
    return Cluster(ME, carrier, CHANNELS, settings, lambda: next(numbers), namespaces)


def receive_heartbeat(
    cluster: Cluster, node: str, kind: HeartbeatKind, interval: float = FAR
) -> None:
    """Another worker sends a heartbeat."""
    assert cluster.received(Heartbeat(node, 1, kind, interval))


async def request_of(carrier: Carrier) -> Request:
    """The last request that this worker has sent, once there is one."""
    await eventually(lambda: bool(carrier.requests()), what="a request")
    return carrier.requests()[-1]


def reply(
    cluster: Cluster,
    node: str,
    request: Request,
    data: bytes,
    *,
    refused: bool = False,
    unsupported: bool = False,
) -> bool:
    """Another worker answers a request; returns whether the answer was taken."""
    return cluster.received(
        Reply(
            node, 1, request.id, 0, last=True, refused=refused, data=data, unsupported=unsupported
        )
    )


def add_pattern_subscribers(carrier: Carrier, number: int, *others: str) -> None:
    """Have every channel received by so many, beside the workers who are there."""

    class Receivers(dict[bytes, int | None]):
        def get(self, channel: bytes, default: Any = None) -> int:
            return number + (len(others) if channel == WORKERS else 0)

    carrier.receivers = Receivers()
