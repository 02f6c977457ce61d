"""A keeper that runs, for tests that let its carrier fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fastapi_rooms.presence import keeper as module
from tests.unit.presence.host import Keeping
from tests.unit.presence.support import CarrierInHand


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again soon."""
    monkeypatch.setattr(module, "RETRY", 0.02)


@pytest.fixture
async def keeping(soon: None) -> AsyncIterator[Keeping]:
    keeping = Keeping(CarrierInHand())
    yield keeping
    keeping.carrier.release()
    keeping.carrier.errors.clear()
    await keeping.keeper.close(1)
    assert not {t for t in asyncio.all_tasks() if "presence" in t.get_name()}
