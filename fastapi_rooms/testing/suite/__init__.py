"""The conformance suite: what any adapter, and the managers on it, must do.

Bind it to an adapter by a fixture `backplane` and two empty classes:

    class RabbitBackplane:
        def __init__(self, url: str) -> None: ...
        def adapter(self) -> Adapter: ...                           # one more worker's
        async def subscribers(self, channel: bytes) -> int: ...     # who is subscribed now

    @pytest.fixture
    def backplane(rabbit_url: str) -> RabbitBackplane:
        return RabbitBackplane(rabbit_url)

    class TestRabbitAdapter(AdapterSuite): ...
    class TestRabbitManager(ManagerSuite): ...

Where the carrier keeps messages, so that the adapter is `SupportsHistory`, one more of each:

    class RabbitBackplane:
        async def break_connections(self) -> None: ...              # all workers', now

    class TestRabbitHistory(HistorySuite): ...

And where it knows who is present, so that the adapter is `SupportsPresence`:

    class RabbitBackplane:
        async def kept(self) -> Collection[object]: ...             # what is kept of that now

    class TestRabbitPresence(PresenceSuite): ...

Every test gets a new backplane with nobody on it; prefixes or databases keep apart what shares a
server. Needs pytest and pytest-asyncio, in either of its modes.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    *(
        f"{__name__}.{part}"
        for part in (
            "adapter",
            "cluster",
            "delivery",
            "history",
            "interest",
            "kept_messages",
            "leases",
            "people",
            "positions",
            "presence",
            "strictness",
        )
    )
)

from fastapi_rooms.testing.suite.adapter import AdapterSuite  # noqa: E402 -- after the rewriting
from fastapi_rooms.testing.suite.backplane import Backplane, Station  # noqa: E402
from fastapi_rooms.testing.suite.cluster import ClusterSuite  # noqa: E402
from fastapi_rooms.testing.suite.delivery import DeliverySuite  # noqa: E402
from fastapi_rooms.testing.suite.history import HistorySuite  # noqa: E402
from fastapi_rooms.testing.suite.interest import InterestSuite  # noqa: E402
from fastapi_rooms.testing.suite.kept_messages import HistoryBackplane  # noqa: E402
from fastapi_rooms.testing.suite.people import PresenceBackplane  # noqa: E402
from fastapi_rooms.testing.suite.presence import PresenceSuite  # noqa: E402
from fastapi_rooms.testing.suite.strictness import StrictnessSuite  # noqa: E402

__all__ = [
    "AdapterSuite",
    "Backplane",
    "HistoryBackplane",
    "HistorySuite",
    "ManagerSuite",
    "PresenceBackplane",
    "PresenceSuite",
    "Station",
]


class ManagerSuite(DeliverySuite, InterestSuite, StrictnessSuite, ClusterSuite):
    """What a user is promised, checked on managers that meet through the adapter."""
