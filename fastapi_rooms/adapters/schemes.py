"""The URLs that stand for an adapter: one table, which errors, documentation and commands read.

Data only. [fastapi_rooms.adapters.adapter_of][] makes the adapters, so that each carrier can read
its own schemes here without importing the other carriers.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from fastapi_rooms.errors import ConfigurationError


class Carrier(Enum):
    """The adapter that a URL is for, by what carries the messages there."""

    MEMORY = "MemoryAdapter"
    REDIS = "RedisAdapter"
    REDIS_SENTINEL = "RedisAdapter of the master that sentinels report"
    REDIS_CLUSTER = "RedisClusterAdapter"
    RABBITMQ = "RabbitMQAdapter"


class Scheme(NamedTuple):
    """One kind of URL."""

    name: str
    """What stands before `://`."""
    carrier: Carrier
    form: str
    """Such a URL, as an example."""
    meaning: str
    """What it leads to, in a few words."""
    emitters: bool = True
    """Whether `Emitter` and `AsyncEmitter` take it."""


SCHEMES = (
    Scheme("memory", Carrier.MEMORY, "memory://", "this process only", emitters=False),
    Scheme("redis", Carrier.REDIS, "redis://host:6379", "Redis"),
    Scheme("rediss", Carrier.REDIS, "rediss://host:6379", "Redis, with TLS"),
    Scheme("unix", Carrier.REDIS, "unix:///path/to/redis.sock", "Redis, on a Unix socket"),
    Scheme(
        "redis+sentinel",
        Carrier.REDIS_SENTINEL,
        "redis+sentinel://host:26379/name",
        "the master that Redis Sentinel reports",
    ),
    Scheme(
        "rediss+sentinel",
        Carrier.REDIS_SENTINEL,
        "rediss+sentinel://host:26379/name",
        "the master that Redis Sentinel reports, with TLS",
    ),
    Scheme(
        "redis+cluster",
        Carrier.REDIS_CLUSTER,
        "redis+cluster://host:7000,host:7001",
        "a Redis Cluster, by some of its nodes",
    ),
    Scheme(
        "rediss+cluster",
        Carrier.REDIS_CLUSTER,
        "rediss+cluster://host:7000,host:7001",
        "a Redis Cluster, with TLS",
    ),
    Scheme("amqp", Carrier.RABBITMQ, "amqp://user:password@host:5672/vhost", "RabbitMQ"),
    Scheme(
        "amqps", Carrier.RABBITMQ, "amqps://user:password@host:5671/vhost", "RabbitMQ, with TLS"
    ),
)

FORMS = tuple(scheme.form for scheme in SCHEMES)
"""The URLs that a manager takes, as examples."""

EMITTER_CARRIERS = tuple(dict.fromkeys(scheme.carrier for scheme in SCHEMES if scheme.emitters))
"""What an emitter reaches."""

_BY_NAME = {scheme.name: scheme for scheme in SCHEMES}

_OTHER_NAMES = {
    "amqp": ("pyamqp", "rabbitmq", "amqp091", "librabbitmq"),
    "amqps": ("amqp+ssl", "pyamqps", "rabbitmqs", "amqp+tls"),
    "redis+cluster": ("redis-cluster",),
    "redis+sentinel": ("redis-sentinel", "sentinel"),
    "redis": ("redis+tcp", "tcp", "valkey"),
    "rediss": ("redis+ssl", "redis+tls", "valkeys"),
    "unix": ("redis+socket", "redis+unix", "redis-socket", "socket", "unix+redis"),
}
"""What others call some of them."""


def scheme_of(url: str) -> Scheme | None:
    """The scheme of a URL, if it is in the table."""
    name, separator, _ = url.partition("://")
    return _BY_NAME.get(name) if separator else None


def required_scheme(url: str, who: str, *carriers: Carrier) -> Scheme:
    """The scheme of a URL that leads to one of some carriers. Raises `ConfigurationError`.

    The error quotes nothing but names in these tables: the rest may be a password.
    """
    scheme = scheme_of(url)
    if scheme is not None and scheme.carrier in carriers:
        return scheme
    name, separator, _ = url.partition("://")
    if scheme is not None:
        why = f"{name}:// leads to {scheme.meaning} ({scheme.carrier.value})."
    elif not separator:
        why = "The URL has no ://." if url else "The URL is empty."
    else:
        ours = [own for own, others in _OTHER_NAMES.items() if name in others]
        why = f"Write {ours[0]}:// for {name}://." if ours else "The URL's scheme is not known."
    raise ConfigurationError(f"{why} {who} takes {one_of(forms_of(*carriers))}.")


def forms_of(*carriers: Carrier) -> tuple[str, ...]:
    """The URLs that lead to some carriers, as examples."""
    return tuple(scheme.form for scheme in SCHEMES if scheme.carrier in carriers)


def one_of(forms: Sequence[str]) -> str:
    """Forms as part of a sentence: "a, b or c"."""
    *others, last = forms
    return f"{', '.join(others)} or {last}" if others else last
