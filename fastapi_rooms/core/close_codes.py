"""The close codes and reasons that a server may send (RFC 6455, sections 5.5 and 7.4)."""

from __future__ import annotations

from typing import Final

from fastapi_rooms.errors import ConfigurationError, UsageError

NORMAL_CLOSURE: Final = 1000
PROTOCOL_ERROR: Final = 1002
UNSUPPORTED_DATA: Final = 1003
NO_STATUS: Final = 1005
"""Never sent: it stands for a close frame without a code."""
ABNORMAL_CLOSURE: Final = 1006
"""Never sent: it stands for a connection that ended without a close frame."""
INVALID_DATA: Final = 1007
POLICY_VIOLATION: Final = 1008
MESSAGE_TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011
SERVICE_RESTART: Final = 1012
"""This worker is draining; the client may reconnect at once, to another one."""
TRY_AGAIN_LATER: Final = 1013

MAX_REASON_BYTES: Final = 123
"""A control frame has a payload of at most 125 bytes (section 5.5); the code takes two."""

_SENDABLE = frozenset((*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)))


def check_close_code(code: object) -> int:
    """Return `code`, or raise `ConfigurationError` if a server may not send it."""
    if not isinstance(code, int) or code not in _SENDABLE:
        raise ConfigurationError(
            f"A close code must be one a server may send (1000 to 1003, 1007 to 1014, "
            f"3000 to 4999), not {code!r}."
        )
    return code


def check_close(code: object, reason: object) -> tuple[int, str]:
    """Return `code` and `reason`, or raise `UsageError` if a server may not send them."""
    try:
        fits = isinstance(reason, str) and len(reason.encode()) <= MAX_REASON_BYTES
    except UnicodeEncodeError:  # a lone surrogate
        fits = False
    if not isinstance(reason, str) or not fits:
        error = UsageError(
            f"A close reason must be a string of at most {MAX_REASON_BYTES} UTF-8 bytes."
        )
        error.text = reason if isinstance(reason, str) else None
        raise error
    return check_close_code(code), reason


def shorten_reason(reason: str) -> str:
    """Truncate `reason` to what fits into a close frame."""
    return reason.encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore")
