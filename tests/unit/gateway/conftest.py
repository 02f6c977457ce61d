"""What the tests of this folder start from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.unit.gateway.support import Site


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """Edges and backends, which end with the test."""
    async with AsyncExitStack() as stack:
        yield Site(stack)
