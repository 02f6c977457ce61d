"""Messages that come behind later ones of the same origin and shard."""

from __future__ import annotations

import pytest

from fastapi_rooms.core import late as late_module
from fastapi_rooms.core.late import AFTERMATH, Late


def test_after_an_outage_what_comes_behind_a_later_one_is_late() -> None:
    late = Late()
    late.outage(100.0)
    assert not late.is_late(("a", 1), 840, 100.0)
    assert late.is_late(("a", 1), 170, 101.0)
    assert late.is_late(("a", 1), 839, 101.0)
    assert not late.is_late(("a", 1), 841, 101.0)
    assert not late.is_late(("a", 2), 170, 101.0)
    assert not late.is_late(("b", 1), 170, 101.0)


def test_at_other_times_a_forged_number_silences_nobody() -> None:
    late = Late()
    assert not late.is_late(("a", 1), 2**63, 0.0)
    assert not late.is_late(("a", 1), 5, 0.0)
    late.outage(0.0)
    assert not late.is_late(("a", 1), 6, 1.0)
    assert not late.is_late(("a", 1), 2**63, AFTERMATH)
    assert not late.is_late(("a", 1), 7, AFTERMATH)


def test_sources_without_end_take_no_memory_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_module, "MAX_SOURCES", 3)
    late = Late()
    for number in range(10):
        assert not late.is_late(("a", number), 1, 0.0)
    assert len(late._highest) == 3
