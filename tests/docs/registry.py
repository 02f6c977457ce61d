"""Which file of which page is run by which test."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.docs.pages import ROOT, Block, blocks, find

Test = TypeVar("Test", bound=Callable[..., Any])

SHOWN: list[Block] = []

RUN_ELSEWHERE = {
    "docs/howto/emitting.md": "test_emitting.py",
    "docs/howto/python-client.md": "test_python_client.py",
    "docs/howto/testing.md": "test_commands.py",
    "docs/howto/deployment/servers.md-worker.py": "test_commands.py",
    "docs/howto/threads.md-render.py": "test_commands.py",
    "docs/howto/json.md-structs.py": "test_sending_pages.py",
    "docs/recipes/celery.md": "recipes/test_celery.py",
    "docs/recipes/support-desk.md": "recipes/test_support_desk.py",
    "docs/tutorial/first-chat.md-two_workers.py": "test_commands.py",
}


def shows(page: str, title: str, version: int = 1) -> Callable[[Test], Test]:
    """Decorate the test of one file; the test gets it, imported, as `example`."""
    block = find(page, title, version=version)
    SHOWN.append(block)
    return pytest.mark.parametrize("example", [block], indirect=True, ids=[f"{block}-{version}"])


def forgotten() -> list[str]:
    """The files that no test runs."""
    for path in sorted(Path(__file__).parent.rglob("test_*.py")):  # whichever of them is run now
        import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    return [
        str(block)
        for block in blocks("python")
        if block.title
        and block not in SHOWN
        and str(block) not in RUN_ELSEWHERE
        and block.page not in RUN_ELSEWHERE
    ]
