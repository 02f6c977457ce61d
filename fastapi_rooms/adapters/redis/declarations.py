"""Which rooms remember, as workers have declared it: read by a client of redis-py, for tools."""

from __future__ import annotations

from typing import Any

from redis.exceptions import ResponseError

from fastapi_rooms.adapters.history import Declaration
from fastapi_rooms.adapters.redis.emit_clients.access import async_access
from fastapi_rooms.adapters.redis.emit_clients.senders import FAILURES
from fastapi_rooms.adapters.redis.history.declared import key_of, parse
from fastapi_rooms.adapters.redis.links.reasons import cause_of, reason_of
from fastapi_rooms.adapters.urls import Url
from fastapi_rooms.core.names import check_prefix
from fastapi_rooms.errors import AdapterUnavailable


async def read_declarations(url: Url, prefix: str, timeout: float) -> list[Declaration]:
    """What the workers with a prefix have declared, of all namespaces; none if there are none.

    Raises `ConfigurationError`, or `AdapterUnavailable` if it cannot be read.
    """
    access = async_access(url, timeout)
    key = key_of(check_prefix(prefix).encode())
    try:
        client: Any = access.open()
        try:
            return list(parse(await client.execute_command("HGETALL", key, NEVER_DECODE=True)))
        finally:
            for each in access.all_of(client):
                await each.aclose()
    except ResponseError as error:
        raise AdapterUnavailable(
            f"Redis does not tell which rooms have a history: {reason_of(error)}. Allow it: ACL "
            f"SETUSER <user> ~{prefix}:* +hgetall"
        ) from error
    except ValueError as error:
        raise AdapterUnavailable(f"{key.decode()!r} in Redis makes no sense: {error}") from error
    except FAILURES as error:
        raise AdapterUnavailable(f"Redis was not reached: {reason_of(error)}") from cause_of(error)
