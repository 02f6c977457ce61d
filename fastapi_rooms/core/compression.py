"""Compressing a message once, so that the same bytes can go to every client that takes them.

A client that negotiated permessage-deflate (RFC 7692) decompresses what it is sent as one stream:
what came last is in its window, and what comes next may refer to that. Here nothing refers to
another message, as each is compressed with an empty window. So it means the same to every client,
whatever each was sent before, provided that

* its window is at least as large as the one that the message was compressed with;
* nothing that follows refers to anything before this message (RFC 7692, section 7.2.3): whoever
  else compresses for the same connection has to begin anew for each message, too.

The messages of a `Batch` reach a client in one piece, so those may refer to one another; unless the
client has said that it empties its window after each.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cache

from fastapi_rooms.core.checks import check_count
from fastapi_rooms.errors import ConfigurationError

_END = b"\x00\x00\xff\xff"
"""Ends what is flushed, and is left out (RFC 7692, section 7.2.1)."""

_EMPTY = b"\x00"
"""A message of no bytes (RFC 7692, section 7.2.3.6)."""

_WINDOWS = (9, 12, 15)
"""The sizes of windows, in bits, that are compressed for.

A client that negotiated another one gets what suits the next smaller. So a message is compressed
three times at most, whatever clients ask for; and 12 bits are what uvicorn agrees to at most on its
default implementation. zlib has no 8.
"""

_LOOKAHEAD = 262
"""What zlib does not use of its window."""

_MEMORY_LEVELS = {9: 5, 12: 5, 15: 8}
"""zlib's memory levels by windows. Whenever its window is full zlib goes through all that it keeps
beside: with the smallest window and level 8, a message of 16 KiB takes three times as long."""

_LONG, _FASTEST = 64 * 1024, 1
"""From how many bytes on a message is compressed as fast as zlib can, and that level. Of JSON, a
megabyte takes 9 ms at the default level; at this one 5, and it comes out an eighth longer."""

MAX_AT_ONCE, _STEP = 128 * 1024, 32 * 1024
"""Up to how many bytes a message is compressed in one go; a longer one is in steps of so many.

Of JSON, the first takes a millisecond; of what hardly becomes shorter, three times that.
"""

_WORTHWHILE = 0.95
"""What does not become shorter than this part of itself is sent as it is."""

_SAMPLED, _SAMPLE = 16 * 1024, 4 * 1024
"""From how many bytes on so many from the middle are tried first: noise takes zlib the longest."""


@dataclass(frozen=True, slots=True)
class Compression:
    """Which messages are compressed, for clients that negotiated it, and how well.

    Each is compressed once for all of them, where they are written to directly: see `direct_writes`
    of `RoomManager`. Elsewhere the server compresses for each client, as it is configured to.

    Raises:
        ConfigurationError: a threshold below one byte, or an unknown level.
    """

    threshold: int = 160
    """Messages of fewer bytes are sent as they are; those that leave in one write count as one.

    Of 160 bytes of JSON a sixth is saved."""

    level: int = 6
    """From 1, which is fastest, to 9. Messages from 64 KiB on are compressed at level 1 anyway."""

    def __post_init__(self) -> None:
        check_count("Compression.threshold", self.threshold, "bytes")
        if type(self.level) is not int or not 1 <= self.level <= 9:
            raise ConfigurationError(
                f"Compression.level must be a whole number from 1 to 9, not {self.level!r}."
            )


def compression_of(value: object) -> Compression | None:
    """The policy that a setting stands for; `None` if nothing is to be compressed.

    Raises `ConfigurationError` if it is neither a policy nor says yes or no.
    """
    if value is None or value is False:
        return None
    if value is True:
        return Compression()
    if not isinstance(value, Compression):
        raise ConfigurationError(
            "compression must be a Compression, such as Compression(threshold=1024), or None for "
            f"no compression, not {value!r}."
        )
    return value


@dataclass(frozen=True, slots=True, eq=False)
class Deflate:
    """How messages are compressed for connections that negotiated the same.

    Made by `deflate_for`, so that connections which are written the same bytes share one.
    """

    policy: Compression
    window_bits: int
    keeps_window: bool
    """Whether the client keeps its window from one message to the next."""

    def window_for(self, size: int) -> int | None:
        """The window, in bits, for so many bytes: the smallest in which they are all in reach.

        `None` if so few are not compressed.
        """
        if size < self.policy.threshold:
            return None
        for window in _WINDOWS:
            if window == self.window_bits or size <= (1 << window) - _LOOKAHEAD:
                break
        return window

    def compress(self, messages: Sequence[bytes], window: int) -> list[bytes] | None:
        """Successive messages as what RFC 7692 calls their payload; `None` if that is not shorter.

        A message may refer to those before it.
        """
        size = sum(map(len, messages))
        if len(messages) == 1 and _is_noise(messages[0]):
            return None
        level = self.policy.level if size < _LONG else _FASTEST
        compressor = zlib.compressobj(level, zlib.DEFLATED, -window, _MEMORY_LEVELS[window])
        compressed = [
            (compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH))[: -len(_END)]
            if message
            else _EMPTY
            for message in messages
        ]
        return compressed if sum(map(len, compressed)) < size * _WORTHWHILE else None

    def compress_in_steps(self, message: bytes, window: int) -> Generator[None, None, bytes | None]:
        """As `compress`, for one message of more than `MAX_AT_ONCE` bytes."""
        if _is_noise(message):
            return None
        compressor = zlib.compressobj(_FASTEST, zlib.DEFLATED, -window, _MEMORY_LEVELS[window])
        parts = []
        for start in range(0, len(message), _STEP):
            parts.append(compressor.compress(memoryview(message)[start : start + _STEP]))
            yield
        parts.append(compressor.flush(zlib.Z_SYNC_FLUSH))
        compressed = b"".join(parts)[: -len(_END)]
        return compressed if len(compressed) < len(message) * _WORTHWHILE else None


def _is_noise(message: bytes) -> bool:
    """Whether a message is not worth the time, by a sample of it; short ones are tried anyway."""
    if len(message) < _SAMPLED:
        return False
    middle = len(message) // 2
    sample = message[middle : middle + _SAMPLE]
    return len(zlib.compress(sample, _FASTEST)) > len(sample) * _WORTHWHILE


@cache
def deflate_for(policy: Compression, window_bits: int, *, keeps_window: bool) -> Deflate | None:
    """How to compress for a connection that negotiated a window of so many bits.

    `None` if it is smaller than any that zlib has.
    """
    largest = max((window for window in _WINDOWS if window <= window_bits), default=None)
    if largest is None or largest == window_bits:
        return None if largest is None else Deflate(policy, largest, keeps_window)
    return deflate_for(policy, largest, keeps_window=keeps_window)
