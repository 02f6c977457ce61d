"""What the application for the browser client serves, and what it does not."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Mount
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

import fastapi_rooms

JAVASCRIPT, TYPES = "/rooms/client.js", "/rooms/client.d.ts"


@pytest.fixture
def http() -> Iterator[TestClient]:
    app = Starlette(routes=[Mount("/rooms", fastapi_rooms.client.files)])
    with TestClient(app) as client:
        yield client


def test_it_serves_the_module_and_its_types(http: TestClient) -> None:
    assert "export const connect" in http.get(JAVASCRIPT).text
    assert "export function connect" in http.get(TYPES).text
    assert 'from "./client.js"' in http.get("/rooms/gateway.js").text
    assert "export function gateway" in http.get("/rooms/gateway.d.ts").text


@pytest.mark.parametrize("table", [None, "application/x-from-the-machine"])
def test_the_type_is_that_of_a_module_whatever_the_machine_says(
    http: TestClient, monkeypatch: pytest.MonkeyPatch, table: str | None
) -> None:
    monkeypatch.setattr(mimetypes, "guess_type", lambda *_args, **_options: (table, None))
    assert http.get(JAVASCRIPT).headers["content-type"] == "text/javascript; charset=utf-8"
    assert http.get(TYPES).headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/package.json",
        "/README.md",
        "/client",
        "/client.js/",
        "/client.js/x",
        "/CLIENT.JS",
        "//client.js",
        "/./client.js",
        "/test/storm.test.js",
        "/x/../client.js",
        "/../client.js",
        "/..%2fpyproject.toml",
        "/%2e%2e/files.py",
        "/..%5cfiles.py",
        "/client.js%00",
        "//etc/passwd",
        "/" + "x" * 5_000,
    ],
)
def test_nothing_else_is_there(http: TestClient, path: str) -> None:
    scope_path = "/rooms" + path
    # As bytes on the wire: an HTTP client would tidy it up.
    response = http.get("/rooms/x", extensions={"target": scope_path.encode()})
    assert response.status_code == 404


def test_who_has_it_already_is_told_so(http: TestClient) -> None:
    first = http.get(JAVASCRIPT)
    assert first.headers["cache-control"] == "no-cache"
    for condition in (
        {"if-none-match": first.headers["etag"]},
        {"if-modified-since": first.headers["last-modified"]},
    ):
        again = http.get(JAVASCRIPT, headers=condition)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        assert again.headers["cache-control"] == "no-cache"
    other = http.get(JAVASCRIPT, headers={"if-none-match": '"other"'})
    assert other.status_code == 200


def test_head_is_get_without_the_body(http: TestClient) -> None:
    head, get = http.head(JAVASCRIPT), http.get(JAVASCRIPT)
    assert head.content == b""
    assert head.headers["content-length"] == str(len(get.content))
    assert head.headers["content-type"] == get.headers["content-type"]


def test_nothing_can_be_put_there(http: TestClient) -> None:
    assert http.post(JAVASCRIPT).status_code == 405


def test_it_can_be_mounted_anywhere() -> None:
    inner = Starlette(routes=[Mount("/a/b", fastapi_rooms.client.files)])
    with TestClient(Starlette(routes=[Mount("/app", inner)])) as http:
        assert http.get("/app/a/b/client.js").status_code == 200
    assert TestClient(fastapi_rooms.client.files).get("/client.js").status_code == 200


def test_it_is_found_behind_a_proxys_prefix() -> None:
    app = Starlette(routes=[Mount("/rooms", fastapi_rooms.client.files)])
    with TestClient(app, root_path="/proxy") as http:
        assert http.get("/proxy/rooms/client.js").status_code == 200


def test_it_is_found_behind_a_proxys_prefix_that_only_the_application_knows() -> None:
    app = Starlette(routes=[Mount("/rooms", fastapi_rooms.client.files)])

    async def with_prefix(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "root_path": "/proxy"}, receive, send)

    with TestClient(with_prefix) as http:
        assert http.get("/rooms/client.js").status_code == 200
        assert http.get("/rooms/rooms/client.js").status_code == 404


def test_a_path_that_is_not_below_the_one_of_the_application_is_not_found() -> None:
    with pytest.raises(HTTPException) as error:
        TestClient(fastapi_rooms.client.files, root_path="/else").get("/client.js")
    assert error.value.status_code == 404


def test_files_that_are_missing_are_an_error_that_says_so(
    http: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("fastapi_rooms.client.browser._PLACES", (tmp_path, tmp_path / "more"))
    with pytest.raises(FileNotFoundError, match=r"client\.js is not in .*not complete"):
        http.get(JAVASCRIPT)
    assert http.get("/rooms/else.js").status_code == 404
