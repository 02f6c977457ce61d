"""Reads what clients send nearly always: whole messages of one frame each (RFC 6455, section 5.2).

Strategy: nothing is remembered and nothing is judged. Bytes that are such messages from the first
to the last become ASGI events; bytes that are anything else (half a frame, a fragment, a ping, a
close, something compressed or wrong) are left as they are, for the server's own parser to
go through from the first byte. So whatever has to be said about them, it says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Unmask = Callable[[bytes, bytes], bytes]
"""Undoes the masking of some data, given the four bytes of its mask."""

_FINAL_TEXT, _FINAL_BINARY = 0x81, 0x82
_MASKED, _MASKED_16, _MASKED_64 = 0x80, 0xFE, 0xFF


def events_in(data: bytes, max_size: int, unmask: Unmask) -> list[dict[str, Any]] | None:
    """The events of the messages that `data` consists of, or `None` if it is anything else.

    It starts where a frame starts, with no fragmented message under way. Frames with lengths of 64
    bits are left to the server, too: reading them is the least of what they cost.
    """
    events: list[dict[str, Any]] = []
    at, end = 0, len(data)
    try:
        while at < end:
            length = data[at + 1]
            if length < _MASKED or length == _MASKED_64:
                return None
            if length == _MASKED_16:
                start = at + 8
                length = data[at + 2] << 8 | data[at + 3]
            else:
                start = at + 6
                length -= _MASKED
            stop = start + length
            if stop > end or length > max_size:
                return None
            kind = data[at]
            if kind == _FINAL_TEXT:
                text = unmask(data[start:stop], data[start - 4 : start]).decode()
                events.append({"type": "websocket.receive", "text": text})
            elif kind == _FINAL_BINARY:
                content = unmask(data[start:stop], data[start - 4 : start])
                events.append({"type": "websocket.receive", "bytes": content})
            else:
                return None
            at = stop
    except (IndexError, UnicodeDecodeError):
        return None
    return events
