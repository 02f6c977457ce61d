"""What a page may say to its endpoint. Anything else is answered with an error, not a traceback.

What a page is told is in JSON too, with a `type`. Other programs can speak to a room as well, by an
emitter or the command line: what is not in our words, plain text say, is shown as an announcement.
"""

import json
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints, TypeAdapter

from fastapi_rooms import RoomMessage

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=24)]
RoomName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=32)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
Token = Annotated[str, StringConstraints(min_length=1, max_length=60)]


class Rename(BaseModel):
    type: Literal["rename"]  # call me this from now on, in every room
    name: Name


class Join(BaseModel):
    type: Literal["join"]  # let me in, and tell me who is there, and what was said
    room: RoomName


class Say(BaseModel):
    type: Literal["say"]
    room: RoomName
    text: Text
    ref: Token  # the page's own mark, by which it knows its message again


class Typing(BaseModel):
    type: Literal["typing"]  # worth sending now, worth nothing later
    room: RoomName


class Leave(BaseModel):
    type: Literal["leave"]
    room: RoomName


Incoming = Rename | Join | Say | Typing | Leave
incoming: TypeAdapter[Incoming] = TypeAdapter(Annotated[Incoming, Field(discriminator="type")])


def said(message: RoomMessage) -> str | None:
    """What a listener is told of a message, in JSON: nothing, if there are no words in it."""
    if message.binary:
        return None
    try:
        content = message.json()
    except ValueError:
        content = None
    if not isinstance(content, dict) or "type" not in content:
        return json.dumps({"type": "announcement", "text": message.text})
    return message.text if content["type"] in {"say", "announcement"} else None
