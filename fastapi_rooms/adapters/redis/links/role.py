"""Whether a node may be published on.

A replica accepts every PUBLISH and delivers it to its own subscribers only, so a worker connected
to a demoted master loses its messages without an error. HELLO tells the role, and needs no
permission (Redis 6); ROLE tells it on older servers. A node that answers neither is taken for a
master.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from fastapi_rooms.adapters.redis.links.link import address_of

_ROLES = (b"master", b"slave", b"sentinel")


def commands(protocol: object) -> tuple[tuple[bytes, ...], ...]:
    """What to ask, the second if the first is refused; neither changes the protocol."""
    return (b"HELLO", b"3" if str(protocol) == "3" else b"2"), (b"ROLE",)


def why_not_master(reply: Any) -> str:
    """Why a node that answers so to HELLO or ROLE is no master; empty if it may be one."""
    fields: dict[Any, Any] = {}
    if isinstance(reply, dict):
        fields = reply
    elif isinstance(reply, list) and reply and reply[0] in _ROLES:
        fields = {b"role": reply[0]}
    elif isinstance(reply, list):
        pairs = zip(reply[::2], reply[1::2], strict=False)
        fields = {name: value for name, value in pairs if isinstance(name, bytes)}
    role, mode = fields.get(b"role"), fields.get(b"mode")
    if b"sentinel" in (role, mode):
        return "it is a sentinel, not a Redis: use redis+sentinel://"
    # In a cluster a message reaches all nodes, whichever of them it is published on.
    if role in (b"replica", b"slave") and mode != b"cluster":
        return "it is a replica, not a master: what is published there reaches nobody else"
    return ""


async def ensure_master(connection: AbstractConnection) -> None:
    """Raise `redis.ConnectionError` if the node at the other end is no master."""
    for command in commands(connection.protocol):
        await connection.send_command(*command)
        try:
            reply = await connection.read_response(disable_decoding=True)
        except ResponseError:
            continue
        if problem := why_not_master(reply):
            raise RedisConnectionError(unusable(address_of(connection), problem))
        return


async def ask(send: Callable[..., Awaitable[Any]], protocol: object) -> str:
    """Why a node is no master; `send` returns error replies instead of raising them."""
    for command in commands(protocol):
        reply = await send(*command)
        if not isinstance(reply, Exception):
            return why_not_master(reply)
    return ""


def unusable(node: str, problem: str) -> str:
    """The problem as a reason for not being connected."""
    return f"{node} cannot be used: {problem}"
