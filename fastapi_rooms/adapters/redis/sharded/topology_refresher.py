"""Refreshes a cluster's topology: at the start, periodically, and soon after signs of a change.

Strategy: `CLUSTER SLOTS` is asked of one master after the other, over the publishing connections;
of replicas and the first addresses only when no master answers. A single node can be behind the
others, above all one that was cut off for a while. So a topology that differs from the accepted one
is accepted only when a second refresh, by another node if there is one, shows the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import hiredis
from redis.asyncio.connection import ConnectionPool

from fastapi_rooms.adapters.redis.links.link import Link, pack
from fastapi_rooms.adapters.redis.links.reasons import is_login_refused, reason_of
from fastapi_rooms.adapters.redis.sharded.slots import Node, Topology, parse_topology
from fastapi_rooms.adapters.supervisor import complain

MIN_INTERVAL = 0.1
"""Seconds between two refreshes, at least."""

LAST = 1 << 62
"""Added to the turn of a node that did not answer, so that it is asked after all others."""

TOPOLOGY = (b"CLUSTER", b"SLOTS")
"""Asks which node serves which slots. Every version, and compatible servers, understand it."""

Ask = Callable[[Node], Awaitable[Any]]


class TopologyRefresher:
    """Refreshes the topology until cancelled.

    Args:
        connected: the nodes there are connections to.
        others: the nodes to ask if none of those answers.
        ask: asks a connected node, over its connection.
        ask_new: asks any node, over a new connection.
        accepted: gets the accepted topology after every refresh that confirms it, before
            `confirmed_at` rises to the time of that refresh. If it raises, it is called again
            after the next refresh.
        failed: called when no node answers, or `accepted` raised: with the reason, and whether it
            is the login.
        interval: seconds between two refreshes while all is well, at most.
        patience: seconds that one node has to answer.
    """

    def __init__(
        self,
        *,
        connected: Callable[[], Iterable[Node]],
        others: Callable[[], Iterable[Node]],
        ask: Ask,
        ask_new: Ask,
        accepted: Callable[[Topology], None],
        failed: Callable[[str, bool], None],
        interval: float,
        patience: float,
    ) -> None:
        self._connected = connected
        self._others = others
        self._ask = ask
        self._ask_new = ask_new
        self._on_accepted = accepted
        self._on_failed = failed
        self._interval = interval
        self._patience = patience
        self._requested = asyncio.Event()
        self._accepted: Topology | None = None
        self._candidate: Topology | None = None
        self._fault = ""
        self.confirmed_at = time.time()
        """When the accepted topology was last confirmed, in seconds since the epoch."""
        self._ask_count = 0
        self._turn: dict[Node, int] = {}

    def refresh_soon(self) -> None:
        """Refresh without waiting for the interval."""
        self._requested.set()

    async def run(self) -> None:
        """Refresh again and again."""
        pause = MIN_INTERVAL
        while True:
            self._requested.clear()
            try:
                await self._refresh()
            except Exception as error:  # noqa: BLE001 -- an application's `address_remap`, say
                self._complain(error)
            pause = MIN_INTERVAL if self._candidate else min(pause * 2, self._interval)
            await asyncio.sleep(min(MIN_INTERVAL, pause))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause - MIN_INTERVAL):
                    await self._requested.wait()
                pause = MIN_INTERVAL

    async def _refresh(self) -> None:
        """Ask once, and decide whether the answer is to be accepted."""
        begun = time.time()
        topology = await self._ask_nodes()
        if topology is None:
            self._candidate = None
        elif self._accepted in (None, topology) or topology == self._candidate:
            self._accepted, self._candidate = topology, None
            self._on_accepted(topology)
            self.confirmed_at = begun
            self._fault = ""
        else:
            self._candidate = topology

    def _complain(self, error: Exception) -> None:
        """Report an error, and log it unless the last refresh had the same."""
        fault, self._fault = self._fault, repr(error)
        if self._fault != fault:
            complain("The Redis Cluster could not be followed; it is tried again", error)
        with suppress(Exception):
            self._on_failed(f"its nodes could not be followed: {error!r}", False)

    async def _ask_nodes(self) -> Topology | None:
        """The topology by the first node that answers; the others are asked last the next time."""
        self._turn = {node: self._turn.get(node, 0) for node in self._connected()}
        connected = sorted(self._turn, key=self._turn.__getitem__)
        reason, refused = "there is no node to ask", False
        for ask, nodes in ((self._ask, connected), (self._ask_new, list(self._others()))):
            for node in nodes:
                self._ask_count += 1
                try:
                    async with asyncio.timeout(self._patience):
                        topology = parse_topology(await ask(node), node)
                except Exception as error:  # noqa: BLE001 -- the next may answer
                    reason = f"{node}: {reason_of(error)}"
                    refused = is_login_refused(error)
                    self._turn[node] = self._ask_count + LAST
                    continue
                self._turn[node] = self._ask_count
                if topology.ranges:
                    return topology
                reason = f"{node} knows of no slots"
        self._on_failed(reason, refused)
        return None


async def ask_topology(pool: ConnectionPool, connect_timeout: float) -> Any:
    """Ask a node for the topology, over a new connection.

    Raises:
        redis.RedisError, OSError, TimeoutError, hiredis.ReplyError: there is no answer.
    """
    reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def on_reply(answer: Any) -> None:
        if not reply.done() and not isinstance(answer, hiredis.PushNotification):
            reply.set_result(answer)

    link = await Link.open(pool, on_reply, connect_timeout)
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
