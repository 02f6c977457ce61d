"""What the package offers: all of it, and nothing that is not meant."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import fastapi_rooms
import fastapi_rooms.adapters
import fastapi_rooms.client
import fastapi_rooms.testing
import fastapi_rooms.testing.suite
import fastapi_rooms.transports

ROOT = Path(fastapi_rooms.__file__).parent
GROUPED = [fastapi_rooms, fastapi_rooms.testing]
WITH_ALL = [
    *GROUPED,
    fastapi_rooms.adapters,
    fastapi_rooms.client,
    fastapi_rooms.transports,
    fastapi_rooms.testing.suite,
]


def _name(value: object) -> str:
    return value.__name__ if isinstance(value, ModuleType) else str(value)


def _source(module: ModuleType) -> str:
    assert module.__file__ is not None
    return Path(module.__file__).read_text(encoding="utf-8")


def _groups(module: ModuleType) -> dict[str, list[str]]:
    """The names of `__all__` under each comment in it that names a module."""
    text = re.search(r"^__all__ = \[[^\n]*\n(.*?)^\]", _source(module), re.DOTALL | re.MULTILINE)
    assert text is not None
    groups: list[tuple[str, list[str]]] = []
    for line in text[1].splitlines():
        if comment := re.fullmatch(r"    # \.(\w+)", line):
            groups.append((comment[1], []))
        else:
            name = re.fullmatch(r'    "(\w+)",', line)
            assert name is not None, line
            groups[-1][1].append(name[1])
    assert len(dict(groups)) == len(groups)
    return dict(groups)


def _imported(module: ModuleType) -> dict[str, list[str]]:
    """The names that a package imports from each of its modules, and those it offers as a whole."""
    imported: dict[str, list[str]] = {}
    for node in ast.parse(_source(module)).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(module.__name__):
            assert node.module is not None
            names = [alias.name for alias in node.names]
            if node.module == module.__name__:
                imported |= {name: [name] for name in names}
                continue
            source = node.module.removeprefix(f"{module.__name__}.").partition(".")[0]
            imported.setdefault(source, []).extend(names)
    return imported


@pytest.mark.parametrize("module", GROUPED, ids=_name)
def test_all_is_grouped_by_module_and_is_what_is_imported_from_there(module: ModuleType) -> None:
    groups = _groups(module)
    assert groups == {source: sorted(names) for source, names in _imported(module).items()}
    assert list(groups) == sorted(groups)
    for names in groups.values():
        assert names == sorted(names)


@pytest.mark.parametrize("module", WITH_ALL, ids=_name)
def test_what_all_names_is_there_once_and_public(module: ModuleType) -> None:
    names = module.__all__
    assert len(names) == len(set(names))
    for name in names:
        assert not name.startswith("_")
        assert hasattr(module, name)


def test_every_class_of_ours_that_the_package_shows_is_meant_to_be_shown() -> None:
    shown = {
        name
        for name, value in vars(fastapi_rooms).items()
        if inspect.isclass(value) and value.__module__.startswith(fastapi_rooms.__name__)
    }
    assert shown <= set(fastapi_rooms.__all__)


def test_every_error_is_offered() -> None:
    from fastapi_rooms import errors

    defined = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert defined <= set(fastapi_rooms.__all__)


def test_the_version_is_that_of_the_distribution_or_says_that_there_is_none() -> None:
    assert re.match(r"\d+\.\d+\.\d+|0\+unknown$", fastapi_rooms.__version__)


# Docstrings.


def _public_definitions() -> list[tuple[str, str | None]]:
    """Every public class and function that a module defines at its top, and its docstring."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        defined: dict[str, str | None] = {}
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                defined[node.name] = ast.get_docstring(node)  # the last, where there are overloads
        where = path.relative_to(ROOT).with_suffix("")
        found += [(f"{where}.{n}", doc) for n, doc in defined.items() if not n.startswith("_")]
    return found


def _public_members() -> list[tuple[str, str | None]]:
    """Every public method and property of what the package offers, and its docstring."""
    found = []
    for module in WITH_ALL:
        for name in module.__all__:
            offered = getattr(module, name)
            if not inspect.isclass(offered):
                continue
            for attribute, value in vars(offered).items():
                function = getattr(value, "fget", None) or getattr(value, "__func__", value)
                if attribute.startswith(("_", "test_")) or not inspect.isfunction(function):
                    continue
                if function.__module__.startswith(fastapi_rooms.__name__):
                    found.append((f"{name}.{attribute}", inspect.getdoc(function)))
    return found


def test_every_public_class_and_function_has_a_docstring() -> None:
    definitions = _public_definitions()
    assert len(definitions) > 50
    assert not [name for name, docstring in definitions if not docstring]


def test_everything_a_user_can_call_has_a_docstring() -> None:
    members = _public_members()
    assert len(members) > 50
    assert not [name for name, docstring in members if not docstring]


# Importing.

OPTIONAL = ["fastapi", "pytest", "uvicorn", "gunicorn", "typer", "hypothesis", "httpx", "httpx2"]
OPTIONAL += ["websockets"]


def _imports_with(module: str) -> set[str]:
    """Import `module` in a Python of its own, where a warning is an error; what came with it."""
    program = f"import {module}, sys; print(*sorted(m.partition('.')[0] for m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.split())


def test_the_browser_client_is_there_without_importing_its_module() -> None:
    program = "import fastapi_rooms; fastapi_rooms.client.files"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT.parent, check=True, timeout=60)


@pytest.mark.parametrize(
    "module", ["fastapi_rooms", "fastapi_rooms.client", "fastapi_rooms.testing"]
)
def test_importing_warns_of_nothing_and_needs_nothing_that_is_optional(module: str) -> None:
    assert not _imports_with(module) & set(OPTIONAL)


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "py.typed").is_file()
