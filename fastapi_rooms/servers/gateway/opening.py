"""What an edge says of a client when it has an endpoint opened, as an ASGI scope."""

from __future__ import annotations

from typing import Any

from fastapi_rooms.errors import MalformedEnvelope
from fastapi_rooms.wire import gateway as wire


def scope_of(opened: dict[str, Any]) -> dict[str, Any]:
    """The scope of a client. Raises `MalformedEnvelope` for what cannot be one's."""
    path = wire.field(opened, "path", str)
    client, server = opened.get("client"), opened.get("server")
    subprotocols = wire.field(opened, "subprotocols", list)
    if not all(isinstance(one, str) for one in subprotocols):
        raise MalformedEnvelope("the subprotocols are none")
    try:
        raw_path = wire.field(opened, "raw_path", str).encode("latin-1")
        query = wire.field(opened, "query_string", str).encode("latin-1")
    except ValueError as error:
        raise MalformedEnvelope("the path or the query is no bytes") from error
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": wire.field(opened, "http_version", str),
        "scheme": wire.field(opened, "scheme", str),
        "path": path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": wire.field(opened, "root_path", str),
        "headers": wire.unpack_headers(opened.get("headers")),
        "client": tuple(client) if isinstance(client, list) and len(client) == 2 else None,
        "server": tuple(server) if isinstance(server, list) and len(server) == 2 else None,
        "subprotocols": subprotocols,
        "state": {},
        "extensions": {"websocket.http.response": {}},
    }
