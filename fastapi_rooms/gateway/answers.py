"""Answers to a handshake that is refused."""

from __future__ import annotations

from starlette.types import Scope, Send

from fastapi_rooms.core.close_codes import TRY_AGAIN_LATER
from fastapi_rooms.wire.gateway import Headers

_REASONS = {
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}


async def answer_by_http(
    scope: Scope, send: Send, status: int, headers: Headers | None = None, body: bytes | None = None
) -> None:
    """Refuse a handshake with a status, or with 403 where the server can send no other."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": ""})
        return
    if body is None:
        body = _REASONS.get(status, b"")
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        headers += [(b"retry-after", b"1")] if status == 503 else []
    start = {"type": "websocket.http.response.start", "status": status, "headers": headers or []}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": body})
