"""Which modules of the adapters may import which: what is reusable stays free of Redis."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import fastapi_rooms.adapters

ROOT = Path(fastapi_rooms.adapters.__file__).parent
NAME = "fastapi_rooms.adapters"
LAYERS = ["links", "declared", "history", "presence", "pubsub", "sharded", "emit_clients"]
"""The folders of `redis`: each imports from itself and those before it."""


def imports(path: Path) -> set[str]:
    """The modules that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sorted(ROOT.glob("[!_]*.py")), ids=of)
def test_what_any_carrier_could_use_knows_nothing_of_redis(path: Path) -> None:
    foreign = ("redis.", "hiredis.", f"{NAME}.redis.")
    assert not [name for name in imports(path) if f"{name}.".startswith(foreign)]


@pytest.mark.parametrize("path", sorted((ROOT / "redis").glob("*/*.py")), ids=of)
def test_a_folder_imports_from_itself_and_from_those_below(path: Path) -> None:
    above = LAYERS[LAYERS.index(path.parent.name) + 1 :]
    names = [f"{NAME}.redis.{folder}." for folder in above]
    assert not [name for name in imports(path) if f"{name}.".startswith(tuple(names))]


PURE = [
    "subscriptions.py",
    "reception.py",
    "redis/declared/form.py",
    "redis/declared/known.py",
    "redis/pubsub/pending_commands.py",
    "redis/pubsub/failover_gaps.py",
    "redis/sharded/placement.py",
    "redis/sharded/slots.py",
]


@pytest.mark.parametrize("path", PURE)
def test_state_machines_do_no_io_and_know_no_clock(path: str) -> None:
    io = {"asyncio", "socket", "ssl", "threading", "time", "logging", "redis", "hiredis"}
    assert not {name.partition(".")[0] for name in imports(ROOT / path)} & io
