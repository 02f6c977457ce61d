"""How a client is refused: as the exceptions that Starlette answers it by."""

from __future__ import annotations

import logging

from starlette.exceptions import HTTPException, WebSocketException
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms.core.close_codes import SERVICE_RESTART, TRY_AGAIN_LATER, shorten_reason
from fastapi_rooms.errors import AdapterUnavailable, ShuttingDown, SidInUse

logger = logging.getLogger("fastapi_rooms")

HTTP_STATUS_BASE = 4000
"""A close code for an HTTP status is this and the status: 4404 for "not found"."""

SID_IN_USE = HTTP_STATUS_BASE + 409


class SidInUseBeforeAccept(SidInUse, HTTPException):
    """Starlette answers the handshake with it, unless the endpoint catches it."""

    def __init__(self, message: str) -> None:
        HTTPException.__init__(self, 409, message)


class SidInUseAfterAccept(SidInUse, WebSocketException):
    """Starlette closes the connection by it, unless the endpoint catches it."""

    def __init__(self, message: str) -> None:
        WebSocketException.__init__(self, SID_IN_USE, shorten_reason(message))


def can_answer_by_http(websocket: WebSocket) -> bool:
    """Whether the server can answer the handshake with a status, rather than accept it."""
    return "websocket.http.response" in websocket.scope.get("extensions", {})


def sid_in_use(error: SidInUse, *, accepted: bool) -> SidInUse:
    """Refuse a sid that another socket has."""
    logger.info("A client was turned away (%d): %s", SID_IN_USE if accepted else 409, error)
    return (SidInUseAfterAccept if accepted else SidInUseBeforeAccept)(str(error))


def refusal_of(error: BaseException) -> BaseException:
    """What to raise for an error that keeps an accepted client from coming in."""
    if isinstance(error, AdapterUnavailable):
        logger.info("A client was turned away (%d): %s", TRY_AGAIN_LATER, error)
        return WebSocketException(TRY_AGAIN_LATER, "try again later")
    if isinstance(error, ShuttingDown):
        return WebSocketException(SERVICE_RESTART, "service restart")
    if isinstance(error, SidInUse):
        return sid_in_use(error, accepted=True)
    return error


async def raise_that_client_is_gone(websocket: WebSocket) -> None:
    """Raise what the server does when a client goes before it is accepted, which ends quietly.

    Starlette would try to close such a client, fail, and have the server log a traceback.
    """
    try:
        await websocket.close()
    except WebSocketDisconnect as error:
        raise error.__context__ or error from None
