"""URLs as users give them: their text, and their parts.

A password with one of `/ ? # @` that was not percent-encoded moves the end of the login: a part of
it would be taken for the host, and go to DNS and into the log. So a URL is taken only if it can be
read in one way. No error quotes a part of a URL: any could belong to a password.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Protocol, TypeAlias

from fastapi_rooms.core.names import plain
from fastapi_rooms.errors import ConfigurationError

ENCODING = (
    "Percent-encode what is special in a URL: a password may have none of / ? # @ [ ] as they are, "
    "see urllib.parse.quote(password, safe='')."
)
"""What most of the URLs that cannot be read have wrong."""

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^\s,;:@\[\]\\]*)(?::(\d{1,5}))?", re.ASCII)


class UrlObject(Protocol):
    """A URL of pydantic's (`RedisDsn`), yarl's or Starlette's: its text is `str(url)`."""

    @property
    def scheme(self) -> str:
        """What stands before `://`."""


Url: TypeAlias = str | bytes | UrlObject
"""What is taken for a URL."""


class Parts(NamedTuple):
    """The parts of a URL, as they stand in it."""

    scheme: str
    login: str
    """What stands before the last `@` of the authority."""
    hosts: str
    """The rest of the authority."""
    path: str
    """With its leading slash."""
    query: str


def text_of(given: object) -> str | None:
    """A URL without blanks around it, and its scheme in lower case; `None` for anything else.

    Raises `ConfigurationError` for bytes that are no text.
    """
    if hasattr(type(given), "get_secret_value"):  # pydantic's SecretStr, or Secret[RedisDsn]
        given = given.get_secret_value()  # type: ignore[attr-defined]
    if isinstance(given, bytes):
        try:
            given = given.decode()
        except UnicodeDecodeError:
            raise ConfigurationError("A URL in bytes has to be UTF-8. Give it as a str.") from None
    if isinstance(given, str):
        text = plain(given)
    elif isinstance(getattr(given, "scheme", None), str):
        text = str(given)
    else:
        return None
    scheme, separator, rest = text.strip().partition("://")
    return scheme.lower() + separator + rest if separator else scheme


def split(url: str) -> Parts:
    """The parts of a URL. Raises `ConfigurationError` if its login may end elsewhere."""
    scheme, _, rest = url.partition("://")
    before, _, query = rest.partition("?")
    authority, slash, path = before.partition("/")
    login, _, hosts = authority.rpartition("@")
    # Without an authority there is no login: unix:///run/redis@1.sock
    if "#" in rest or "@" in query or ("@" in path and authority):
        raise ConfigurationError(
            f"The URL has a # or, behind the login, an @: it can be read in two ways. {ENCODING}"
        )
    return Parts(scheme, login, hosts, slash + path, query)


def address_of(text: str, default_port: int) -> tuple[str, int] | None:
    """`host`, `host:port` or `[IPv6]:port`; `None` for anything else."""
    found = _ADDRESS.fullmatch(text)
    if found is None or not found[1]:
        return None
    port = default_port if found[2] is None else int(found[2])
    return (found[1].strip("[]"), port) if 0 < port < 65536 else None
