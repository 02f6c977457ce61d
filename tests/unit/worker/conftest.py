"""A runtime that runs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fastapi_rooms.worker.runtime import Runtime
from tests.unit.support import FakeAdapter
from tests.unit.worker.support import run_settings


@pytest.fixture
async def runtime(adapter: FakeAdapter) -> AsyncIterator[Runtime]:
    """One that runs, without a linger, and takes messages of up to a kilobyte."""
    runtime = Runtime(adapter, run_settings())
    await runtime.start()
    yield runtime
    await runtime.stop()
