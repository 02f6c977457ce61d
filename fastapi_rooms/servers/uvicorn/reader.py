"""Reads plain messages before uvicorn's parser does, on uvicorn's default implementation.

What this leans on, beside what `uvicorn.py` does: asyncio hands what arrives to the protocol's
`data_received`, and that of uvicorn's default implementation to websockets' parser, a generator
that shows where it stands. We put ours before it, for good.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

from fastapi_rooms.servers.uvicorn.inbox import Inbox
from fastapi_rooms.servers.uvicorn.plain_messages import Unmask, events_in
from fastapi_rooms.servers.uvicorn.server import tested_parser


class Reader:
    """Takes plain messages before websockets' parser does, at a tenth of what that costs.

    All that arrives goes to uvicorn as ever, except where the parser has nothing in hand and what
    arrived is whole messages: see `reader.py`. Then they go where uvicorn would put them, and
    the parser is none the wiser. It is asked where it stands whenever it has been given something.

    Nothing here refers to the protocol, which refers to it: a connection that is gone is freed
    without waiting for the garbage collector.
    """

    __slots__ = ("_conn", "_inbox", "_max_size", "_open", "_plain", "_protocol", "_unmask")

    @classmethod
    def put_before(cls, protocol: Any, inbox: Inbox, open_state: object) -> None:
        """Put one before a protocol's `data_received`, unless there is any doubt about it."""
        unmask = getattr(sys.modules.get("websockets.frames"), "apply_mask", None)
        max_size = getattr(getattr(protocol, "config", None), "ws_max_size", None)
        if (
            type(protocol).__name__ == "WebSocketsSansIOProtocol"
            and tested_parser()
            and "data_received" not in vars(protocol)
            and isinstance(getattr(protocol, "frames", None), list)
            and getattr(protocol.conn, "debug", None) is False  # else it logs every frame
            and isinstance(max_size, int)
            and callable(unmask)
        ):
            reader = cls(protocol, inbox, open_state, max_size, unmask)
            protocol.data_received = reader.data_received
            protocol.transport.set_protocol(protocol)  # uvloop keeps the method it saw then

    def __init__(
        self, protocol: Any, inbox: Inbox, open_state: object, max_size: int, unmask: Unmask
    ) -> None:
        self._protocol = weakref.ref(protocol)
        self._conn = protocol.conn
        self._inbox = inbox
        self._open = open_state
        self._max_size = max_size
        self._unmask = unmask
        self._plain = _is_between_messages(protocol)

    def data_received(self, data: bytes) -> None:
        """What asyncio calls."""
        if self._plain and self._conn.state is self._open:
            events = events_in(data, self._max_size, self._unmask)
            if events is not None:
                for event in events:
                    self._inbox.put_nowait(event)
                return
        protocol = self._protocol()
        if protocol is not None:
            self._plain = False  # should it raise
            type(protocol).data_received(protocol, data)
            self._plain = _is_between_messages(protocol)


def _is_between_messages(protocol: Any) -> bool:
    """Whether the parser holds no part of a frame, nor uvicorn of a message.

    The parser is a generator. It waits in `at_eof` for the first byte of a frame, with nothing in
    its buffer, and elsewhere for every other byte.
    """
    waiting = getattr(protocol.conn, "parser", None)
    while (inner := getattr(waiting, "gi_yieldfrom", None)) is not None:
        waiting = inner
    return getattr(waiting, "__name__", "") == "at_eof" and not protocol.frames
