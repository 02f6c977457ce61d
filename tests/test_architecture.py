"""The layers, held by reading the imports of every module: a module's path says its layer.

A module imports from the lines above its own, and from its own folder.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import fastapi_rooms

PACKAGE = "fastapi_rooms"
ROOT = Path(fastapi_rooms.__file__).parent

LAYERS = [
    "errors types",
    "concurrency",
    "core",
    "wire transports security",
    "operators adapters servers",
    "cluster emitter history presence socketio client",
    "worker",
    "namespace",
    "manager",
    "gateway",
    "__init__",
    "cli testing",
]
"""The folders, and modules, at the root of the package: ground first, edges last."""

LAYER = {name: number for number, line in enumerate(LAYERS) for name in line.split()}
PURE, EDGES = {"core", "wire"}, set(LAYERS[-1].split())

THIRD_PARTY = {
    "core": {"orjson"},
    "wire": {"orjson", "msgpack"},
    "transports": {"starlette"},
    "security": {"starlette"},
    "operators": set(),
    "adapters": {"redis", "hiredis", "pamqp"},
    "servers": {"starlette"},
    "client": {"starlette", "websockets"},
    "cluster": {"orjson"},
    "history": set(),
    "presence": set(),
    "socketio": set(),
    "worker": {"orjson", "starlette"},
    "namespace": {"starlette"},
    "gateway": {"starlette"},
    "cli": {"orjson", "redis", "typer", "uvicorn"},
    "testing": {"orjson", "pytest", "pytest_asyncio", "redis", "starlette"},
}
"""What each folder may import that is neither Python's nor ours; the others nothing."""

NO_IO = {"asyncio", "socket", "ssl", "threading", "subprocess", "time", "logging"}
"""Of the standard library, what state and its transitions have no use for."""

SERVERS = ("uvicorn", "gunicorn", "hypercorn", "granian", "websockets", "wsproto", "httptools")


def _module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {_module_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def _place(module: str) -> str:
    """The folder, or module, at the root of the package that a module is in."""
    return [*module.split("."), "__init__"][1]


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that may run.

    What stands under `if TYPE_CHECKING:` is an annotation's: it says what users get from above, as
    `socket.namespace` does, and the layer goes on without it.
    """
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for statement in child.orelse:
                yield from _running(statement)
        else:
            yield from _running(child)


@cache
def _imports(module: str) -> tuple[tuple[str, str | None], ...]:
    """Every import anywhere in a module: what from, and which name, if it is one of ours."""
    return tuple(_found_imports(module))


def _found_imports(module: str) -> Iterator[tuple[str, str | None]]:
    for node in _running(_tree(module)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import hides which layer it reaches for"
            assert node.module is not None
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield (submodule, None) if submodule in MODULES else (node.module, alias.name)


def _imported(module: str) -> set[str]:
    return {imported for imported, _ in _imports(module)}


def _tops(module: str) -> set[str]:
    """The first part of everything imported."""
    return {name.partition(".")[0] for name in _imported(module)}


def _strings(module: str) -> Iterator[str]:
    """Every string of a module that says something to the program rather than to its reader."""
    told = {
        id(node.value)
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node.value


def test_every_folder_has_a_layer() -> None:
    assert not {_place(module) for module in MODULES} - LAYER.keys(), "give it one in LAYERS"


def test_a_module_imports_from_the_layers_below_and_from_its_own_folder() -> None:
    assert not [
        f"{module} imports {imported}"
        for module in MODULES
        for imported in _imported(module) & MODULES.keys()
        if (own := _place(module)) != (other := _place(imported)) and LAYER[other] >= LAYER[own]
    ]


@pytest.mark.parametrize("package", ["adapters", "client", "worker"])
def test_a_package_that_lists_its_modules_lists_them_all(package: str) -> None:
    folder = ROOT / package
    docstring = ast.get_docstring(_tree(f"{PACKAGE}.{package}")) or ""
    lists = re.findall(r"^([\w/]+(?:, [\w/]+)*) {2,}\S", docstring, re.MULTILINE)
    listed = {name.strip("/") for names in lists for name in names.split(", ")}
    there = {path.stem for path in folder.iterdir()} - {"__init__", "__pycache__"}
    assert listed == there


def test_there_is_no_import_cycle() -> None:
    graph = {module: _imported(module) & MODULES.keys() - {module} for module in MODULES}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_a_module_imports_no_third_party_that_its_folder_has_no_business_with() -> None:
    known = {PACKAGE, "__future__", *sys.stdlib_module_names}
    assert not [
        f"{module} imports {foreign}"
        for module in MODULES
        for foreign in _tops(module) - known - THIRD_PARTY.get(_place(module), set())
    ]


def test_state_and_bytes_do_no_io_and_know_no_clock() -> None:
    pure = [module for module in MODULES if _place(module) in PURE]
    assert not [f"{module} imports {io}" for module in pure for io in _tops(module) & NO_IO]


@pytest.mark.parametrize("module", [m for m in MODULES if _place(m) in EDGES])
def test_the_edges_stand_on_public_names_alone(module: str) -> None:
    own = f"{PACKAGE}.{_place(module)}"
    for imported, name in _imports(module):
        if imported.split(".")[0] != PACKAGE or imported.startswith(own):
            continue
        assert name is not None, f"{imported} is imported as a whole"
        public = {*import_module(imported).__all__, "__version__"}
        assert name in public, f"{imported}.{name} is not public"


def test_only_servers_knows_a_servers_insides() -> None:
    insides = tuple(f"{name}." for name in SERVERS)
    assert not [
        f"{module} says {text!r}"
        for module in MODULES
        if _place(module) != "servers"
        for text in _strings(module)
        if text.startswith(insides)
    ]


def test_every_module_says_what_it_is_for() -> None:
    assert not [module for module in MODULES if not ast.get_docstring(_tree(module))]


def test_no_module_has_grown_past_four_hundred_lines() -> None:
    sizes = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    assert max(sizes.values()) <= 400, max(sizes, key=lambda module: sizes[module])


def test_the_root_of_the_package_stays_small() -> None:
    assert len(list(ROOT.glob("*.py"))) <= 14
