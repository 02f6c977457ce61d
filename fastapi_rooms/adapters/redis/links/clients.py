"""What users give where a URL or a client is wanted, and why some of it cannot be used."""

from __future__ import annotations

from typing import Final

import redis
import redis.asyncio

from fastapi_rooms.errors import ConfigurationError

_SYNCHRONOUS: Final = (redis.Redis, redis.RedisCluster)
_ASYNCHRONOUS: Final = (redis.asyncio.Redis, redis.asyncio.RedisCluster)


def refusal(given: object, who: str, takes: str) -> ConfigurationError:
    """The error for what is neither a URL nor a client that `who` can use."""
    kind = given if isinstance(given, type) else type(given)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if given is None:
        why = "None was given: is the environment variable set that the URL is read from?"
    elif isinstance(given, type):
        why = f"The class {name} was given: call it, and give what it makes."
    elif isinstance(given, _SYNCHRONOUS):
        why = "A synchronous client was given: its connections would block the event loop."
    elif isinstance(given, _ASYNCHRONOUS):
        why = f"A {name} was given, which is of another kind."
    else:
        why = f"A {name} was given."
    return ConfigurationError(f"{why} {who} takes {takes}.")


def check_real(client: object) -> None:
    """Raise `ConfigurationError` for a client that opens no connection."""
    if type(client).__module__.partition(".")[0] == "fakeredis":
        raise ConfigurationError(
            "fakeredis opens no connection that an adapter could take over. In tests use "
            'RoomManager("memory://"), or a Redis of your own: fastapi_rooms.testing.RedisServer.'
        )
