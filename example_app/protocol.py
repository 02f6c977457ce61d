"""What a page may say to its endpoint. Anything else is answered with an error, not a traceback."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints, TypeAdapter

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=24)]
RoomName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=32)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
Token = Annotated[str, StringConstraints(min_length=1, max_length=60)]


class Rename(BaseModel):
    type: Literal["rename"]  # call me this from now on, in every room
    name: Name


class Join(BaseModel):
    type: Literal["join"]  # let me in: the room is told, and its members answer with `Here`
    room: RoomName


class Here(BaseModel):
    type: Literal["here"]  # the answer to one newcomer: I am in this room too
    room: RoomName
    to: Token


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


Incoming = Rename | Join | Here | Say | Typing | Leave
incoming: TypeAdapter[Incoming] = TypeAdapter(Annotated[Incoming, Field(discriminator="type")])
