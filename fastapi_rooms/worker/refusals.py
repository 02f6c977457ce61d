"""How a client is refused, before it comes in and after: by which exception, code and reason."""

from __future__ import annotations

import logging

from starlette.exceptions import HTTPException, WebSocketException
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms.core.close_codes import (
    MESSAGE_TOO_BIG,
    SERVICE_RESTART,
    TRY_AGAIN_LATER,
    shorten_reason,
)
from fastapi_rooms.core.printable import printable
from fastapi_rooms.errors import (
    AdapterUnavailable,
    ClientError,
    InvalidRoomName,
    MessageTooLarge,
    ShuttingDown,
    SidInUse,
    UsageError,
)
from fastapi_rooms.worker.socket import Socket

logger = logging.getLogger("fastapi_rooms")

HTTP_STATUS_BASE = 4000
"""A close code for an HTTP status is this and the status: 4404 for "not found"."""

BAD_REQUEST, SID_IN_USE = HTTP_STATUS_BASE + 400, HTTP_STATUS_BASE + 409

# Before it accepts, Starlette answers the handshake with the status; after it has, it closes the
# connection with the code; unless the endpoint catches them.


class SidInUseBeforeAccept(SidInUse, HTTPException):
    """A sid that another socket has."""

    def __init__(self, message: str) -> None:
        HTTPException.__init__(self, 409, message)


class SidInUseAfterAccept(SidInUse, WebSocketException):
    """A sid that another socket has."""

    def __init__(self, message: str) -> None:
        WebSocketException.__init__(self, SID_IN_USE, shorten_reason(message))


class InvalidSidBeforeAccept(InvalidRoomName, HTTPException):
    """A sid that is no valid name."""

    def __init__(self, message: str) -> None:
        HTTPException.__init__(self, 400, message)


class InvalidSidAfterAccept(InvalidRoomName, WebSocketException):
    """A sid that is no valid name."""

    def __init__(self, message: str) -> None:
        WebSocketException.__init__(self, BAD_REQUEST, shorten_reason(message))


SidError = SidInUse | InvalidRoomName


def can_answer_by_http(websocket: WebSocket) -> bool:
    """Whether the server can answer the handshake with a status, rather than accept it."""
    return "websocket.http.response" in websocket.scope.get("extensions", {})


def bad_sid(error: SidError, *, accepted: bool) -> SidError:
    """Refuse a sid that another socket has, or that is no valid name."""
    in_use = isinstance(error, SidInUse)
    status = 409 if in_use else 400
    code = HTTP_STATUS_BASE + status if accepted else status
    logger.info("A client was turned away (%d): %s", code, error)
    if in_use:
        return (SidInUseAfterAccept if accepted else SidInUseBeforeAccept)(str(error))
    refusal = (InvalidSidAfterAccept if accepted else InvalidSidBeforeAccept)(str(error))
    refusal.text = error.text
    return refusal


def refusal_of(error: BaseException) -> BaseException:
    """What to raise for an error that keeps an accepted client from coming in."""
    if isinstance(error, AdapterUnavailable):
        logger.info("A client was turned away (%d): %s", TRY_AGAIN_LATER, error)
        return WebSocketException(TRY_AGAIN_LATER, "try again later")
    if isinstance(error, ShuttingDown):
        return WebSocketException(SERVICE_RESTART, "service restart")
    if isinstance(error, SidInUse):
        return bad_sid(error, accepted=True)
    return error


def turns_away(error: BaseException, socket: Socket, manager: object) -> bool:
    """Whether an error in the block of a socket, of that manager, is a reason to close its client.

    What is about another client, or another manager, is not. A text that cannot be used, or sent,
    is taken for the client's: nobody can tell, and it must not be able to order tracebacks.
    """
    if isinstance(error, ClientError):
        return error.socket in (None, socket)
    if isinstance(error, AdapterUnavailable | ShuttingDown):
        return error.manager is manager
    if isinstance(error, UsageError) and not isinstance(error, MessageTooLarge):
        return error.text is not None
    return isinstance(error, HTTPException | MessageTooLarge)


def close_of(error: BaseException, socket: Socket) -> tuple[int, str]:
    """The code and reason to close a client with, by an error that turns it away; logs it."""
    if isinstance(error, HTTPException):
        code, reason = HTTP_STATUS_BASE + error.status_code, str(error.detail)
        logger.debug("%s was closed (%d): %r", socket, code, reason)
    elif isinstance(error, ClientError):
        code, reason = error.code, str(error)
        logger.debug("%s was closed (%d): %r", socket, code, reason)
    elif isinstance(error, UsageError):
        too_big = isinstance(error, MessageTooLarge)
        code, reason = MESSAGE_TOO_BIG if too_big else BAD_REQUEST, str(error)
        # It may be a bug of the endpoint all the same, which somebody has to see, and to find.
        logger.warning("%s was closed (%d): %s", socket, code, printable(reason))
        logger.debug("It was closed by", exc_info=error)
    elif isinstance(error, ShuttingDown):
        code, reason = SERVICE_RESTART, "service restart"
    else:
        code, reason = TRY_AGAIN_LATER, "try again later"
        logger.info("%s was closed (%d): %s", socket, code, error)
    return code, reason


async def raise_that_client_is_gone(websocket: WebSocket) -> None:
    """Raise what the server does when a client goes before it is accepted, which ends quietly.

    Starlette would try to close such a client, fail, and have the server log a traceback.
    """
    try:
        await websocket.close()
    except WebSocketDisconnect as error:
        raise error.__context__ or error from None
