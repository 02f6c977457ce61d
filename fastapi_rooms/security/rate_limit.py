"""Limits how fast one client may send; its endpoint applies the limit."""

from __future__ import annotations

from time import monotonic

from fastapi_rooms.core.checks import check_positive
from fastapi_rooms.core.token_bucket import TokenBucket
from fastapi_rooms.errors import ConfigurationError, RateLimited, UsageError


class RateLimit:
    """Limits the messages, and optionally the bytes, that a client sends. Create one per socket.

        async with rooms.connect(websocket) as socket:
            limit = RateLimit(10, burst=20)
            async for text in socket.iter_text():
                limit.check(text)  # closes the socket with 4429 if the client is too fast
                await socket.to(room).send_text(text)

    A client may send `burst` messages at once, and `rate` messages per second on average (a token
    bucket). If several sockets share one `RateLimit`, it limits what they send together.

    Args:
        rate: messages per second.
        burst: how many messages may come at once. By default those of one second, at least one.
        byte_rate: bytes per second. By default bytes are not limited.
        byte_burst: how many bytes may come at once; no message may be larger. By default those of
            one second.

    Raises:
        ConfigurationError: a rate that is not above zero, a burst below one, or `byte_burst`
            without `byte_rate`.
    """

    __slots__ = ("_bytes", "_messages")

    def __init__(
        self,
        rate: float,
        *,
        burst: float | None = None,
        byte_rate: float | None = None,
        byte_burst: float | None = None,
    ) -> None:
        now = monotonic()
        self._messages = _bucket("rate", rate, "burst", burst, now)
        self._bytes: TokenBucket | None = None
        if byte_rate is not None:
            self._bytes = _bucket("byte_rate", byte_rate, "byte_burst", byte_burst, now)
        elif byte_burst is not None:
            raise ConfigurationError("RateLimit.byte_burst requires byte_rate.")

    def allow(self, message: str | bytes | None = None) -> bool:
        """Whether one more message is within the limit. It is counted only if it is.

        Args:
            message: the message; required with `byte_rate`. Text is counted as UTF-8.

        Raises:
            UsageError: with `byte_rate`, no message was given.
        """
        now = monotonic()
        if not self._messages.holds(1, now):
            return False
        if self._bytes is not None:
            if message is None:
                raise UsageError("This RateLimit counts bytes: give it the message.")
            size = _size(message)
            if not self._bytes.holds(size, now):
                return False
            self._bytes.take(size)
        self._messages.take(1)
        return True

    def check(self, message: str | bytes | None = None) -> None:
        """Count one more message, or raise an error that closes the socket with 4429.

        Args:
            message: the message; required with `byte_rate`. Text is counted as UTF-8.

        Raises:
            RateLimited: the message exceeds the limit.
            UsageError: with `byte_rate`, no message was given.
        """
        if not self.allow(message):
            raise RateLimited


def _size(message: str | bytes) -> int:
    if isinstance(message, str) and not message.isascii():
        return len(message.encode(errors="surrogatepass"))
    return len(message)


def _bucket(
    rate_name: str, rate: float, burst_name: str, burst: float | None, now: float
) -> TokenBucket:
    check_positive(f"RateLimit.{rate_name}", rate, "a number per second")
    if burst is None:
        burst = max(1.0, rate)
    check_positive(f"RateLimit.{burst_name}", burst, "a number")
    if burst < 1:
        raise ConfigurationError(
            f"RateLimit.{burst_name} must be at least 1, not {burst!r}: no message would ever pass."
        )
    return TokenBucket(rate, burst, now)
