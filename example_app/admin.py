"""What only an admin may do. The page shows the buttons; whether they work is decided here."""

import os
import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from example_app.hub import Rooms
from fastapi_rooms import AdapterUnavailable, RequestError

DISCONNECTED = 4003  # a close code of our own: the page does not come back by itself
TOKEN = os.environ.get("ADMIN_TOKEN", "")

# A sid, and not one of the chat's rooms: these are `room:…`.
Sid = Annotated[str, Path(pattern=r"^[\w.-]+$", max_length=64)]


def is_admin(
    sent: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
) -> None:
    """Turn away whoever does not know the token; everybody, if there is none."""
    if not TOKEN:
        raise HTTPException(403, "There is no admin: ADMIN_TOKEN is not set")
    if sent is None or not secrets.compare_digest(sent.credentials.encode(), TOKEN.encode()):
        raise HTTPException(401, "That is not the token", {"WWW-Authenticate": "Bearer"})


router = APIRouter(prefix="/admin", dependencies=[Depends(is_admin)])


@router.get("", status_code=204)
async def check() -> None:
    """Whether the token is right: `is_admin` has said so."""


@router.post("/disconnect/{sid}", status_code=204)
async def disconnect(sid: Sid, rooms: Rooms) -> None:
    """Close somebody's socket, on whichever worker it is."""
    somebody = rooms.to(sid)
    try:
        if not await somebody.count():
            raise HTTPException(404, "They have gone already")
        await somebody.disconnect_sockets(DISCONNECTED, "An admin has disconnected you")
    except (AdapterUnavailable, RequestError) as problem:
        raise HTTPException(503, "Their worker did not answer") from problem
