"""How fast one client may send, for its endpoint to apply."""

from __future__ import annotations

from time import monotonic

from fastapi_rooms.core.checks import check_positive
from fastapi_rooms.core.token_bucket import TokenBucket
from fastapi_rooms.errors import ConfigurationError, RateLimited, UsageError


class RateLimit:
    """Counts a client's messages, and their bytes if told to. Make one for each socket.

        async with rooms.connect(websocket) as socket:
            limit = RateLimit(10, burst=20)
            async for text in socket.iter_text():
                limit.check(text)  # too fast: the socket is closed with 1008
                await socket.to(room).send_text(text)

    A client may send `burst` messages at once, and `rate` a second in the long run. One limit that
    several sockets share counts what they send together.

    Args:
        rate: messages per second.
        burst: how many may come at once; as many as come in a second when left out, at least one.
        byte_rate: bytes per second; not counted when left out.
        byte_burst: how many bytes may come at once, which is the longest message there can be too;
            as many as come in a second when left out.

    Raises:
        ConfigurationError: a number that is not above zero, a burst below one, or `byte_burst`
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
            raise ConfigurationError("RateLimit.byte_burst needs a byte_rate.")

    def allow(self, message: str | bytes | None = None) -> bool:
        """Whether one more message may come now. If so it is counted, else nothing is.

        Args:
            message: the message, needed where bytes are counted; text has as many as its UTF-8.

        Raises:
            UsageError: bytes are to be counted, and there is no message to count.
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
        """Raise `RateLimited` unless `allow` does; `rooms.connect` closes with 1008 by it.

        Args:
            message: as for `allow`.
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
            f"RateLimit.{burst_name} must be at least 1, not {burst!r}: nothing would ever pass."
        )
    return TokenBucket(rate, burst, now)
