"""Asks the other workers, and waits for their answers.

A request ends as soon as it can, and not before:

* Nothing is asked before the others have had a moment to answer our HELLO. A worker that
  is too busy for that gets requests all the same. The carrier says how many it gave them to, so
  nothing is complete without that worker's answer.
* A worker that left, or died, is not waited for. When an answer is late, that is looked into.
* A worker that is merely frozen still has its subscriptions. It is waited for until the timeout, or
  until it has been silent for so long that it is taken for dead: see `peers`.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress

from fastapi_rooms.cluster.heartbeat import HeartbeatMonitor
from fastapi_rooms.cluster.pending import PendingRequest
from fastapi_rooms.cluster.sender import Sender
from fastapi_rooms.errors import AdapterUnavailable, NotStarted
from fastapi_rooms.operators.dispatcher import ClusterRequest
from fastapi_rooms.types import NodeId
from fastapi_rooms.wire.envelope import Reply, Request

LATE_AFTER = 0.5
"""Seconds between two checks whether workers that have not answered still live."""

NO_REPLY = 0
"""The id of a request that nobody is to answer."""


class Requester:
    """The requests of this worker that are under way."""

    def __init__(self, sender: Sender, monitor: HeartbeatMonitor) -> None:
        self._sender = sender
        self._monitor = monitor
        self._loop = asyncio.get_running_loop()
        self._pending: dict[int, tuple[PendingRequest, asyncio.Future[None]]] = {}
        self._closed = False

    async def ask(self, namespace: str, request: ClusterRequest, timeout: float) -> PendingRequest:
        """Ask the other live workers, and return with what they have answered in time.

        Raises:
            AdapterUnavailable: the adapter did not accept the request in time.
            NotStarted: the manager was closed in the meantime.
        """
        deadline = self._loop.time() + timeout
        try:
            async with asyncio.timeout_at(deadline):
                await self._monitor.discovered.wait()
        except TimeoutError:
            raise AdapterUnavailable(
                "The time was up before this worker had found the others, which were not asked: "
                "the adapter is not connected, or has been for less than a second."
            ) from None
        asked = self._monitor.peers if request.node is None else (request.node,)
        pending = PendingRequest(asked, everyone=request.node is None)
        number = secrets.randbits(63) + 1
        answered: asyncio.Future[None] = self._loop.create_future()
        self._pending[number] = (pending, answered)
        try:
            self._check_open()
            async with asyncio.timeout_at(deadline):
                receivers = await self._send(namespace, request, number)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._wait(pending, answered, request.node, receivers)
        except TimeoutError:
            raise AdapterUnavailable(
                "The time was up before the adapter had accepted the request."
            ) from None
        except AdapterUnavailable:
            self._check_open()
            raise
        finally:
            del self._pending[number]
        self._check_open()
        return pending

    async def notify(self, namespace: str, request: ClusterRequest) -> None:
        """Ask for something that nobody is to answer. Raises `AdapterUnavailable`."""
        await self._send(namespace, request, NO_REPLY)

    def replied(self, reply: Reply) -> bool:
        """Take a reply; false if it fits nothing that was asked."""
        if reply.request not in self._pending:
            return True  # late: nobody waits for it any more
        pending, answered = self._pending[reply.request]
        fits = pending.take(reply)
        if fits and reply.origin not in self._monitor.peers:
            self._monitor.heard_from(reply.origin)
        _wake_if_done(pending, answered)
        return fits

    def met(self, node: NodeId, *, new: bool) -> None:
        """A worker that was not known has sent a heartbeat."""
        for pending, _ in self._pending.values():
            pending.met(node, new=new)

    def gone(self, node: NodeId, *, left: bool) -> None:
        """A worker has stopped, or died."""
        for pending, answered in self._pending.values():
            pending.gone(node, left=left)
            _wake_if_done(pending, answered)

    def close(self) -> None:
        """Wake up whoever waits; they get `NotStarted`."""
        self._closed = True
        for _, answered in self._pending.values():
            if not answered.done():
                answered.set_result(None)

    async def _send(self, namespace: str, request: ClusterRequest, number: int) -> int | None:
        arguments = dict(request.arguments)
        envelope = Request(
            self._sender.node, 0, namespace, request.target, number, request.verb, arguments
        )
        return await self._sender.send(request.node, envelope)

    async def _wait(
        self,
        pending: PendingRequest,
        answered: asyncio.Future[None],
        node: NodeId | None,
        receivers: int | None,
    ) -> None:
        """Return when everyone that got the request has answered, or is gone."""
        if node is None:
            pending.reached(receivers or 0)
            if pending.unidentified:
                with suppress(AdapterUnavailable):  # they are counted again if they do not answer
                    pending.reached(await self._monitor.workers_among(receivers) or 0)
        elif receivers == 0:
            self._monitor.gone(node)
        _wake_if_done(pending, answered)
        while not answered.done():
            await asyncio.wait((answered,), timeout=LATE_AFTER)
            if not answered.done():
                await self._check_late(pending)
                _wake_if_done(pending, answered)

    async def _check_late(self, pending: PendingRequest) -> None:
        for node in pending.missing:
            self._monitor.check(node)
        if pending.unidentified:
            with suppress(AdapterUnavailable):  # it is tried again, as long as there is time
                receivers = await self._monitor.count()
                # One that answered and died since would be counted in place of one that lives.
                await self._monitor.check_all(pending.responded)
                if receivers is not None:
                    pending.recounted(receivers)

    def _check_open(self) -> None:
        if self._closed:
            raise NotStarted


def _wake_if_done(pending: PendingRequest, answered: asyncio.Future[None]) -> None:
    """Wake up whoever asked, if that was the last answer."""
    if pending.is_done() and not answered.done():
        answered.set_result(None)
