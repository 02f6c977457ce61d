"""The layers, held by reading the imports of every module.

3  edges        other ways in, on the public API alone
2  the manager  composes; what a user touches
1  I/O          bytes between workers, bytes to a client
0  pure         state and its transitions
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = "fastapi_rooms"
ROOT = Path(__file__).parents[1] / PACKAGE

LAYERS = {
    "types": 0,
    "errors": 0,
    "checks": 0,
    "names": 0,
    "frames": 0,
    "envelope": 0,
    "codec": 0,
    "emission": 0,
    "membership": 0,
    "interest": 0,
    "duplicates": 0,
    "outbox": 0,
    "door.bucket": 0,
    "cluster.peers": 0,
    "cluster.question": 0,
    "adapters.redis.strays": 0,
    "departures": 0,
    "adapters.subscriptions": 0,  # beside those who use it, as nobody else does
    "adapters.redis.slots": 0,
    "adapters.redis.asked": 0,
    "adapters.redis.cluster.homes": 0,
    "adapters": 1,
    "transports": 1,
    "events": 2,
    "listener": 2,
    "broadcast": 2,
    "socket": 2,
    "connection": 2,
    "fanout": 2,
    "workers": 2,
    "tasks": 2,
    "slices": 2,
    "leaving": 2,
    "runtime": 2,
    "settings": 2,
    "cluster": 2,
    "door": 2,
    "everywhere": 2,
    "local": 2,
    "namespace": 2,
    "manager": 2,
    "emitter": 2,
    "cli": 3,
    "testing": 3,
}
"""The layer of each module, or of a package and all that is in it."""

THIRD_PARTY = {
    0: {"orjson"},
    1: {"orjson", "starlette", "redis", "hiredis"},
    2: {"orjson", "starlette"},
    3: {"orjson", "starlette", "redis", "pytest", "pytest_asyncio", "rich", "typer"},
}
"""What each layer may import that is neither Python's nor ours."""

NO_IO = {"asyncio", "socket", "ssl", "threading", "subprocess", "time", "logging"}
"""Of the standard library, what state and its transitions have no use for."""


def _module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {_module_of(path): path for path in sorted(ROOT.rglob("*.py"))}
INNER = [module for module in MODULES if module != PACKAGE]


def _layer(module: str) -> int:
    """The layer of the most specific entry that the module is in."""
    parts = module.split(".")[1:]
    for length in range(len(parts), 0, -1):
        layer = LAYERS.get(".".join(parts[:length]))
        if layer is not None:
            return layer
    pytest.fail(f"{module} has no layer yet: give it one in LAYERS")


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def _imports(module: str) -> Iterator[tuple[str, str | None]]:
    """Every import anywhere in a module: what from, and which name, if it is one of ours."""
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import hides which layer it reaches for"
            assert node.module is not None
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                if submodule in MODULES:
                    yield submodule, None
                else:
                    yield node.module, alias.name


def _imported_modules(module: str) -> set[str]:
    return {imported for imported, _ in _imports(module)}


@pytest.mark.parametrize("module", INNER)
def test_imports_point_only_downward(module: str) -> None:
    above = {
        imported
        for imported in _imported_modules(module) & MODULES.keys() - {PACKAGE}
        if _layer(imported) > _layer(module)
    }
    assert not above


@pytest.mark.parametrize("module", INNER)
def test_a_module_imports_no_third_party_that_its_layer_has_no_business_with(module: str) -> None:
    foreign = {name.partition(".")[0] for name in _imported_modules(module)}
    foreign -= {PACKAGE, "__future__"} | set(sys.stdlib_module_names)
    assert foreign <= THIRD_PARTY[_layer(module)]


@pytest.mark.parametrize("module", [m for m in INNER if _layer(m) == 0])
def test_pure_modules_do_no_io_and_know_no_clock(module: str) -> None:
    assert not {name.partition(".")[0] for name in _imported_modules(module)} & NO_IO


def test_there_is_no_import_cycle() -> None:
    graph = {
        module: {i for i in _imported_modules(module) & MODULES.keys() if i != module}
        for module in MODULES
    }
    try:
        order = [*TopologicalSorter(graph).static_order()]
    except CycleError as error:
        pytest.fail(f"{' → '.join(error.args[1])}")
    assert order[-1] in (PACKAGE, *(m for m in INNER if _layer(m) == 3))


@pytest.mark.parametrize("module", [m for m in INNER if _layer(m) < 3])
def test_only_the_edges_import_from_the_package_itself(module: str) -> None:
    assert PACKAGE not in _imported_modules(module)


@pytest.mark.parametrize("module", [m for m in INNER if _layer(m) == 3])
def test_the_edges_stand_on_public_names_alone(module: str) -> None:
    own = module.split(".")[1]
    for imported, name in _imports(module):
        if imported.split(".")[0] != PACKAGE or imported.startswith(f"{PACKAGE}.{own}"):
            continue
        assert name is not None, f"{imported} is imported as a whole"
        public = {*import_module(imported).__all__, "__version__"}
        assert name in public, f"{imported}.{name} is not public"


@pytest.mark.parametrize("module", MODULES)
def test_the_package_does_not_need_fastapi(module: str) -> None:
    assert not {m for m in _imported_modules(module) if m.partition(".")[0] == "fastapi"}


SERVERS = ("uvicorn", "gunicorn", "hypercorn", "granian", "websockets", "wsproto", "httptools")


def _strings(module: str) -> Iterator[str]:
    """Every string of a module that says something to the program rather than to its reader."""
    tree = _tree(module)
    told = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


INSIDES = [
    f"{PACKAGE}.transports.{name}" for name in ("uvicorn", "uvicorn_reader", "uvicorn_server")
]
"""The only modules that lean on a server's insides: on its connections, and on itself."""


@pytest.mark.parametrize("module", [m for m in MODULES if m not in INSIDES])
def test_only_the_uvicorn_transport_knows_a_servers_insides(module: str) -> None:
    assert not {m for m in _imported_modules(module) if m.partition(".")[0] in SERVERS}
    paths = [s for s in _strings(module) if s.startswith(tuple(f"{name}." for name in SERVERS))]
    assert not paths


@pytest.mark.parametrize("module", INSIDES)
def test_the_uvicorn_transport_does_not_need_uvicorn(module: str) -> None:
    assert not {m for m in _imported_modules(module) if m.partition(".")[0] in SERVERS}
    paths = [s for s in _strings(module) if s.startswith(tuple(f"{name}." for name in SERVERS))]
    assert paths, "it knows its insides"


def test_every_module_says_what_it_is_for() -> None:
    silent = [module for module in MODULES if not ast.get_docstring(_tree(module))]
    assert not silent


def test_no_module_has_grown_past_four_hundred_lines() -> None:
    sizes = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    assert max(sizes.values()) <= 400, max(sizes, key=lambda module: sizes[module])


def test_every_layer_that_is_named_is_there_or_has_a_place_kept() -> None:
    kept: set[str] = set()
    present = {m.removeprefix(f"{PACKAGE}.") for m in MODULES}
    assert LAYERS.keys() - present <= kept
