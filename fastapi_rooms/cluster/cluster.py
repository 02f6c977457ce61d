"""This worker among the others: who lives, what is asked of them, and what they ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from inspect import isawaitable

from fastapi_rooms.adapters.base import Adapter
from fastapi_rooms.cluster.collect import collect
from fastapi_rooms.cluster.commands import COMMANDS, EMPTY_NAMESPACE, bytes_of
from fastapi_rooms.cluster.heartbeat import HeartbeatMonitor, HeartbeatSettings
from fastapi_rooms.cluster.known_rooms import KnownRooms, ToldOfLosses
from fastapi_rooms.cluster.pending import PendingRequest
from fastapi_rooms.cluster.requester import Requester
from fastapi_rooms.cluster.responder import Responder, reason_of
from fastapi_rooms.cluster.sender import Sender
from fastapi_rooms.core.names import Channels
from fastapi_rooms.errors import AdapterUnavailable, ClientError
from fastapi_rooms.operators.dispatcher import ClusterRequest, Part, ResponseReader, T
from fastapi_rooms.types import Channel, NodeId
from fastapi_rooms.wire.envelope import Heartbeat, Reply, Request


class Cluster:
    """This worker and the others, from one start of the manager to its close."""

    def __init__(
        self,
        node: NodeId,
        adapter: Adapter,
        channels: Channels,
        settings: HeartbeatSettings,
        next_sequence: Callable[[], int],
        namespaces: Mapping[str, ToldOfLosses],
    ) -> None:
        self._node = node
        self._channels = channels
        self._observer = settings.observer
        self._namespaces = namespaces
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._sender = Sender(node, adapter, channels, next_sequence)
        self._monitor = HeartbeatMonitor(self._sender, settings, self)
        self._requester = Requester(self._sender, self._monitor)
        self._responder = Responder(self._sender, namespaces)
        self._known_rooms = KnownRooms(
            self.request, namespaces, settings.interval, self._monitor.may_live
        )

    @property
    def nodes(self) -> frozenset[NodeId]:
        """The live workers, this one among them."""
        here = frozenset[NodeId]() if self._observer else {self._node}
        return frozenset(self._monitor.peers) | here

    def knows(self, node: NodeId) -> bool:
        """Whether it is one of the other live workers."""
        return node in self._monitor.peers

    @property
    def uptime(self) -> float:
        """Seconds since the start of the manager."""
        return self._loop.time() - self._started

    @property
    def own_channels(self) -> list[Channel]:
        """The channels that are held from start to close."""
        own = [self._sender.channel_of(self._node)]
        if not self._observer:
            own += [self._sender.channel_of(None), self._channels.of_sids(self._node)]
        return own

    async def start(self) -> None:
        """Discover the others: see `HeartbeatMonitor.start`."""
        await self._monitor.start()
        self._known_rooms.start()

    def discover(self) -> None:
        """Find out again who is there, after this worker was cut off."""
        self._monitor.discover()

    async def close(self, timeout: float) -> None:
        """End what is under way, each kind of it in at most so many seconds, and say goodbye.

        Whoever waits for answers, or for the others to be discovered, gets `NotStarted`.
        """
        self._requester.close()
        self._monitor.discovered.set()
        await self._known_rooms.close(timeout)
        await self._responder.close(timeout)
        await self._monitor.close(timeout)

    # Asking.

    async def request(
        self,
        namespace: str,
        request: ClusterRequest,
        reader: ResponseReader[Part, T],
        timeout: float,
    ) -> T:
        """Have this worker and the others carry out a request, and read their responses.

        Raises:
            RequestTimeout, RequestRefused: see `collect`.
            AdapterUnavailable: this worker could not do it in time, and the others were not asked;
                or the adapter did not accept the request in time.
            NotStarted: the manager was closed in the meantime.
        """
        deadline = self._loop.time() + timeout
        response = refusal = None
        if request.here and request.node in (None, self._node):
            try:
                async with asyncio.timeout_at(deadline):
                    response = await self._execute(namespace, request)
            except TimeoutError:
                raise AdapterUnavailable(
                    f"{str(request.verb)!r} was not done on this worker in {timeout:g} s: the "
                    "adapter did not confirm a room, or there is much to do. The others were not "
                    "asked."
                ) from None
            except (ClientError, TypeError) as error:  # one socket's, as on any other worker
                refusal = reason_of(error)
        if request.elsewhere and request.node != self._node:
            left = deadline - self._loop.time()
            pending = await self._requester.ask(namespace, request, left)
        else:
            pending = PendingRequest(())
        if response is not None:
            pending.responses[self._node] = response
        if refusal is not None:
            pending.refusals[self._node] = refusal
        return await collect(request, reader, pending, timeout)

    async def _execute(self, namespace: str, request: ClusterRequest) -> bytes:
        """The response of this worker, through the same command as any other's."""
        command = COMMANDS[request.verb]
        found = self._namespaces.get(namespace, EMPTY_NAMESPACE)
        result = command(found, request.target, request.arguments)
        return bytes_of(await result if isawaitable(result) else result)

    async def notify(self, namespace: str, request: ClusterRequest) -> None:
        """Ask the other workers for something that nobody is to answer.

        Raises:
            AdapterUnavailable: the adapter did not accept the request in time.
        """
        await self._requester.notify(namespace, request)

    # What the others send.

    def received(self, envelope: Request | Reply | Heartbeat) -> bool:
        """Take what another worker sent; false if it fits nothing here."""
        match envelope:
            case Request():
                return self._responder.requested(envelope)
            case Reply():
                return self._requester.replied(envelope)
            case Heartbeat():
                self._monitor.received(envelope)
        return True

    # What the heartbeat monitor calls.

    def met(self, node: NodeId, *, new: bool) -> None:
        """A worker that was not known has sent a heartbeat."""
        self._requester.met(node, new=new)

    def gone(self, node: NodeId, *, left: bool) -> None:
        """A worker has stopped, or died."""
        self._requester.gone(node, left=left)
        if left:
            self._known_rooms.forget(node)

    def lost(self, node: NodeId) -> None:
        """A worker has died without saying so."""
        for name, namespace in list(self._namespaces.items()):
            if namespace.wants_losses:
                namespace.worker_lost(node, self._known_rooms.of(node, name))
        self._known_rooms.forget(node)
