"""The ways to the workers that an edge or a backend has connections with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from weakref import WeakValueDictionary

from fastapi_rooms.core.in_flight import share
from fastapi_rooms.servers.gateway.passage import Passage
from fastapi_rooms.servers.gateway.posting import post
from fastapi_rooms.types import NodeId
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import Frame, FrameKind

Publish = Callable[[NodeId, FrameKind, bytes], Awaitable[object]]
"""Publishes a frame to a worker that belongs to no connection."""


class Passages:
    """One to each of them, as long as there is a connection that has it.

    Args:
        publish: publishes a frame.
        senders: tells how many of them send to this worker.
    """

    def __init__(self, publish: Publish, senders: Callable[[], int]) -> None:
        self._publish = publish
        self._senders = senders
        self._by_node: WeakValueDictionary[NodeId, Passage] = WeakValueDictionary()

    def to(self, node: NodeId) -> Passage:
        """The one to a worker."""
        found = self._by_node.get(node)
        if found is None:
            found = self._by_node[node] = Passage(partial(self._publish, node))
        return found

    def received(self, frame: Frame) -> bool:
        """Take a frame that is about them; false if it is not. Raises `MalformedEnvelope`."""
        if frame.kind is FrameKind.MARK:
            body = wire.pack_arrived(wire.unpack_mark(frame.body), share(self._senders()))
            post(self._publish(frame.origin, FrameKind.ARRIVED, body))
        elif frame.kind is FrameKind.ARRIVED:
            mark, limit = wire.unpack_arrived(frame.body)
            passage = self._by_node.get(frame.origin)
            if passage is not None:
                passage.arrived(mark, limit)
        else:
            return False
        return True

    def tick(self) -> None:
        """A heartbeat was sent: where somebody waits, see whether it still has to."""
        for passage in tuple(self._by_node.values()):
            passage.tick()
