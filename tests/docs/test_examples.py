"""Every file that the pages have a reader save is run by a test of this folder."""

from __future__ import annotations

from tests.docs.pages import ROOT
from tests.docs.registry import RUN_ELSEWHERE, forgotten


def test_every_file_is_run_by_a_test() -> None:
    assert forgotten() == []


def test_the_tests_elsewhere_are_there() -> None:
    for name in RUN_ELSEWHERE.values():
        assert (ROOT / "tests" / "docs" / name).exists(), name
