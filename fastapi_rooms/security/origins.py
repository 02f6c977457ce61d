"""Which web pages may open a connection: a check that browsers leave to the server.

A page of any site can open a WebSocket to this server, and the browser sends the server's cookies
with the handshake (cross-site WebSocket hijacking); CORS does not apply to WebSockets. But browsers
always send the page's origin in the `Origin` header, which scripts cannot change (RFC 6455, section
10.2). So it is checked before the handshake is accepted.

An origin is a scheme, a host and a port (RFC 6454, section 4), and all three are compared. A header
that is not exactly one origin is refused. `Forwarded` and `X-Forwarded-*` are not read, as any
client can send them; uvicorn has applied those of trusted proxies to the ASGI scope already.
"""

# No `from __future__ import annotations` here: FastAPI evaluates the annotations of `__call__`, and
# older releases cannot resolve postponed ones of a callable instance.

import logging
import re
from typing import NamedTuple

from starlette.exceptions import HTTPException, WebSocketException
from starlette.requests import HTTPConnection

from fastapi_rooms.errors import ConfigurationError

logger = logging.getLogger("fastapi_rooms")

_POLICY_VIOLATION, _FORBIDDEN = 1008, 403
_DEFAULT_PORTS = {"http": 80, "https": 443}
_FLAGS = re.IGNORECASE | re.ASCII  # without ASCII, [a-z] also matches U+212A (KELVIN SIGN)
_HOST = r"\[[0-9a-f:.]+\]|[0-9a-z_-]+(?:\.[0-9a-z_-]+)*\.?"
_AUTHORITY = re.compile(rf"(?P<host>{_HOST})(?::(?P<port>[0-9]{{1,5}}))?", _FLAGS)
_ORIGIN = re.compile(rf"(?P<scheme>[a-z][a-z0-9+.-]*)://{_AUTHORITY.pattern}", _FLAGS)
_PATTERN = re.compile(
    rf"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<any>\*\.)?(?P<host>{_HOST})(?::(?P<port>[0-9]{{1,5}}|\*))?",
    _FLAGS,
)


class _Origin(NamedTuple):
    scheme: str
    host: str
    port: int | None
    """`None` if none is given and the scheme has no default port."""


class _AllowedOrigin(NamedTuple):
    scheme: str
    host: str
    port: int | None
    subdomains: bool
    any_port: bool

    def allows(self, origin: _Origin) -> bool:
        if origin.scheme != self.scheme or not (self.any_port or origin.port == self.port):
            return False
        if self.subdomains:
            return origin.host.endswith("." + self.host)
        return origin.host == self.host


class AllowedOrigins:
    """Refuses connections that pages of other sites open, before they are accepted.

        own_pages = AllowedOrigins("https://chat.example.com", "https://*.example.org")

        @app.websocket("/chat/{room}", dependencies=[Depends(own_pages)])
        async def chat(websocket: WebSocket, room: str, rooms: Rooms) -> None: ...

    Without FastAPI, call `await own_pages(websocket)` before `rooms.connect`. It works for HTTP
    routes too, such as those of event streams.

    A refused client receives HTTP status 403. The first refusal is logged as a warning, which says
    what to change if the page is one of yours; later ones are logged at level `INFO`.

    Args:
        origins: the allowed origins. `https://a.example` allows the scheme's default port,
            `https://a.example:8443` this port, and `http://localhost:*` any port;
            `https://*.a.example` allows all subdomains of `a.example`, at any depth, but not
            `a.example` itself. Origins of apps and extensions (`capacitor://localhost`,
            `chrome-extension://…`) are possible too. `null` is the origin that browsers send for
            sandboxed frames and local files; anyone can create such a page. Without `origins`,
            pages of the same host are allowed.
        same_host: whether to allow pages of the host and port that the connection was made to, as
            its `Host` header says. By default `True` without `origins`, else `False`.
        without_origin: whether to allow connections without an `Origin` header. Browsers always
            send one, so these come from programs, which have no cookies of a user's browser.

    Raises:
        ConfigurationError: an allowed origin is invalid, or nothing is allowed.
    """

    def __init__(
        self, *origins: str, same_host: bool | None = None, without_origin: bool = True
    ) -> None:
        self._same_host = not origins if same_host is None else same_host
        self._without_origin = without_origin
        self._null = "null" in origins
        self._allowed = [_parse_allowed(origin) for origin in origins if origin != "null"]
        self._description = ", ".join([*origins, *(["pages of the same host"] * self._same_host)])
        self._warned = False
        if not self._description:
            raise ConfigurationError("AllowedOrigins would refuse every page: name an origin.")

    async def __call__(self, connection: HTTPConnection) -> None:
        """Return if the connection is allowed.

        Raises:
            starlette.exceptions.WebSocketException: a WebSocket is not allowed. The server answers
                with 403 if it has not been accepted yet, else it is closed with 1008.
            starlette.exceptions.HTTPException: an HTTP request is not allowed: 403.
        """
        origins = connection.headers.getlist("origin")
        hosts = connection.headers.getlist("host")
        scheme = connection.scope.get("scheme", "")
        if len(origins) < 2 and self.allows(
            origins[0] if origins else None,
            host=hosts[0] if len(hosts) == 1 else None,
            secure=scheme in ("wss", "https"),
        ):
            return
        self._log(origins, hosts)
        if connection.scope["type"] == "websocket":
            raise WebSocketException(_POLICY_VIOLATION, "origin not allowed")
        raise HTTPException(_FORBIDDEN, "Origin not allowed")

    def allows(self, origin: str | None, *, host: str | None, secure: bool) -> bool:
        """Whether a connection with these properties is allowed.

        Args:
            origin: the `Origin` header, or `None` if it is missing.
            host: the `Host` header, or `None` if it is missing or ambiguous.
            secure: whether the connection is known to use TLS.
        """
        if origin is None:
            return self._without_origin
        if origin == "null":
            return self._null
        parsed = _parse(origin)
        if parsed is None:
            return False
        if any(allowed.allows(parsed) for allowed in self._allowed):
            return True
        return self._same_host and host is not None and _is_same_host(parsed, host, secure=secure)

    def _log(self, origins: list[str], hosts: list[str]) -> None:
        level, self._warned = (logging.INFO if self._warned else logging.WARNING), True
        logger.log(
            level,
            "A connection was refused (403): a page with origin %.200r opened it, to host %.200r. "
            "Allowed: %s. If the page is one of yours, add its origin to AllowedOrigins; behind a "
            "proxy, make sure that it passes on the Host header unchanged.",
            ", ".join(origins),
            ", ".join(hosts),
            self._description,
        )


def _port_of(text: str | None, scheme: str) -> int | None:
    return int(text) if text else _DEFAULT_PORTS.get(scheme)


def _parse(origin: str) -> _Origin | None:
    """Parse an `Origin` header; `None` if it is not exactly one origin."""
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return None
    scheme = match["scheme"].lower()
    return _Origin(scheme, match["host"].lower(), _port_of(match["port"], scheme))


def _is_same_host(origin: _Origin, host: str, *, secure: bool) -> bool:
    """Whether a page comes from the host and port that the connection was made to.

    A connection without TLS may have used TLS up to a proxy, so the page may be `http` or `https`.
    If it is known to use TLS, an `http` page is refused: someone on the network may have forged it.
    For the same reason a `Host` without a port means the default port of the page's scheme.
    """
    match = _AUTHORITY.fullmatch(host)
    if match is None or origin.scheme not in _DEFAULT_PORTS:
        return False
    if secure and origin.scheme != "https":
        return False
    port = _port_of(match["port"], origin.scheme)
    return (origin.host, origin.port) == (match["host"].lower(), port)


def _parse_allowed(origin: object) -> _AllowedOrigin:
    match = _PATTERN.fullmatch(origin) if isinstance(origin, str) else None
    if match is None:
        raise ConfigurationError(
            f"AllowedOrigins: {origin!r} is no origin. Write scheme and host, and the port unless "
            "it is the scheme's default: 'https://chat.example.com', 'https://*.example.com', "
            "'http://localhost:*'. Without a path or trailing slash; a host that is not ASCII in "
            "the form that browsers send ('xn--…'). To allow every page, remove the check."
        )
    scheme, port = match["scheme"].lower(), match["port"]
    any_port = port == "*"
    return _AllowedOrigin(
        scheme,
        match["host"].lower(),
        None if any_port else _port_of(port, scheme),
        bool(match["any"]),
        any_port,
    )
