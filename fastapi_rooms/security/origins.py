"""Which web pages may open a connection: the check that browsers leave to the server.

A page of any site can open a WebSocket to ours, and the browser sends our cookies along (cross-site
WebSocket hijacking); no CORS rule applies. But a browser always says by `Origin` whose page it is,
and no script can change that. So the door looks there, before the handshake is answered.

Strategy: an origin is scheme, host and port (RFC 6454, section 4), and is compared as these three.
What cannot be read as exactly one origin is refused. Nothing is taken from headers that any client
can send in a proxy's name: what uvicorn makes of a trusted proxy's is in the scope already.
"""

# Annotations are not postponed here: FastAPI reads those of `__call__`, and older ones cannot look
# the names up for an object that is called.

import logging
import re
from typing import NamedTuple

from starlette.exceptions import HTTPException, WebSocketException
from starlette.requests import HTTPConnection

from fastapi_rooms.errors import ConfigurationError

logger = logging.getLogger("fastapi_rooms")

_POLICY_VIOLATION, _FORBIDDEN = 1008, 403
_DEFAULT_PORTS = {"http": 80, "https": 443}
_FLAGS = re.IGNORECASE | re.ASCII  # else [a-z] has letters like U+212A, KELVIN SIGN, in it
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
    """`None` where the scheme has no port of its own and none is given."""


class _Allowed(NamedTuple):
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
    """Turns away what pages of other sites open, before the connection is accepted.

        own_pages = AllowedOrigins("https://chat.example.com", "https://*.example.org")

        @app.websocket("/chat/{room}", dependencies=[Depends(own_pages)])
        async def chat(websocket: WebSocket, room: str, rooms: Rooms) -> None: ...

    Without FastAPI: `await own_pages(websocket)`, before `rooms.connect`. It serves HTTP routes as
    well, such as those of event streams.

    Whoever is refused gets HTTP status 403. The first refusal is logged as a warning that says what
    to change if it was a mistake, those after it as information.

    Args:
        origins: what is allowed. `https://a.example` is this host at the scheme's own port,
            `https://a.example:8443` at this one, `http://localhost:*` at any;
            `https://*.a.example` is every host below `a.example`, at any depth, and not itself.
            Schemes of applications (`capacitor://localhost`, `chrome-extension://…`) are spelled
            out too. `null` is the origin of pages that hide theirs, sandboxed frames and files:
            anyone can make such a page. When left out, pages of the same host are allowed.
        same_host: whether pages of the host and port that the connection was made to (its `Host`
            header) are allowed. `True` when no origins are given, else `False`.
        without_origin: whether a connection that names no origin is allowed. Browsers always name
            one, so it is a program, which has no user's cookies but those it was given.

    Raises:
        ConfigurationError: what is to be allowed is no origin, or nothing is.
    """

    def __init__(
        self, *origins: str, same_host: bool | None = None, without_origin: bool = True
    ) -> None:
        self._same_host = not origins if same_host is None else same_host
        self._without_origin = without_origin
        self._null = "null" in origins
        self._allowed = [_read_allowed(origin) for origin in origins if origin != "null"]
        self._shown = ", ".join([*origins, *(["pages of the same host"] * self._same_host)])
        self._warned = False
        if not self._shown:
            raise ConfigurationError("AllowedOrigins would refuse every page: name an origin.")

    async def __call__(self, connection: HTTPConnection) -> None:
        """Return if the connection is allowed.

        Raises:
            starlette.exceptions.WebSocketException: it is not, and is a WebSocket. Before it is
                accepted the server answers with 403; after that it is closed with 1008.
            starlette.exceptions.HTTPException: it is not, and is an HTTP request: 403.
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
        """Whether a connection is allowed, by what its handshake says.

        Args:
            origin: the `Origin` header, if there is one.
            host: the `Host` header, if there is one.
            secure: whether the connection is known to use TLS.
        """
        if origin is None:
            return self._without_origin
        if origin == "null":
            return self._null
        read = _read(origin)
        if read is None:
            return False
        if any(allowed.allows(read) for allowed in self._allowed):
            return True
        return self._same_host and host is not None and _is_same_host(read, host, secure=secure)

    def _log(self, origins: list[str], hosts: list[str]) -> None:
        level, self._warned = (logging.INFO if self._warned else logging.WARNING), True
        logger.log(
            level,
            "A connection was refused (403): a page of origin %.200r opened it to host %.200r. "
            "Allowed are: %s. If it is a page of yours, give its origin to AllowedOrigins; behind "
            "a proxy, see that it passes on the Host header as it came.",
            ", ".join(origins),
            ", ".join(hosts),
            self._shown,
        )


def _port_of(text: str | None, scheme: str) -> int | None:
    return int(text) if text else _DEFAULT_PORTS.get(scheme)


def _read(origin: str) -> _Origin | None:
    """An `Origin` header in its three parts; `None` if it is not exactly one origin."""
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        return None
    scheme = found["scheme"].lower()
    return _Origin(scheme, found["host"].lower(), _port_of(found["port"], scheme))


def _is_same_host(origin: _Origin, host: str, *, secure: bool) -> bool:
    """Whether a page's origin is where the connection was made to.

    A connection that comes without TLS may have come to a proxy with it, so its page may be either;
    on one that is known to use TLS, a page without it may be forged by the network in between.
    A `Host` without a port stands for the port that the page's own scheme has, for the same reason.
    """
    found = _AUTHORITY.fullmatch(host)
    if found is None or origin.scheme not in _DEFAULT_PORTS:
        return False
    if secure and origin.scheme != "https":
        return False
    port = _port_of(found["port"], origin.scheme)
    return (origin.host, origin.port) == (found["host"].lower(), port)


def _read_allowed(origin: object) -> _Allowed:
    found = _PATTERN.fullmatch(origin) if isinstance(origin, str) else None
    if found is None:
        raise ConfigurationError(
            f"AllowedOrigins: {origin!r} is no origin. Write scheme and host, and the port if it "
            "is not the scheme's own: 'https://chat.example.com', 'https://*.example.com', "
            "'http://localhost:*'. No path, no slash at the end; a host that is not ASCII as "
            "browsers send it ('xn--…'). To allow every page, leave the check out."
        )
    scheme, port = found["scheme"].lower(), found["port"]
    any_port = port == "*"
    return _Allowed(
        scheme,
        found["host"].lower(),
        None if any_port else _port_of(port, scheme),
        bool(found["any"]),
        any_port,
    )
