"""The origin check: which pages may open a connection, and how the others are turned away."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.exceptions import WebSocketException
from starlette.requests import HTTPConnection
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient

from fastapi_rooms import AllowedOrigins, ConfigurationError, RoomManager
from fastapi_rooms.testing import Rejected, WebSocketClient

# What is allowed.


def allows(
    *origins: str, origin: str | None, host: str | None = None, secure: bool = False, **how: Any
) -> bool:
    return AllowedOrigins(*origins, **how).allows(origin, host=host, secure=secure)


@pytest.mark.parametrize(
    ("allowed", "origin", "expected"),
    [
        ("https://a.example", "https://a.example", True),
        ("https://a.example", "https://A.Example", True),
        ("HTTPS://A.example", "https://a.example", True),
        ("https://a.example", "https://a.example:443", True),
        ("https://a.example:443", "https://a.example", True),
        ("http://a.example:80", "http://a.example", True),
        ("https://a.example", "http://a.example", False),
        ("https://a.example", "https://a.example:8443", False),
        ("https://a.example", "https://a.example:80", False),
        ("http://a.example:443", "http://a.example", False),
        ("https://a.example:8443", "https://a.example:8443", True),
        ("https://a.example:8443", "https://a.example", False),
        ("https://a.example", "https://b.a.example", False),
        ("https://a.example", "https://a.example.evil.example", False),
        ("https://a.example", "https://evil-a.example", False),
        ("https://a.example", "https://a.example.", False),
        ("https://*.a.example", "https://b.a.example", True),
        ("https://*.a.example", "https://c.b.a.example", True),
        ("https://*.a.example", "https://a.example", False),
        ("https://*.a.example", "https://.a.example", False),
        ("https://*.a.example", "https://eviла.example", False),
        ("https://*.a.example", "https://evila.example", False),
        ("https://*.a.example", "https://b.a.example.evil.example", False),
        ("https://*.a.example", "http://b.a.example", False),
        ("https://*.a.example", "https://b.a.example:8443", False),
        ("https://*.a.example:*", "https://b.a.example:8443", True),
        ("http://localhost:*", "http://localhost:5173", True),
        ("http://localhost:*", "http://localhost", True),
        ("http://localhost:*", "https://localhost", False),
        ("http://localhost:*", "http://localhost.evil.example", False),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", True),
        ("http://[::1]:8000", "http://[::1]:8000", True),
        ("http://[::1]:8000", "http://[::2]:8000", False),
        ("capacitor://localhost", "capacitor://localhost", True),
        ("capacitor://localhost", "ionic://localhost", False),
        ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh", True),
        ("chrome-extension://abcdefgh", "chrome-extension://abcdefghi", False),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example", True),
        ("null", "null", True),
        ("null", "NULL", False),
        ("https://a.example", "null", False),
    ],
)
def test_an_origin_is_compared_by_scheme_host_and_port(
    allowed: str, origin: str, expected: bool
) -> None:
    assert allows(allowed, origin=origin, host="a.example", secure=True) is expected


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "a.example",
        "//a.example",
        "https://",
        "https:///",
        "https://a.example/",
        "https://a.example/page",
        "https://a.example?x",
        "https://a.example#x",
        "https://user@a.example",
        "https://evil.example@a.example",
        "https://evil.example\\@a.example",
        "https://a.example:",
        "https://a.example:443443",
        "https://a.example:x",
        "https://a..example",
        "https://a.example https://b.example",
        "https://a.example, https://b.example",
        " https://a.example",
        "https://a.example\n",
        "https://a.example\0",
        "https://*.a.example",
        "file://",
        "https://٣.example",
    ],
)
def test_what_is_not_exactly_one_origin_is_refused(origin: str) -> None:
    allowed = AllowedOrigins("https://a.example", "https://*.a.example:*", "null", same_host=True)
    for host in ("a.example", origin.removeprefix("https://")):
        assert not allowed.allows(origin, host=host, secure=True)


@pytest.mark.parametrize("letter", ["\N{KELVIN SIGN}", "\N{LATIN SMALL LETTER LONG S}"])
def test_a_letter_that_only_unicode_takes_for_another_is_none_of_a_host(letter: str) -> None:
    plain = letter.casefold()
    assert plain in "ks"
    origin, host = f"https://{letter}.example", f"{letter}.example"
    assert not allows(f"https://{plain}.example", origin=origin)
    assert not allows(f"http{plain}://a.example", origin=f"http{letter}://a.example")
    assert not allows(origin=origin, host=f"{plain}.example")
    assert not allows(origin=f"https://{plain}.example", host=host)
    with pytest.raises(ConfigurationError, match="is no origin"):
        AllowedOrigins(origin)


@pytest.mark.parametrize(
    ("origin", "host", "secure", "expected"),
    [
        ("https://a.example", "a.example", True, True),
        ("https://a.example", "A.EXAMPLE", True, True),
        ("https://a.example", "a.example:443", True, True),
        ("https://a.example", "a.example", False, True),  # TLS ends at a proxy that does not say so
        ("http://a.example", "a.example", False, True),
        ("http://a.example:8000", "a.example:8000", False, True),
        ("http://a.example", "a.example:80", False, True),
        ("http://[::1]:8000", "[::1]:8000", False, True),
        ("http://a.example", "a.example", True, False),  # a page that the network may have forged
        ("http://a.example:443", "a.example:443", True, False),
        ("https://a.example:8443", "a.example", True, False),
        ("https://a.example", "a.example:8443", True, False),
        ("http://a.example:3000", "a.example:8000", False, False),
        ("https://b.example", "a.example", True, False),
        ("https://b.a.example", "a.example", True, False),
        ("https://a.example", "b.a.example", True, False),
        ("https://a.example", "", True, False),
        ("https://a.example", None, True, False),
        ("https://a.example", "a.example/x", True, False),
        ("https://a.example", "a.example, b.example", True, False),
        ("https://a.example", "a.example:port", True, False),
        ("capacitor://localhost", "localhost", False, False),
        ("null", "null", False, False),
    ],
)
def test_without_a_list_pages_of_the_same_host_are_allowed(
    origin: str, host: str | None, secure: bool, expected: bool
) -> None:
    assert allows(origin=origin, host=host, secure=secure) is expected
    listed = "https://other.example"
    assert allows(listed, same_host=True, origin=origin, host=host, secure=secure) is expected
    assert not allows(listed, origin=origin, host=host, secure=secure)


def test_a_program_names_no_origin_and_may_be_refused() -> None:
    for origins in ((), ("https://a.example",)):
        assert allows(*origins, origin=None, host="a.example")
        assert not allows(*origins, origin=None, host="a.example", without_origin=False)


hosts = st.from_regex(r"[a-z0-9]{1,5}(\.[a-z0-9]{1,5}){0,3}", fullmatch=True)
ports = st.one_of(st.just(""), st.integers(1, 65535).map(lambda port: f":{port}"))


@given(st.sampled_from(["http", "https"]), hosts, ports, st.booleans())
def test_a_page_can_always_reach_the_host_it_came_from(
    scheme: str, host: str, port: str, end: bool
) -> None:
    secure = scheme == "https" and end
    assert allows(origin=f"{scheme}://{host}{port}", host=host + port, secure=secure)
    assert allows(f"{scheme}://{host}{port}", origin=f"{scheme}://{host}{port}")


@given(st.text(), st.text(), st.booleans())
def test_whatever_the_headers_hold_they_are_read_or_refused(
    origin: str, host: str, secure: bool
) -> None:
    allowed = AllowedOrigins("https://a.example", same_host=True)
    for value in (origin, f"https://{origin}", f"http://{host}:{origin}"):
        if allowed.allows(value, host=host, secure=secure):
            assert value == "https://a.example" or host.lower() in value.lower()


@pytest.mark.parametrize(
    "origin",
    [
        *("", "*", "*://a.example", "a.example", "Null", 3, None),
        *("https://a.example/", "https://*", "https://a.*.example", "https://*a.b"),
        *("https://bücher.example", "https://a.example:x"),
    ],
)
def test_what_cannot_be_allowed_is_refused_with_how_to_write_it(origin: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"is no origin\. Write scheme and host"):
        AllowedOrigins(origin)


def test_a_check_that_lets_no_page_in_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="would refuse every page"):
        AllowedOrigins(same_host=False)


# As a dependency.

allowed = AllowedOrigins("https://a.example")
GOOD, EVIL = {"origin": "https://a.example"}, {"origin": "https://evil.example"}


@pytest.fixture
async def rooms() -> AsyncIterator[RoomManager]:
    async with RoomManager() as rooms:
        yield rooms


@pytest.fixture
def app(rooms: RoomManager) -> FastAPI:
    app = FastAPI()

    @app.websocket("/route", dependencies=[Depends(allowed)])
    async def of_the_route(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.send_text("welcome")

    @app.websocket("/parameter")
    async def of_a_parameter(
        websocket: WebSocket, checked: Annotated[None, Depends(allowed)], room: str = ""
    ) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.send_text("welcome")

    @app.get("/events", dependencies=[Depends(allowed)])
    async def events() -> str:
        return "welcome"

    async def plain(websocket: WebSocket) -> None:
        await allowed(websocket)
        async with rooms.connect(websocket) as socket:
            await socket.send_text("welcome")

    async def too_late(websocket: WebSocket) -> None:
        async with rooms.connect(websocket):
            await allowed(websocket)

    routes = [WebSocketRoute("/endpoint", plain), WebSocketRoute("/too-late", too_late)]
    app.mount("/starlette", Starlette(routes=routes))
    return app


@pytest.mark.parametrize("path", ["/route", "/parameter?room=tea", "/starlette/endpoint"])
async def test_a_page_of_another_site_gets_403_and_no_socket(
    app: FastAPI, rooms: RoomManager, path: str
) -> None:
    connected: list[object] = []
    rooms.on("connect")(connected.append)
    with pytest.raises(Rejected) as rejected:
        await WebSocketClient(app, path, headers=EVIL).open()
    assert rejected.value.status == 403
    assert not connected
    for headers in (GOOD, {}):
        async with WebSocketClient(app, path, headers=headers) as client:
            assert await client.receive_text() == "welcome"


def test_http_routes_are_checked_too(app: FastAPI) -> None:
    client = TestClient(app)
    assert client.get("/events", headers=GOOD).status_code == 200
    assert client.get("/events").status_code == 200
    refused = client.get("/events", headers=EVIL)
    assert (refused.status_code, refused.json()) == (403, {"detail": "Origin not allowed"})


async def test_a_check_that_comes_after_the_acceptance_closes_with_1008(app: FastAPI) -> None:
    async with WebSocketClient(app, "/starlette/too-late", headers=EVIL) as client:
        assert await client.wait_closed() == 1008


def connection(scheme: str = "ws", **headers: list[str]) -> HTTPConnection:
    sent = [(k.encode(), v.encode("latin-1")) for k, values in headers.items() for v in values]
    return HTTPConnection({"type": "websocket", "scheme": scheme, "headers": sent})


@pytest.mark.parametrize(
    ("scheme", "headers", "passes"),
    [
        ("ws", {"origin": ["http://a.example"], "host": ["a.example"]}, True),
        ("wss", {"origin": ["https://a.example"], "host": ["a.example"]}, True),
        ("https", {"origin": ["http://a.example"], "host": ["a.example"]}, False),
        ("wss", {"origin": ["http://a.example"], "host": ["a.example"]}, False),
        ("ws", {"host": ["a.example"]}, True),
        ("ws", {"origin": ["http://a.example"]}, False),
        ("ws", {"origin": ["http://a.example"] * 2, "host": ["a.example"]}, False),
        ("ws", {"origin": ["http://a.example"], "host": ["a.example"] * 2}, False),
        ("ws", {"origin": ["http://b.example"], "host": ["a.example", "b.example"]}, False),
        (
            "ws",
            {
                "origin": ["http://b.example"],
                "host": ["a.example"],
                "x-forwarded-host": ["b.example"],
                "forwarded": ["host=b.example"],
            },
            False,
        ),
    ],
)
async def test_what_counts_is_the_scope_and_no_header_that_anyone_can_add(
    scheme: str, headers: dict[str, list[str]], passes: bool
) -> None:
    allowed = AllowedOrigins()
    if passes:
        await allowed(connection(scheme, **headers))
    else:
        with pytest.raises(WebSocketException):
            await allowed(connection(scheme, **headers))


async def test_the_first_refusal_is_a_warning_that_says_what_to_change(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "fastapi_rooms")
    allowed = AllowedOrigins("https://a.example", same_host=True)
    long = "https://" + "x" * 1000
    for origin in ("https://b.example", long):
        with pytest.raises(WebSocketException):
            await allowed(connection(origin=[origin], host=["c.example"]))
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.INFO]
    first, second = caplog.messages
    for word in ("https://b.example", "c.example", "https://a.example, pages of the same host"):
        assert word in first
    assert len(second) < 600  # a header cannot fill the log
