"""Which modules of the adapters may import which: what is reusable stays free of any carrier."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import fastapi_rooms.adapters

ROOT = Path(fastapi_rooms.adapters.__file__).parent
NAME = "fastapi_rooms.adapters"
LAYERS = {
    "redis": ["links", "declared", "history", "presence", "pubsub", "sharded", "emit_clients"],
    "rabbitmq": ["links", "pubsub", "emit_clients"],
}
"""The folders of each carrier: each imports from itself and those before it."""


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
def test_what_any_carrier_could_use_knows_nothing_of_any(path: Path) -> None:
    foreign = ("redis.", "hiredis.", "pamqp.", f"{NAME}.redis.", f"{NAME}.rabbitmq.")
    assert not [name for name in imports(path) if f"{name}.".startswith(foreign)]


@pytest.mark.parametrize(
    "path", sorted(path for carrier in LAYERS for path in (ROOT / carrier).glob("*/*.py")), ids=of
)
def test_a_folder_imports_from_itself_and_from_those_below(path: Path) -> None:
    carrier = path.parent.parent.name
    folders = LAYERS[carrier]
    above = folders[folders.index(path.parent.name) + 1 :]
    names = [f"{NAME}.{carrier}.{folder}." for folder in above]
    names += [f"{NAME}.{other}." for other in LAYERS if other != carrier]
    assert not [name for name in imports(path) if f"{name}.".startswith(tuple(names))]


CARRIERS_ALONE = ["rabbitmq/adapter.py", "rabbitmq/report.py", "rabbitmq/links/access.py"]


@pytest.mark.parametrize("path", CARRIERS_ALONE)
def test_what_is_imported_without_the_extra_needs_nothing_of_it(path: str) -> None:
    body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    named = {node.module for node in body if isinstance(node, ast.ImportFrom)}
    needs = {"frames", "link", "steps", "reasons", "owner", "publisher", "subscriber", "confirms"}
    assert not {name.rpartition(".")[2] for name in named if name and ".rabbitmq." in name} & needs


PURE = [
    "subscriptions.py",
    "reception.py",
    "redis/declared/form.py",
    "redis/declared/known.py",
    "redis/pubsub/pending_commands.py",
    "redis/pubsub/failover_gaps.py",
    "redis/sharded/placement.py",
    "redis/sharded/slots.py",
    "rabbitmq/links/frames.py",
    "rabbitmq/links/steps.py",
    "rabbitmq/pubsub/confirms.py",
    "rabbitmq/pubsub/lateness.py",
    "rabbitmq/pubsub/messages.py",
]


@pytest.mark.parametrize("path", PURE)
def test_state_machines_do_no_io_and_know_no_clock(path: str) -> None:
    io = {"asyncio", "socket", "ssl", "threading", "time", "logging", "redis", "hiredis"}
    assert not {name.partition(".")[0] for name in imports(ROOT / path)} & io
