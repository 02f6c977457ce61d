"""Redis URLs in one spelling: that of redis-py, in which every part can be read in one way only.

redis-py takes what it is given: an unknown option comes up when it connects, a path that is no
number is dropped, and a URL in the spelling of Celery or Django fails in words of Python's.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, unquote, urlencode

from fastapi_rooms.adapters.redis.links import options
from fastapi_rooms.adapters.redis.links.clients import refusal
from fastapi_rooms.adapters.schemes import Carrier, one_of, required_scheme
from fastapi_rooms.adapters.urls import ENCODING, Parts, Url, address_of, split, text_of
from fastapi_rooms.errors import ConfigurationError

SENTINEL_FORM = "redis+sentinel://user:password@sentinel1:26379,sentinel2:26379/mymaster"
CLUSTER_FORM = "redis+cluster://user:password@host:7000,host:7001"
RULES = f"Ports are 1 to 65535. {ENCODING}"
"""What most of the addresses that cannot be parsed have wrong."""

_PROTOCOL = ("protocol", "2")
"""Unless the URL says otherwise: not all that speaks like Redis knows HELLO, by which redis-py asks
for RESP3, and nothing here needs it."""


def canonical_url(url: Url) -> str:
    """A Redis URL as redis-py reads it: each part encoded, each option as redis-py calls it.

    Raises `ConfigurationError` for one that cannot be used, or could be read in two ways.
    """
    text = text_of(url)
    if text is None:
        raise refusal(url, "Redis", "a URL")
    scheme, parts = required_scheme(text, "Redis", *_PLACES), split(text)
    plain, for_sentinels = [], []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if scheme.carrier is Carrier.REDIS_SENTINEL and name.startswith("sentinel_"):
            for_sentinels.append((name.removeprefix("sentinel_"), value))
        else:
            plain.append((name, value))
    tls = None if parts.scheme == "unix" else parts.scheme.startswith("rediss")
    own = options.checked(plain, tls=tls, tls_by="with TLS it begins with rediss")
    own = dict((_PROTOCOL, *own.items()))
    if own.pop("ssl", "") and not tls:
        parts = parts._replace(scheme=parts.scheme.replace("redis", "rediss", 1))
    query = list(own.items())
    if scheme.carrier is Carrier.REDIS_SENTINEL:
        theirs = options.checked(for_sentinels, tls=False, tls_by="sentinel_ssl=true asks for it")
        query += [(f"sentinel_{n}", v) for n, v in dict((_PROTOCOL, *theirs.items())).items()]
    place = _PLACES[scheme.carrier](parts)
    login = _login(parts, own)
    query = [(n, v) for n, v in query if n not in ("username", "password")]
    return f"{parts.scheme}://{login}{place}?{urlencode(query, quote_via=quote)}"


def _login(parts: Parts, own: dict[str, str]) -> str:
    """The login as it stands before the host; that of the options where there is no other."""
    user, _, password = (unquote(part) for part in parts.login.partition(":"))
    user, password = user or own.get("username", ""), password or own.get("password", "")
    return f"{_quoted(user)}:{_quoted(password)}@" if user or password else ""


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="replace")


def _one_place(parts: Parts) -> str:
    if parts.scheme == "unix":
        if parts.hosts or not parts.path.strip("/"):
            raise ConfigurationError(
                "The URL of a Unix socket has no host, so three slashes: unix:///path/to/redis.sock"
            )
        return quote(unquote(parts.path), errors="replace")
    number = unquote(parts.path).strip("/")
    if not (number.isdecimal() or not number):
        raise ConfigurationError(
            "The path of a Redis URL is the number of a database, redis://host:6379/0, or there is "
            f"none. {ENCODING}"
        )
    if "," in parts.hosts:
        forms = one_of([CLUSTER_FORM, SENTINEL_FORM])
        raise ConfigurationError(f"A Redis URL names one host. For several: {forms}.")
    hosts = parts.hosts if parts.hosts[:1] not in ("", ":") else f"localhost{parts.hosts}"
    if address_of(hosts, 6379) is None:
        raise ConfigurationError(
            f"The Redis URL cannot be used: its host or its port is none. {RULES}"
        )
    return f"{hosts}/{int(number)}" if number else hosts


def _several_places(parts: Parts, form: str) -> str:
    if "@" in parts.login:
        raise ConfigurationError(
            f"The URL has several @ before its path: the login stands once, before the first host, "
            f"{form}. {ENCODING}"
        )
    if not all(address_of(host, 1) for host in parts.hosts.split(",")):
        raise ConfigurationError(f"The URL names its nodes as host:port,host:port: {form}. {RULES}")
    return parts.hosts


def _sentinel_places(parts: Parts) -> str:
    hosts, master = _several_places(parts, SENTINEL_FORM), unquote(parts.path[1:])
    if not master or "/" in master:
        raise ConfigurationError(
            "A Redis Sentinel URL ends with the name of the master, as its sentinels know it, and "
            f"nothing else: {SENTINEL_FORM} (a database number is given by ?db=)."
        )
    return f"{hosts}/{_quoted(master)}"


def _cluster_places(parts: Parts) -> str:
    if parts.path.strip("/") not in ("", "0"):
        raise ConfigurationError("A Redis Cluster has no databases but 0: leave the number out.")
    return _several_places(parts, CLUSTER_FORM)


_PLACES = {
    Carrier.REDIS: _one_place,
    Carrier.REDIS_SENTINEL: _sentinel_places,
    Carrier.REDIS_CLUSTER: _cluster_places,
}
