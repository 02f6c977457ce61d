"""Several channels over one WebSocket connection of a client: the subprotocol `rooms.mux.v1`.

A channel is to its client what a WebSocket connection is. Its number is the client's choice.

    text     0:{…}          control: a JSON object, whose kind is the key that has the number
    text     7:payload      a text message of channel 7
    binary   07 payload     a binary message of channel 7; the number as a varint (LEB128)

    control                                          from
    {"open":7,"path":"/chat/tea?name=ann"}           client  also: "protocols", "window"
    {"opened":7,"window":65536,"protocol":"b"}       edge    in answer to it
    {"denied":7,"status":403}                        edge    or this, and the channel is over
    {"credit":7,"bytes":32768}                       both    so much was taken
    {"close":7,"code":1000,"reason":""}              client  it sends no more
    {"closed":7,"code":1000,"reason":""}             edge    the channel is over
    {"reopened":7}                                   edge    another backend goes on with it

What breaks these rules is malformed, and ends the connection. What is about one channel only, such
as a path that cannot be, is not; it is read by `target_of`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from fastapi_rooms.core.close_codes import MAX_REASON_BYTES
from fastapi_rooms.core.json_codec import WIRE_JSON
from fastapi_rooms.errors import MalformedEnvelope

SUBPROTOCOL = "rooms.mux.v1"
"""What a client offers that wants channels."""

MAX_CHANNEL = 65_535
"""The highest number of a channel; the lowest is 1."""

MAX_CONTROL = 16 * 1024
"""How many characters a control message may have."""

MAX_PATH = 8 * 1024
"""How many characters a path may have, with its query."""

MAX_PROTOCOLS = 32
"""How many subprotocols may be offered for a channel."""

MAX_WINDOW = 16 * 1024 * 1024
"""The largest window of a client, in bytes."""

_CLIENT_CODES = frozenset((1000, 1001, *range(3000, 5000)))
_NUMBER = re.compile(r"[1-9][0-9]{0,4}")
_TARGET = re.compile(r"/[!-\"$-~]*")  # ASCII that can be seen, without a fragment
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}")  # RFC 9110, section 5.6.2


@dataclass(frozen=True, slots=True)
class Open:
    """The client opens a channel."""

    channel: int
    path: str
    """The path and the query, as in a URL."""
    protocols: tuple[str, ...] = ()
    window: int | None = None
    """How many bytes it takes ahead of its credit; `None`: it does not say."""


@dataclass(frozen=True, slots=True)
class Credit:
    """The client has taken messages."""

    channel: int
    size: int


@dataclass(frozen=True, slots=True)
class Close:
    """The client sends no more on a channel."""

    channel: int
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Data:
    """A message of a channel."""

    channel: int
    payload: str | bytes


def read_text(text: str) -> Open | Credit | Close | Data:
    """Read a text message of a client. Raises `MalformedEnvelope`, and nothing else."""
    number, colon, payload = text.partition(":")
    if not colon:
        raise MalformedEnvelope("a text has no channel before a colon")
    return _read_control(payload) if number == "0" else Data(_number_of(number), payload)


def read_bytes(data: bytes) -> Data:
    """Read a binary message of a client. Raises `MalformedEnvelope`, and nothing else."""
    number = 0
    for index, byte in enumerate(data[:3]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if (byte == 0 and index) or not 1 <= number <= MAX_CHANNEL:
                break
            return Data(number, data[index + 1 :])
    raise MalformedEnvelope("a binary message does not begin with the number of a channel")


def _number_of(text: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) > MAX_CHANNEL:
        raise MalformedEnvelope("a channel has a number from 1 to 65535")
    return int(text)


def _read_control(text: str) -> Open | Credit | Close:
    if len(text) > MAX_CONTROL:
        raise MalformedEnvelope(f"a control message has at most {MAX_CONTROL} characters")
    try:
        said = WIRE_JSON.loads(text.encode())
    except ValueError as error:
        raise MalformedEnvelope("a control message is no JSON") from error
    if not isinstance(said, dict):
        raise MalformedEnvelope("a control message is no JSON object")
    kinds = [kind for kind in _READERS if kind in said]
    if len(kinds) != 1:
        raise MalformedEnvelope("a control message is one of open, credit and close")
    (kind,) = kinds
    channel = said[kind]
    if type(channel) is not int or not 1 <= channel <= MAX_CHANNEL:
        raise MalformedEnvelope("a channel has a number from 1 to 65535")
    return _READERS[kind](channel, said)


def _read_open(channel: int, said: dict[str, Any]) -> Open:
    path, protocols = said.get("path"), said.get("protocols", [])
    window = said.get("window")
    if not isinstance(path, str):
        raise MalformedEnvelope("an open has no path")
    if not isinstance(protocols, list) or not all(isinstance(one, str) for one in protocols):
        raise MalformedEnvelope("the protocols of an open are no list of texts")
    if window is not None and (type(window) is not int or not 1 <= window <= MAX_WINDOW):
        raise MalformedEnvelope(f"a window has from 1 to {MAX_WINDOW} bytes")
    return Open(channel, path, tuple(protocols), window)


def _read_credit(channel: int, said: dict[str, Any]) -> Credit:
    size = said.get("bytes")
    if type(size) is not int or not 1 <= size < 2**53:
        raise MalformedEnvelope("a credit has no number of bytes")
    return Credit(channel, size)


def _read_close(channel: int, said: dict[str, Any]) -> Close:
    code, reason = said.get("code", 1000), said.get("reason", "")
    if type(code) is not int or code not in _CLIENT_CODES:
        raise MalformedEnvelope("a client closes with 1000, 1001, or 3000 to 4999")
    try:
        fits = isinstance(reason, str) and len(reason.encode()) <= MAX_REASON_BYTES
    except UnicodeEncodeError:  # a lone surrogate
        fits = False
    if not fits:
        raise MalformedEnvelope(f"a reason is a text of at most {MAX_REASON_BYTES} bytes")
    return Close(channel, code, str(reason))


_READERS: dict[str, Callable[[int, dict[str, Any]], Open | Credit | Close]] = {
    "open": _read_open,
    "credit": _read_credit,
    "close": _read_close,
}


@dataclass(frozen=True, slots=True)
class Target:
    """What a channel is opened for, as an ASGI scope has it."""

    path: str
    raw_path: bytes
    query: bytes


def target_of(opened: Open) -> Target | int:
    """The target of a channel; or the HTTP status that says why it cannot be."""
    if len(opened.path) > MAX_PATH:
        return 414
    protocols = opened.protocols
    is_path = _TARGET.fullmatch(opened.path) is not None
    are_tokens = all(map(_TOKEN.fullmatch, protocols)) and len(set(protocols)) == len(protocols)
    if not is_path or not are_tokens or len(protocols) > MAX_PROTOCOLS:
        return 400
    raw_path, _, query = opened.path.partition("?")
    return Target(unquote(raw_path), raw_path.encode(), query.encode())


# What the edge says.


def _control(**said: Any) -> bytes:
    return b"0:" + WIRE_JSON.dumps(said)


def opened(channel: int, window: int, protocol: str | None) -> bytes:
    """A channel is open; so many bytes are taken ahead of credit."""
    chosen = {} if protocol is None else {"protocol": protocol}
    return _control(opened=channel, window=window, **chosen)


def denied(channel: int, status: int) -> bytes:
    """A channel is refused."""
    return _control(denied=channel, status=status)


def closed(channel: int, code: int, reason: str) -> bytes:
    """A channel is over."""
    return _control(closed=channel, code=code, reason=reason)


def reopened(channel: int) -> bytes:
    """Another backend goes on with a channel."""
    return _control(reopened=channel)


def credit(channel: int, size: int) -> bytes:
    """So many bytes were taken."""
    return _control(credit=channel, bytes=size)


def text_prefix(channel: int) -> bytes:
    """What text messages of a channel begin with."""
    return b"%d:" % channel


def bytes_prefix(channel: int) -> bytes:
    """What binary messages of a channel begin with."""
    prefix = bytearray()
    while channel >= 0x80:
        prefix.append(channel & 0x7F | 0x80)
        channel >>= 7
    prefix.append(channel)
    return bytes(prefix)
