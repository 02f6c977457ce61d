"""Answers to a client that is refused: at its handshake, or by a later endpoint."""

from __future__ import annotations

from starlette.types import Scope, Send

from fastapi_rooms.core.close_codes import INTERNAL_ERROR, POLICY_VIOLATION, TRY_AGAIN_LATER
from fastapi_rooms.wire.gateway import Headers

_REASONS = {
    400: b"Bad Request",
    404: b"Not Found",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}


def close_of(status: int) -> tuple[int, str]:
    """How a client is closed that was accepted, and whose next endpoint refuses it by HTTP.

    As `rooms.connect` closes by an `HTTPException`; 403 is also what is said without any reason.
    """
    if status >= 500:
        return INTERNAL_ERROR, ""
    if status == 403:
        return POLICY_VIOLATION, "refused"
    return 4000 + status, ""


async def answer_by_http(
    scope: Scope, send: Send, status: int, headers: Headers | None = None, body: bytes | None = None
) -> None:
    """Refuse a handshake with a status, or with 403 where the server can send no other."""
    if status == 403 and not (headers or body):  # as every server answers to a close
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": ""})
        return
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
