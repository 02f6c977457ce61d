"""What the pages refer to is there: other pages, files of the project, public names, tests."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import starlette.websockets

import fastapi_rooms
import fastapi_rooms.adapters
import fastapi_rooms.client
import fastapi_rooms.testing
import fastapi_rooms.testing.suite
from fastapi_rooms.namespace import SyncNamespace
from tests.docs.pages import PAGES, ROOT, name_of, prose_of

KNOWN_OBJECTS = {
    "rooms": fastapi_rooms.RoomManager,
    "chat": fastapi_rooms.Namespace,
    "board": fastapi_rooms.Namespace,
    "presence": fastapi_rooms.Presence,
    "socket": fastapi_rooms.Socket,
    "message": fastapi_rooms.RoomMessage,
    "messages": fastapi_rooms.Listener,
    "health": fastapi_rooms.Health,
    "rooms.health": fastapi_rooms.Health,
    "websocket": starlette.websockets.WebSocket,
    "emitter": fastapi_rooms.Emitter,
    "rooms.sync": SyncNamespace,
}
"""What a name means where a page says `name.attribute`."""

SUBPROTOCOL = "rooms.mux.v1"
"""Looks like an attribute, and is what clients with channels offer."""

OTHERS_NAMES = {
    # Starlette's, FastAPI's
    *("FastAPI", "HTTPConnection", "HTTPException", "Request", "TestClient", "WebSocket"),
    *("WebSocketDisconnect", "WebSocketException", "TrustedHostMiddleware"),
    *("BrokenResourceError", "EventSourceResponse", "ServerSentEvent"),
    # Python's, the browser's, Kubernetes', systemd's
    *(
        "ArrayBuffer",
        "CancelledError",
        "EventSource",
        "ExceptionGroup",
        "HttpOnly",
        "None",
        "SameSite",
        "True",
        "False",
    ),
    *("TypeError", "ValueError"),
    *("ProcessPoolExecutor", "ThreadPoolExecutor", "TimeoutStartSec", "TimeoutStopSec"),
    # Pydantic's and APScheduler's
    *("RedisDsn", "SecretStr"),
    *("BackgroundScheduler", "AsyncIOScheduler", "Enum", "Decimal", "NaN"),
    # of the examples
    *("ConnectionManager", "Broadcast", "AsyncServer", "AsyncRedisManager"),
}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{target} leads nowhere"
        if anchor and there.suffix == ".md":
            assert anchor in anchors_of(there), f"{target}: there is no such heading"


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", h).strip().lower()) for h in headings}


def code_of(page: Path) -> Iterator[str]:
    """What a page sets as code within its sentences."""
    for code in re.findall(r"`([^`]+)`", prose_of(page)):
        yield " ".join(code.replace(SUBPROTOCOL, "").split())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_attributes_mentioned_exist(page: Path) -> None:
    names = "|".join(sorted(map(re.escape, KNOWN_OBJECTS), key=len, reverse=True))
    for code in code_of(page):
        for owner, attribute in re.findall(rf"(?<![\w./-])({names})\.([a-z_]+)", code):
            if not attribute.endswith("_"):
                assert_there(KNOWN_OBJECTS[owner], attribute, code)
            else:  # `send_*` means all that begin so, `except_` is one
                members = attributes(KNOWN_OBJECTS[owner])
                assert any(name.startswith(attribute) for name in members), (
                    f"`{code}`: nothing begins with {attribute}"
                )


def assert_there(owner: type[Any], attribute: str, code: str) -> None:
    assert attribute in attributes(owner), f"`{code}`: {owner.__name__} has no {attribute}"


def attributes(owner: type[Any]) -> set[str]:
    found = set(dir(owner))
    for kind in owner.__mro__:
        found |= {*getattr(kind, "__annotations__", ()), *getattr(kind, "__slots__", ())}
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_classes_mentioned_exist(page: Path) -> None:
    public = {
        *fastapi_rooms.__all__,
        *fastapi_rooms.client.__all__,
        *fastapi_rooms.testing.__all__,
        *fastapi_rooms.adapters.__all__,
        *fastapi_rooms.testing.suite.__all__,
    }
    name_of_class = r"(?<![\w.\"'/-])([A-Z][a-z]+(?:[A-Z][a-z]*)+|Gap|Health|Socket)\b"
    for code in code_of(page):
        for name in re.findall(name_of_class, code):
            assert name in public | OTHERS_NAMES, f"`{code}`: there is no {name}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_modules_and_references_exist(page: Path) -> None:
    for path in re.findall(r"(?:::: |\]\[|`)(fastapi_rooms(?:\.\w+)+)", prose_of(page)):
        resolve(path)


def resolve(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return import_module(path)
    except ModuleNotFoundError:
        return getattr(resolve(module), name)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tests_mentioned_exist(page: Path) -> None:
    tests = "\n".join(
        path.read_text()
        for folder in (ROOT / "tests", Path(fastapi_rooms.testing.__file__).parent)
        for path in folder.rglob("*.py")
    )
    for code in code_of(page):
        if re.fullmatch(r"test_\w+", code):
            assert f"def {code}(" in tests, f"there is no {code}"
        elif code.startswith("tests/"):
            assert (ROOT / code).exists(), f"there is no {code}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_mentioned_exist(page: Path) -> None:
    """A path may begin in the project, in the package or beside the page."""
    starts = (ROOT, Path(fastapi_rooms.__file__).parent, page.parent)
    for code in code_of(page):
        if re.fullmatch(r"\w+(/\w+)*/(\w+\.\w+)?", code):
            assert any((start / code).exists() for start in starts), f"there is no {code}"


def test_versions_in_the_readme_are_those_of_the_package() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    rows = dict(
        re.findall(r"^\| (\S+) \| (.*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    )
    requirements = [*project["dependencies"], *project["optional-dependencies"]["standard"]]
    oldest = dict(re.findall(r"([\w-]+)[^>\n]*>=([\d.]+)", "\n".join(requirements)))
    assert f"{oldest['starlette']} and newer" in rows["Starlette"]
    assert f"FastAPI {oldest['fastapi']} and newer" in rows["Starlette"]
    assert f"{oldest['redis']} and newer" in rows["redis-py"]
    minors = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert rows["Python"] == ", ".join(minors)
