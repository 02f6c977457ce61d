"""Bypasses the WebSocket parser for plain messages, on uvicorn's default implementation.

It depends on what `transport.py` depends on, and on these: asyncio passes received data to the
protocol's `data_received`, and uvicorn's passes it to the parser of websockets, a generator whose
suspended frames show its state. We override `data_received`, for good.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

from fastapi_rooms.servers.uvicorn.inbox import Inbox
from fastapi_rooms.servers.uvicorn.plain_messages import Unmask, messages_in
from fastapi_rooms.servers.uvicorn.server import is_tested_websockets


class Reader:
    """Parses plain messages at a tenth of what the parser of websockets costs.

    If the parser is between two messages, and the received data consists of whole plain messages,
    they are queued as uvicorn would do it. The parser does not see them, so its state does not
    change. All other data goes to uvicorn, and the parser's state is checked afterwards.

    The protocol refers to the reader, and the reader only weakly to the protocol, so that a lost
    connection is freed without the garbage collector.
    """

    __slots__ = (
        "_between_messages",
        "_conn",
        "_inbox",
        "_max_size",
        "_open_state",
        "_protocol",
        "_unmask",
    )

    @classmethod
    def install(cls, protocol: Any, inbox: Inbox, open_state: object) -> None:
        """Override a protocol's `data_received`, unless anything is not as expected."""
        unmask = getattr(sys.modules.get("websockets.frames"), "apply_mask", None)
        max_size = getattr(getattr(protocol, "config", None), "ws_max_size", None)
        if (
            type(protocol).__name__ == "WebSocketsSansIOProtocol"
            and is_tested_websockets()
            and "data_received" not in vars(protocol)
            and isinstance(getattr(protocol, "frames", None), list)
            and getattr(protocol.conn, "debug", None) is False  # it would log every frame
            and isinstance(max_size, int)
            and callable(unmask)
        ):
            reader = cls(protocol, inbox, open_state, max_size, unmask)
            protocol.data_received = reader.data_received
            protocol.transport.set_protocol(protocol)  # uvloop looks up `data_received` only here

    def __init__(
        self, protocol: Any, inbox: Inbox, open_state: object, max_size: int, unmask: Unmask
    ) -> None:
        self._protocol = weakref.ref(protocol)
        self._conn = protocol.conn
        self._inbox = inbox
        self._open_state = open_state
        self._max_size = max_size
        self._unmask = unmask
        self._between_messages = _is_between_messages(protocol)

    def data_received(self, data: bytes) -> None:
        if self._between_messages and self._conn.state is self._open_state:
            messages = messages_in(data, self._max_size, self._unmask)
            if messages is not None:
                for message in messages:
                    self._inbox.put(message)
                return
        protocol = self._protocol()
        if protocol is not None:
            self._between_messages = False  # in case the next line raises
            type(protocol).data_received(protocol, data)
            self._between_messages = _is_between_messages(protocol)


def _is_between_messages(protocol: Any) -> bool:
    """Whether the parser has no part of a frame, and uvicorn no fragment of a message.

    The parser is a generator. It is suspended in `at_eof` while it waits for the first byte of a
    frame with an empty buffer, and elsewhere while it waits for any other byte.
    """
    waiting = getattr(protocol.conn, "parser", None)
    while (inner := getattr(waiting, "gi_yieldfrom", None)) is not None:
        waiting = inner
    return getattr(waiting, "__name__", "") == "at_eof" and not protocol.frames
