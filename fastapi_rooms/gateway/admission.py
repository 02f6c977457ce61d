"""Whom an edge lets in, and which of their request headers backends get."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.exceptions import WebSocketException
from starlette.requests import HTTPConnection
from starlette.types import Scope

from fastapi_rooms.core.checks import check_count
from fastapi_rooms.core.parts import LONGEST
from fastapi_rooms.errors import ConfigurationError
from fastapi_rooms.security.origins import AllowedOrigins
from fastapi_rooms.wire.gateway import Headers

ALWAYS = frozenset({b"host", b"origin", b"connection", b"upgrade"})
"""Headers that every backend gets, besides those of the WebSocket handshake itself."""

HANDSHAKE = b"sec-websocket-"
"""What the names of the others begin with: RFC 6455, section 11.3."""

MAX_REQUEST = 64 * 1024
"""The longest path, query and headers of a handshake together, in bytes: one frame has them all."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
"""The name of a header: RFC 9110, section 5.6.2."""


class Admission:
    """The limits of an edge, and how many clients it holds."""

    def __init__(
        self,
        *,
        origins: AllowedOrigins | None,
        headers: Collection[str] | None,
        max_clients: int | None,
        max_message_bytes: int,
    ) -> None:
        if max_clients is not None:
            check_count("max_clients", max_clients, "clients")
        check_count("max_message_bytes", max_message_bytes, "bytes")
        if max_message_bytes > LONGEST:
            raise ConfigurationError(
                f"max_message_bytes={max_message_bytes!r} is more than an edge and a backend can "
                f"send each other: {LONGEST:,} bytes."
            )
        if origins is not None and not isinstance(origins, AllowedOrigins):
            raise ConfigurationError(
                f"origins must be AllowedOrigins(…), or None for all pages, not {origins!r}."
            )
        self._origins = origins
        self._headers = None if headers is None else _names(headers)
        self._max_clients = max_clients
        self.max_message_bytes = max_message_bytes
        """The longest message of a client, in bytes."""
        self.clients = 0
        """How many are in."""
        self._connections = 0  # those whose channels are clients

    async def refusal(self, scope: Scope) -> int | None:
        """The status with which a handshake is refused, if it is."""
        if self._origins is not None:
            try:
                await self._origins(HTTPConnection(scope))
            except WebSocketException:
                return 403
        if _size(scope) > MAX_REQUEST:
            return 431
        if self._max_clients is not None and self.clients + self._connections >= self._max_clients:
            return 503
        return None

    @contextmanager
    def place(self) -> Iterator[None]:
        """A client is in as long as the block lasts."""
        self.clients += 1
        try:
            yield
        finally:
            self.clients -= 1

    @contextmanager
    def connection(self) -> Iterator[None]:
        """A connection is open, for as long as the block lasts, whose channels are clients."""
        self._connections += 1
        try:
            yield
        finally:
            self._connections -= 1

    def told(self, headers: Headers) -> Headers:
        """Those of a client's headers that backends get, in their order."""
        allowed = self._headers
        if allowed is None:
            return headers
        return [
            (name, value)
            for name, value in headers
            if (lower := name.lower()) in allowed or lower.startswith(HANDSHAKE)
        ]


def _names(headers: Collection[Any]) -> frozenset[bytes]:
    if isinstance(headers, str | bytes):
        raise ConfigurationError(f"headers must be several names, not {headers!r}: [{headers!r}].")
    for name in headers:
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise ConfigurationError(
                f"headers: {name!r} is no name of a header, such as 'cookie' or 'authorization'."
            )
    return ALWAYS | {name.lower().encode("ascii") for name in headers}


def _size(scope: Scope) -> int:
    path = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogatepass")
    size = len(path) + len(scope.get("query_string", b""))
    return size + sum(len(name) + len(value) for name, value in scope["headers"])
