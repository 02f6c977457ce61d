"""The browser client: its own tests, run by Node.js, and what it promises beside its behaviour."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from fastapi_rooms.client import files
from tests.node import NODE
from tests.unit.client.close_codes import documented

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "clients" / "js"
PACKAGE = json.loads((SOURCE / "package.json").read_text(encoding="utf-8"))
SERVED = Path(files.lookup_path("client.js")[0])
"""The one that an application serves: in a wheel not the one beside the tests."""


def node(*arguments: object, cwd: Path | None = None) -> str:
    """What Node.js prints; what it says where it fails is the failure."""
    done = subprocess.run(
        [NODE, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "CLIENT_JS": str(SERVED), "NO_COLOR": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{done.stdout}\n{done.stderr}", pytrace=False)
    return done.stdout


@pytest.mark.parametrize("path", sorted(SOURCE.glob("test/*.test.js")), ids=lambda path: path.stem)
def test_the_client_in_node(path: Path) -> None:
    report = node("--test", "--test-reporter=spec", path)
    passed = re.search(r"^ℹ pass (\d+)$", report, re.MULTILINE)
    assert passed is not None, report
    assert int(passed[1]) > 0, report


def test_there_are_tests_to_run_in_node() -> None:
    assert len(list(SOURCE.glob("test/*.test.js"))) >= 9


def test_it_is_four_kilobytes_at_most() -> None:
    assert len(gzip.compress(SERVED.read_bytes(), 9)) <= 4_096


def test_what_shares_a_connection_is_as_much_again_at_most() -> None:
    served = Path(files.lookup_path("gateway.js")[0])
    assert len(gzip.compress(served.read_bytes(), 9)) <= 4_096


@pytest.mark.parametrize("name", PACKAGE["files"])
def test_what_is_served_is_the_source(name: str) -> None:
    assert Path(files.lookup_path(name)[0]).read_bytes() == (SOURCE / name).read_bytes()


def test_its_close_codes_are_those_of_the_page() -> None:
    policy = json.loads(node(SOURCE / "test" / "policy.js"))
    assert {int(code): word for code, word in policy.items()} == documented()


# For npm.


def test_its_version_is_that_of_the_python_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert PACKAGE["version"] == project["version"]
    assert PACKAGE["license"] == project["license"]


def test_its_package_is_all_that_is_there_but_tests() -> None:
    there = {path.name for path in SOURCE.iterdir()} - {"test"}
    assert there == {*PACKAGE["files"], "package.json", "README.md", "LICENSE"}
    assert (SOURCE / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize(("part", "name"), [(".", "connect"), ("./gateway", "gateway")])
def test_it_is_imported_by_the_name_of_its_package(part: str, name: str) -> None:
    module = json.dumps(PACKAGE["name"] + part[1:])
    program = f"import {{ {name} }} from {module}; console.log(typeof {name})"
    assert node("--input-type=module", "--eval", program, cwd=SOURCE).strip() == "function"
    assert all((SOURCE / path).is_file() for path in PACKAGE["exports"][part].values())


# Types.


def test_what_the_types_say_is_what_there_is() -> None:
    source, types = ((SOURCE / name).read_text() for name in ("client.js", "client.d.ts"))
    exported = r"^export (?:declare )?(?:const|function|class) (\w+)"
    assert re.findall(exported, source, re.MULTILINE) == re.findall(exported, types, re.MULTILINE)
    interface = re.search(r"^export interface Client .*?^}", types, re.MULTILINE | re.DOTALL)
    members = (
        set(re.findall(r"^  (?:readonly )?(\w+)[:(<]", interface[0], re.MULTILINE))
        if interface
        else set()
    )
    inherited = {"addEventListener", "removeEventListener"}
    own = set(
        re.findall(
            r"^  (?:async )?(\w+)(?: =|\()", source.partition("class Client")[2], re.MULTILINE
        )
    )
    assert members - inherited == own - {"constructor"}
    options = re.search(r"^export interface Options .*?^}", types, re.MULTILINE | re.DOTALL)
    assert options is not None
    for option in re.findall(r"^  (\w+)\?:", options[0], re.MULTILINE):
        assert re.search(rf"\b{option}\b", source), option


def test_what_the_types_of_the_gateway_say_is_what_there_is() -> None:
    source, types = ((SOURCE / name).read_text() for name in ("gateway.js", "gateway.d.ts"))
    exported = r"^export (?:declare )?(?:const|function|class) (\w+)"
    assert re.findall(exported, source, re.MULTILINE) == re.findall(exported, types, re.MULTILINE)
    interface = re.search(r"^export interface Gateway .*?^}", types, re.MULTILINE | re.DOTALL)
    assert interface is not None
    members = set(re.findall(r"^  (\w+)\(", interface[0], re.MULTILINE))
    own = re.findall(r"^  (\w+)\(", source.partition("class Gateway")[2], re.MULTILINE)
    assert members == {*own} - {"constructor"}
