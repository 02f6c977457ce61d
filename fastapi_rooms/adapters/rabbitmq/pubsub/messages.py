"""What a message looks like inside RabbitMQ, and what things are called there: pure.

A routing key is text of at most 255 bytes, and a channel is any bytes. So the key only routes; the
channel itself is in the message, and the receiver goes by that. A message also says who sent it,
when, and for how long its sender waits: see `lateness`.
"""

from __future__ import annotations

import re
import struct
from hashlib import sha256
from typing import Final, NamedTuple

from fastapi_rooms.errors import ConfigurationError
from fastapi_rooms.types import Channel

VERSION: Final = 1
MAX_KEY: Final = 255

_HASHED: Final = b"~"
"""What the key of a channel begins with that cannot be one itself."""

_HEAD = struct.Struct(">B8sQQIH")
_NUMBER = struct.Struct(">Q")
_NUMBER_AT: Final = 9

_SAFE = re.compile(r"[A-Za-z0-9_.:@,/+-]{1,64}", re.ASCII)
_UNSAFE = re.compile(r"[^A-Za-z0-9_.:@,/+-]", re.ASCII)


class Sent(NamedTuple):
    """A message, as it travels."""

    publisher: bytes
    """Eight random bytes, by which the clock of `sent` is known."""
    number: int
    """Rises with each message of one publisher."""
    sent: float
    """When it was published, by a clock of the publisher's that is never set."""
    timeout: float
    """Seconds after which the publisher stopped waiting for it to be accepted."""
    channel: Channel
    data: bytes


def encode(message: Sent) -> bytes:
    """A message as bytes."""
    publisher, number, sent, timeout, channel, data = message
    head = _HEAD.pack(
        VERSION,
        publisher,
        number,
        int(sent * 1e6) & 0xFFFF_FFFF_FFFF_FFFF,
        min(int(timeout * 1e3), 0xFFFF_FFFF),
        len(channel),
    )
    return b"".join((head, channel, data))


def decode(body: bytes) -> Sent:
    """The message. Raises `ValueError` for what is none."""
    try:
        version, publisher, number, sent, timeout, length = _HEAD.unpack_from(body)
    except struct.error:
        raise ValueError("too short for a message") from None
    end = _HEAD.size + length
    if version != VERSION or len(body) < end:
        raise ValueError("not a message of this version")
    channel, data = body[_HEAD.size : end], body[end:]
    return Sent(publisher, number, sent / 1e6, timeout / 1e3, channel, data)


def number_of(body: bytes, start: int = 0) -> int:
    """The number in what `encode` made, which begins at `start`."""
    number: int = _NUMBER.unpack_from(body, start + _NUMBER_AT)[0]
    return number


def key_of(channel: Channel) -> bytes:
    """The routing key of a channel."""
    if len(channel) <= MAX_KEY and not channel.startswith(_HASHED):
        try:
            channel.decode()
        except UnicodeDecodeError:
            pass
        else:
            return channel
    return _HASHED + sha256(channel).hexdigest().encode()


def exchange_of(prefix: str) -> str:
    """The exchange of a prefix: the prefix itself, where it can be one.

    Raises `ConfigurationError` for names that RabbitMQ keeps for itself.
    """
    if prefix.startswith("amq."):
        raise ConfigurationError(
            f"RabbitMQ keeps names that begin with 'amq.' for itself: {prefix!r} cannot be a "
            "prefix there."
        )
    if _SAFE.fullmatch(prefix):
        return prefix
    return f"{_UNSAFE.sub('-', prefix)[:40]}+{sha256(prefix.encode()).hexdigest()[:16]}"
