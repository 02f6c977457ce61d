"""Why Redis could not be connected to or refused a command, in words that say what to do: pure."""

from __future__ import annotations

from redis.exceptions import AuthenticationError, AuthorizationError

_ARGUMENTS = ", with args beginning"
"""What Redis quotes of a command that it does not know: for HELLO and AUTH, the password."""


def is_login_refused(error: BaseException) -> bool:
    """Whether opening a connection failed because Redis rejects the username or password."""
    return isinstance(error, AuthenticationError | AuthorizationError)


def reason_of(error: BaseException) -> str:
    """The reason, and its cure where there is one. It holds no password."""
    text = str(error).partition(_ARGUMENTS)[0] or type(error).__name__
    if is_login_refused(error):
        return _of_login(text)
    if "hello" in text.lower() and text.lower().startswith("unknown command"):
        return (
            f"{text}: it speaks RESP2 only. Ask for no other: leave protocol=3 out of the URL, or "
            "make the client with protocol=2"
        )
    return text


def cause_of(error: BaseException) -> BaseException | None:
    """The error itself, to be raised from; `None` if it may quote a password."""
    return None if _ARGUMENTS in str(error) else error


def _of_login(text: str) -> str:
    if text.startswith(("HELLO must be called", "Authentication required")):
        return (
            "it wants a password, and was given none (NOAUTH). Put it into the URL, "
            "percent-encoded: redis://:password@host:6379, or redis://user:password@host:6379"
        )
    return (
        f"{text.rstrip('.')} (WRONGPASS). Check the user and the password; in a URL both are "
        "percent-encoded: redis://user:password@host:6379"
    )
