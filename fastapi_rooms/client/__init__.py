"""Clients that come back: one for browsers, which an application serves, and one for Python.

browser     the one for browsers: an ASGI application to be mounted, `files`
connecting  `connect`: the client for Python, and its options
options     where to connect, and how; what is told of the connection
socket      what it gives: one after the other connection, and the messages of all of them
message     one of them
inbox       what was received, and not asked for yet
silence     whether anybody is at the other end
sending     what is sent while there is none
connection  one connection, by the library `websockets`: nothing else needs it
"""

from __future__ import annotations

from fastapi_rooms.client.browser import files
from fastapi_rooms.client.connecting import connect
from fastapi_rooms.client.message import ClientMessage
from fastapi_rooms.client.options import BufferLimits, State, StateChange
from fastapi_rooms.client.socket import ClientSocket

__all__ = [
    "BufferLimits",
    "ClientMessage",
    "ClientSocket",
    "State",
    "StateChange",
    "connect",
    "files",
]
