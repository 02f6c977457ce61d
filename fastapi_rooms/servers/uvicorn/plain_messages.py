"""A fast parser for what clients usually send: unfragmented, uncompressed messages.

It is stateless and reports no errors. Data that consists of such messages (RFC 6455, section 5.2)
is parsed into their text or bytes. Any other data (a partial frame, a fragment, a ping, a close
frame, something compressed or invalid) is left entirely to the server's own parser, which also
handles the errors.
"""

from __future__ import annotations

from collections.abc import Callable

Unmask = Callable[[bytes, bytes], bytes]
"""Unmasks data, given the four bytes of the masking key."""

_FINAL_TEXT, _FINAL_BINARY = 0x81, 0x82
_MASKED, _MASKED_16, _MASKED_64 = 0x80, 0xFE, 0xFF


def messages_in(data: bytes, max_size: int, unmask: Unmask) -> list[str | bytes] | None:
    """The messages that `data` consists of, or `None` if it contains anything else.

    `data` must start at the first byte of a frame, outside of a fragmented message. Frames with a
    64-bit length are left to the server too: for so large a message, parsing costs little.
    """
    messages: list[str | bytes] = []
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
                messages.append(unmask(data[start:stop], data[start - 4 : start]).decode())
            elif kind == _FINAL_BINARY:
                messages.append(unmask(data[start:stop], data[start - 4 : start]))
            else:
                return None
            at = stop
    except (IndexError, UnicodeDecodeError):
        return None
    return messages
