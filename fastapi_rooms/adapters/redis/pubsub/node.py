"""One Redis node: a publisher, a subscriber, and the probe that proves that they reach each other.

`RedisAdapter` has one of these, `RedisClusterAdapter` one for each master.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from fastapi_rooms.adapters.base import Receiver
from fastapi_rooms.adapters.command_queue import ByteBudget
from fastapi_rooms.adapters.connection_pair import ConnectionPair, Settings
from fastapi_rooms.adapters.redis.links.source import Source
from fastapi_rooms.adapters.redis.pubsub.dialect import PLAIN, Dialect
from fastapi_rooms.adapters.redis.pubsub.publisher import Publisher, RedirectHandler
from fastapi_rooms.adapters.redis.pubsub.subscriber import Subscriber
from fastapi_rooms.adapters.subscriptions import Losses
from fastapi_rooms.adapters.waiters import Waiters
from fastapi_rooms.types import Channel


class NodeConnection(ConnectionPair[Publisher, Subscriber]):
    """The two connections to one node, which are up or down together.

    Args:
        source: opens the links to the node.
        receiver: gets the messages and gaps, and hands probes back to `probe_received`.
        changed: called when a connection came, went, or was proven to work.
        settings: the settings of the adapter.
        budget: how many bytes may wait to be accepted; nodes can share one.
        name: the node's name where there are several, for errors and tasks.
        dialect: the kind of pub/sub.
        redirects: takes over messages that the node does not serve.
        waiters, losses, required, patterns: see `Subscriber`; nodes can share them.
    """

    def __init__(
        self,
        source: Source,
        receiver: Receiver,
        changed: Callable[[], None],
        settings: Settings,
        budget: ByteBudget,
        *,
        name: str = "",
        dialect: Dialect = PLAIN,
        redirects: RedirectHandler | None = None,
        waiters: Waiters | None = None,
        losses: Losses | None = None,
        required: AbstractSet[Channel] = frozenset(),
        patterns: Sequence[Channel] = (),
    ) -> None:
        self._source = source
        publisher = Publisher(
            source,
            self.links_changed,
            connect_timeout=settings.connect_timeout,
            timeout=settings.publish_timeout,
            budget=budget,
            verb=dialect.words.publish,
            redirects=redirects,
        )
        subscriber = Subscriber(
            source,
            receiver,
            self.links_changed,
            connect_timeout=settings.connect_timeout,
            dialect=dialect,
            waiters=waiters,
            losses=losses,
            required=required,
            patterns=patterns,
        )
        super().__init__(
            publisher, subscriber, changed, probe_interval=settings.probe_interval, name=name
        )

    def background_work(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What follows the master, where there are sentinels."""
        return {
            f"sentinels {number}": coroutine
            for number, coroutine in enumerate(self._source.background_tasks())
        }

    def _cancel(self) -> list[asyncio.Task[None]]:
        self.subscriber.stop_retries()
        return super()._cancel()
