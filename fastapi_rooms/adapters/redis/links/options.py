"""The options of a Redis URL, as redis-py spells them: pure.

redis-py hands what it does not know to its connections, whose errors come late and quote it. So
the options are checked here, and what Celery and Django spell otherwise is respelled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from math import isfinite
from typing import Final

from redis.asyncio.connection import URL_QUERY_ARGUMENT_PARSERS

from fastapi_rooms.errors import ConfigurationError

_TRUE = ("1", "t", "true", "y", "yes", "on")
_FALSE = ("0", "f", "false", "n", "no", "off")


def _text(value: str) -> str:
    return value


def _flag(value: str) -> str:
    return "true" if is_true(value) else "false"


def _count(value: str) -> str:
    return str(int(value)) if value.isdecimal() else _refuse("a whole number")


def _seconds(value: str) -> str:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0
    return value if isfinite(seconds) and seconds > 0 else _refuse("seconds above zero")


def _protocol(value: str) -> str:
    return value if value in ("2", "3") else _refuse("2 or 3")


def _certificates(value: str) -> str:
    kind = value.lower().removeprefix("cert_")  # ssl.CERT_NONE, as Celery has it
    known = ("none", "optional", "required")
    return kind if kind in known else _refuse("none, optional or required")


def _refuse(what: str) -> str:
    raise ValueError(what)


_CHECKS: Final[Mapping[str, Callable[[str], str]]] = {
    "db": _count,
    "username": _text,
    "password": _text,
    "client_name": _text,
    "protocol": _protocol,
    "socket_timeout": _seconds,
    "socket_connect_timeout": _seconds,
    "socket_keepalive": _flag,
    "socket_read_size": _count,
    "health_check_interval": _count,
    "retry_on_timeout": _flag,
    "max_connections": _count,
    "encoding": _text,
    "encoding_errors": _text,
    "decode_responses": _flag,
    "lib_name": _text,
    "lib_version": _text,
    "ssl_cert_reqs": _certificates,
    "ssl_check_hostname": _flag,
    "ssl_ca_certs": _text,
    "ssl_ca_path": _text,
    "ssl_ca_data": _text,
    "ssl_certfile": _text,
    "ssl_keyfile": _text,
    "ssl_password": _text,
    "ssl_ciphers": _text,
}
_OTHER_NAMES: Final = {
    "timeout": "socket_timeout",
    "connect_timeout": "socket_connect_timeout",
    "database": "db",
    "virtual_host": "db",
    "user": "username",
    "tls": "ssl",
    "ssl_ca": "ssl_ca_certs",
    "ssl_cacerts": "ssl_ca_certs",
    "ssl_cert": "ssl_certfile",
    "ssl_key": "ssl_keyfile",
}
_NAMES: Final = ("ssl", *_CHECKS)


def is_true(value: str) -> bool:
    """Whether a flag is set. Raises `ValueError` for what is no flag."""
    if value.lower() not in (*_TRUE, *_FALSE):
        _refuse("true or false")
    return value.lower() in _TRUE


def checked(options: list[tuple[str, str]], *, tls: bool | None, tls_by: str) -> dict[str, str]:
    """The options with redis-py's names and values, `ssl` among them if it is TLS.

    Args:
        options: names and values; the first of a name holds, as in redis-py.
        tls: whether the scheme says so; `None` where there can be none.
        tls_by: how it is asked for, for errors.

    Raises:
        ConfigurationError: it names an option of redis-py's, and quotes nothing.
    """
    found: dict[str, str] = {}
    for name, value in options:
        if name not in found:
            found[name] = _checked(name, value)
    ssl = found.pop("ssl", None)
    if ssl == "true" and tls is not None:
        tls = True
    elif ssl is not None and (ssl == "true") != bool(tls):
        raise ConfigurationError(f"The URL's option ssl contradicts the rest of it: {tls_by}.")
    if not tls and any(name.startswith("ssl_") for name in found):
        raise ConfigurationError(f"The URL has options for TLS, but does not ask for it: {tls_by}.")
    return {**found, "ssl": "true"} if tls else found


def _checked(name: str, value: str) -> str:
    check = _flag if name == "ssl" else _CHECKS.get(name)
    try:
        if check is not None:
            return check(value)
        if name != "timeout" and name in URL_QUERY_ARGUMENT_PARSERS:  # of a later redis-py
            URL_QUERY_ARGUMENT_PARSERS[name](value)
            return value
    except (TypeError, ValueError) as error:
        wanted = f" It has to be {error}." if check is not None else ""
        raise ConfigurationError(
            f"The URL's option {name} has a value that it cannot have.{wanted}"
        ) from None
    near = _OTHER_NAMES.get(name) or next(iter(get_close_matches(name, _NAMES, 1)), None)
    raise ConfigurationError(
        "The URL has an option that redis-py does not know. "
        + (f"Its own is called {near}." if near else f"It knows {', '.join(_NAMES)}.")
    )
