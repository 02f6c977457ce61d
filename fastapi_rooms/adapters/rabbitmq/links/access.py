"""How RabbitMQ is reached: its URLs, in the spellings that there are, and what they ask for.

pamqp and asyncio know nothing of URLs, so every part is read here, and quoted in no error.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote

from fastapi_rooms.adapters.schemes import Carrier, required_scheme
from fastapi_rooms.adapters.urls import ENCODING, Url, address_of, split, text_of
from fastapi_rooms.errors import ConfigurationError

FORM: Final = "amqp://user:password@host:5672/vhost"
PORT, TLS_PORT = 5672, 5671

DEFAULT_HEARTBEAT: Final = 5
MAX_HEARTBEAT: Final = 60


class Access(NamedTuple):
    """Where RabbitMQ is, and as whom it is entered."""

    hosts: tuple[tuple[str, int], ...]
    """In the order in which they are tried, each time from the first."""
    user: str
    password: str
    vhost: str
    tls: ssl.SSLContext | None
    heartbeat: int
    """Seconds; a connection on which nothing came for twice that is lost."""
    name: str
    """What RabbitMQ shows of the connections."""
    external: bool
    """Whether the certificate is the login, and no password."""

    sharded: bool = False
    """Whether messages go to the node of their channel: there is one place for all."""
    owned: bool = True
    """Whether whoever has it opens connections, and closes them."""

    def __repr__(self) -> str:
        """Without the password."""
        return f"Access({self.place})"

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return ",".join(f"{host}:{port}" for host, port in self.hosts)


def access_of(url: Url, who: str, context: ssl.SSLContext | None = None) -> Access:
    """What a URL says. Raises `ConfigurationError`."""
    text = text_of(url)
    if text is None:
        raise ConfigurationError(f"{who} takes a URL, {FORM}, and not a {type(url).__name__}.")
    required_scheme(text, who, Carrier.RABBITMQ)
    parts = split(text)
    with_tls = parts.scheme == "amqps"
    options = _options(parts.query, with_tls=with_tls)
    if context is not None and not with_tls:
        raise ConfigurationError("An ssl.SSLContext is for amqps://, and the URL is amqp://.")
    user, colon, password = parts.login.partition(":")
    if "@" in parts.login:
        raise ConfigurationError(
            f"The URL has several @ before its path: the login stands once, before the first host, "
            f"{FORM}. {ENCODING}"
        )
    port = TLS_PORT if with_tls else PORT
    hosts = [address_of(host or "localhost", port) for host in (parts.hosts or "").split(",")]
    found = tuple(host for host in hosts if host is not None)
    if len(found) < len(hosts):
        raise ConfigurationError(
            "The RabbitMQ URL cannot be used: one of its hosts or ports is none. Ports are 1 to "
            f"65535. {ENCODING}"
        )
    return Access(
        found,
        unquote(user) or "guest",
        unquote(password) if colon else "guest",
        _vhost(parts.path),
        (context or _context(options)) if with_tls else None,
        int(options.get("heartbeat", DEFAULT_HEARTBEAT)),
        options.get("name", "fastapi_rooms"),
        options.get("auth") == "external",
    )


def verifies(url: Url) -> bool:
    """Whether whoever is reached there has to prove who it is. Raises `ConfigurationError`."""
    tls = access_of(url, "RabbitMQ").tls
    return tls is not None and tls.verify_mode is ssl.CERT_REQUIRED


def _vhost(path: str) -> str:
    """The name of the virtual host: `/` where the path is left out, `/`, `//` or `/%2F`."""
    name = unquote(path[1:])
    if len(name.encode(errors="surrogatepass")) > 255:
        raise ConfigurationError("A virtual host's name has at most 255 bytes.")
    return name or "/"


# What may follow the question mark.


def _heartbeat(value: str) -> str:
    if value.isdecimal() and 1 <= int(value) <= MAX_HEARTBEAT:
        return str(int(value))
    raise ValueError(f"whole seconds from 1 to {MAX_HEARTBEAT}")


def _auth(value: str) -> str:
    if value.lower() in ("plain", "external"):
        return value.lower()
    raise ValueError("plain or external")


def _verify(value: str) -> str:
    kind = value.lower().removeprefix("verify_").removeprefix("cert_")
    known = {"peer": "peer", "required": "peer", "none": "none"}
    if kind in known:
        return known[kind]
    raise ValueError("peer or none")


def _unverified(value: str) -> str:
    return "none" if value.lower() in ("1", "true", "yes", "on") else "peer"


def _file(value: str) -> str:
    if Path(value).is_file():
        return value
    raise ValueError("the path of a file in PEM format, which can be read")


def _text(value: str) -> str:
    return value[:200]


_OPTIONS: Final[dict[str, tuple[str, Callable[[str], str]]]] = {
    "heartbeat": ("heartbeat", _heartbeat),
    "name": ("name", _text),
    "connection_name": ("name", _text),
    "auth": ("auth", _auth),
    "auth_mechanism": ("auth", _auth),
    "cafile": ("cafile", _file),
    "cacertfile": ("cafile", _file),
    "certfile": ("certfile", _file),
    "keyfile": ("keyfile", _file),
    "verify": ("verify", _verify),
    "no_verify_ssl": ("verify", _unverified),
}
"""Each option, by the names it has here, in RabbitMQ's own URLs and in aiormq's."""

_FOR_TLS: Final = {"cafile", "certfile", "keyfile", "verify"}


def _options(query: str, *, with_tls: bool) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            near = get_close_matches(name, _OPTIONS, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            known = ", ".join(dict.fromkeys(own for own, _ in _OPTIONS.values()))
            raise ConfigurationError(
                f"The RabbitMQ URL has an option that is not known: {hint}There are {known}."
            )
        own, check = _OPTIONS[name]
        if own in _FOR_TLS and not with_tls:
            raise ConfigurationError(f"The option {name} is for amqps://, and the URL is amqp://.")
        try:
            options[own] = check(value)
        except ValueError as error:
            raise ConfigurationError(f"The option {name} of a RabbitMQ URL is {error}.") from None
    return options


def _context(options: dict[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.get("cafile"))
        if "certfile" in options:
            context.load_cert_chain(options["certfile"], options.get("keyfile"))
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(
            f"The certificates of the RabbitMQ URL cannot be used: {error}"
        ) from None
    if options.get("verify") == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
