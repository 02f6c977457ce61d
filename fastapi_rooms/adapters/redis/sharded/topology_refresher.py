"""Looks at a cluster's topology: at the start, now and then, and soon when something is amiss.

Strategy: `CLUSTER SLOTS` is asked of one master after the other, over the connections that are
there to publish; of replicas and the first addresses only when none answers. A single node can be
behind the others, above all one that was cut off for a while; so what differs from what is known
is believed when a second look, at another node if there is one, shows the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

from redis.exceptions import AuthenticationError, AuthorizationError

from fastapi_rooms.adapters.redis.slots import Node, Topology, parse_topology
from fastapi_rooms.adapters.supervisor import complain

PAUSE = 0.1
"""Seconds between two looks, at least."""

LAST = 1 << 62

ClusterRequest = Callable[[Node], Awaitable[Any]]


class TopologyRefresher:
    """Looks, until cancelled.

    Args:
        known: the nodes there are connections to.
        others: where to ask when none of those answers.
        ask: asks a known node, over its connection.
        ask_anew: asks any node, over a connection of its own.
        learned: what is believed now. Called after every look that is believed, and before
            `confirmed` rises to the time of that look. If it raises, it is called again after the
            next look.
        failed: nobody answers, or `learned` raised: why, and whether it is the login.
        interval: seconds between two looks while all is well, at most.
        patience: seconds that one node has to answer.
    """

    def __init__(
        self,
        *,
        known: Callable[[], Iterable[Node]],
        others: Callable[[], Iterable[Node]],
        ask: ClusterRequest,
        ask_anew: ClusterRequest,
        learned: Callable[[Topology], None],
        failed: Callable[[str, bool], None],
        interval: float,
        patience: float,
    ) -> None:
        self._known = known
        self._others = others
        self._ask = ask
        self._ask_anew = ask_anew
        self._learned = learned
        self._failed = failed
        self._interval = interval
        self._patience = patience
        self._wanted = asyncio.Event()
        self._believed: Topology | None = None
        self._doubted: Topology | None = None
        self._fault = ""
        self.confirmed = time.time()
        """When what is believed was last seen to be so, in seconds since the epoch."""
        self._looks = 0
        self._turn: dict[Node, int] = {}

    def soon(self) -> None:
        """Look again soon."""
        self._wanted.set()

    async def run(self) -> None:
        """Look again and again."""
        pause = PAUSE
        while True:
            self._wanted.clear()
            try:
                await self._look_and_learn()
            except Exception as error:  # noqa: BLE001 -- an application's `address_remap`, say
                self._complain(error)
            pause = PAUSE if self._doubted else min(pause * 2, self._interval)
            await asyncio.sleep(min(PAUSE, pause))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause - PAUSE):
                    await self._wanted.wait()
                pause = PAUSE

    async def _look_and_learn(self) -> None:
        """Look once, and see whether that is to be believed."""
        begun = time.time()
        topology = await self._look()
        if topology is None:
            self._doubted = None
        elif self._believed in (None, topology) or topology == self._doubted:
            self._believed, self._doubted = topology, None
            self._learned(topology)
            self.confirmed = begun
            self._fault = ""
        else:
            self._doubted = topology

    def _complain(self, error: Exception) -> None:
        """Say what is wrong, in the log once for all looks at which it is the same."""
        fault, self._fault = self._fault, repr(error)
        if self._fault != fault:
            complain("What Redis Cluster says could not be followed; it is tried again", error)
        with suppress(Exception):
            self._failed(f"its nodes could not be followed: {error!r}", False)

    async def _look(self) -> Topology | None:
        """What the first node says that answers; who did not answer comes last the next time."""
        self._turn = {node: self._turn.get(node, 0) for node in self._known()}
        known = sorted(self._turn, key=self._turn.__getitem__)
        reason, refused = "there is no node to ask", False
        for ask, nodes in ((self._ask, known), (self._ask_anew, list(self._others()))):
            for node in nodes:
                self._looks += 1
                try:
                    async with asyncio.timeout(self._patience):
                        topology = parse_topology(await ask(node), node)
                except Exception as error:  # noqa: BLE001 -- whatever it is, the next may answer
                    reason = f"{node}: {str(error) or type(error).__name__}"
                    refused = isinstance(error, AuthenticationError | AuthorizationError)
                    self._turn[node] = self._looks + LAST
                    continue
                self._turn[node] = self._looks
                if topology.ranges:
                    return topology
                reason = f"{node} knows of no slots"
        self._failed(reason, refused)
        return None
