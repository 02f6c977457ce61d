"""What rooms have, as workers have told Redis: read by a client of redis-py, for tools."""

from __future__ import annotations

from typing import Any

from redis.exceptions import ResponseError

from fastapi_rooms.adapters.declarations import Declaration
from fastapi_rooms.adapters.redis.declared.form import key_of, parse
from fastapi_rooms.adapters.redis.emit_clients.access import async_access
from fastapi_rooms.adapters.redis.emit_clients.senders import FAILURES
from fastapi_rooms.adapters.redis.links.reasons import cause_of, reason_of
from fastapi_rooms.adapters.urls import Url
from fastapi_rooms.core.names import check_prefix
from fastapi_rooms.errors import AdapterUnavailable


async def read_declarations(url: Url, prefix: str, timeout: float) -> list[Declaration]:
    """What rooms have, in all namespaces of the workers with a prefix.

    Raises `ConfigurationError`, or `AdapterUnavailable` if it cannot be read.
    """
    key = key_of(check_prefix(prefix).encode())
    refused = (
        "Redis does not tell what rooms have: {reason}. Allow it: ACL SETUSER <user> "
        f"~{prefix}:* +hgetall"
    )
    try:
        return list(parse(await _ask(url, timeout, refused, "HGETALL", key)))
    except ValueError as error:
        raise AdapterUnavailable(f"{key.decode()!r} in Redis makes no sense: {error}") from error


async def _ask(url: Url, timeout: float, refused: str, *command: str | bytes) -> Any:
    access = async_access(url, timeout)
    try:
        client: Any = access.open()
        try:
            return await client.execute_command(*command, NEVER_DECODE=True)
        finally:
            for each in access.all_of(client):
                await each.aclose()
    except ResponseError as error:
        raise AdapterUnavailable(refused.replace("{reason}", reason_of(error))) from error
    except FAILURES as error:
        raise AdapterUnavailable(f"Redis was not reached: {reason_of(error)}") from cause_of(error)
