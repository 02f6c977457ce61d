"""What a client is told: where to connect, and how; and what it tells of its connection."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar
from urllib.parse import quote_plus, urlsplit, urlunsplit

from fastapi_rooms.core.checks import check_count, check_positive
from fastapi_rooms.core.json_codec import JsonCodec
from fastapi_rooms.errors import ConfigurationError
from fastapi_rooms.wire.client_frames import QUERY

T = TypeVar("T")

Asked: TypeAlias = T | Callable[[bool], T | Awaitable[T]]
"""A value, or a function, plain or async, that is asked for it before every attempt to connect. It
is given whether the server has refused the last token: then it has to be a new one."""

State: TypeAlias = Literal["connecting", "open", "waiting", "closed"]

_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


@dataclass(frozen=True, slots=True)
class StateChange:
    """What became of the connection, and when there will be another."""

    state: State
    """`waiting` for the next attempt; `closed` for good."""
    code: int | None = None
    """The close code, for `waiting` and `closed`; 1006 where the connection was lost, or there was
    none; of an HTTP status from 400 on, 4000 and the status."""
    reason: str = ""
    """What the server, or the operating system, says of it."""
    delay: float | None = None
    """Seconds to the next attempt, for `waiting`."""


@dataclass(frozen=True, slots=True)
class BufferLimits:
    """What messages may wait for while there is no connection.

    Raises:
        ConfigurationError: a limit that is not above zero.
    """

    messages: int = 100
    """How many of them."""
    bytes: int = 65_536
    """How long all of them may be."""
    age: float = 30.0
    """How many seconds each of them may wait."""

    def __post_init__(self) -> None:
        check_count("BufferLimits.messages", self.messages, "messages")
        check_count("BufferLimits.bytes", self.bytes, "bytes")
        check_positive("BufferLimits.age", self.age)


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """What `connect` is given; its docstring has the meaning of each."""

    url: Asked[str]
    token: Asked[str | None]
    headers: Asked[Mapping[str, str] | None]
    on_state: Callable[[StateChange], object] | None
    on_recovered: Callable[[str, bool], object] | None
    buffer: BufferLimits | None
    json: JsonCodec
    max_queue: int
    websocket: Mapping[str, Any] = field(default_factory=dict)
    """What is for `websockets` alone."""

    def __post_init__(self) -> None:
        check_count("max_queue", self.max_queue, "messages")
        if not callable(self.url):
            url_with(self.url, None)

    @property
    def can_refresh(self) -> bool:
        """Whether there is somebody to be asked for a new token."""
        return callable(self.url) or callable(self.token) or callable(self.headers)


async def ask(option: Asked[T], refresh: bool) -> T:
    """The value of an option now."""
    if not callable(option):
        return option
    answer = option(refresh)
    value: T = await answer if inspect.isawaitable(answer) else answer
    return value


def url_with(url: str, token: str | None) -> str:
    """The URL of an attempt: the framing is asked for, and the token in the query."""
    scheme, parts = "", urlsplit("")
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises
        scheme = _SCHEMES.get(parts.scheme, "") if parts.hostname and isinstance(url, str) else ""
    except (AttributeError, TypeError, ValueError):
        pass
    if not scheme:
        # Without the URL itself: it may have a password or a token in it.
        raise ConfigurationError(
            "The URL of a client has to begin with ws://, wss://, http:// or https:// and a host."
        )
    query = [part for part in parts.query.split("&") if part and not _is_ours(part, token)]
    query.append(f"{QUERY}=1")
    if token is not None:
        query.append(f"token={quote_plus(token)}")
    return urlunsplit((scheme, parts.netloc, parts.path or "/", "&".join(query), ""))


def _is_ours(part: str, token: str | None) -> bool:
    name = part.partition("=")[0]
    return name == QUERY or (name == "token" and token is not None)
