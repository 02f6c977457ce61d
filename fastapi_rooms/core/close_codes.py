"""Close codes and reasons: which of them a server may send (RFC 6455, sections 5.5 and 7.4)."""

from __future__ import annotations

from typing import Final

from fastapi_rooms.errors import ConfigurationError, UsageError

NORMAL_CLOSURE: Final = 1000
UNSUPPORTED_DATA: Final = 1003
NO_STATUS: Final = 1005
"""Never sent: what a close frame without a code stands for."""
ABNORMAL_CLOSURE: Final = 1006
"""Never sent: the connection ended without a close frame."""
INVALID_DATA: Final = 1007
SERVICE_RESTART: Final = 1012
"""This worker is leaving; the client may connect again, to another one."""
TRY_AGAIN_LATER: Final = 1013

MAX_REASON_BYTES: Final = 123
"""What a close frame has room for beside the code."""

_SENDABLE = frozenset((*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)))


def check_close_code(code: object) -> int:
    """Return the code, or raise `ConfigurationError` if no server may send it."""
    if not isinstance(code, int) or code not in _SENDABLE:
        raise ConfigurationError(
            f"A close code must be one a server may send (1000 to 1003, 1007 to 1014, "
            f"3000 to 4999), not {code!r}."
        )
    return code


def check_close(code: object, reason: object) -> tuple[int, str]:
    """Return a close code and reason that can be sent, or raise `UsageError`."""
    try:
        fits = isinstance(reason, str) and len(reason.encode()) <= MAX_REASON_BYTES
    except UnicodeEncodeError:  # a lone surrogate
        fits = False
    if not isinstance(reason, str) or not fits:
        raise UsageError(f"A close reason is text of at most {MAX_REASON_BYTES} UTF-8 bytes.")
    return check_close_code(code), reason


def shorten_reason(reason: str) -> str:
    """The beginning of a reason that a close frame has room for."""
    return reason.encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore")
