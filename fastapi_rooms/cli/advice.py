"""What to do about a Redis that a manager cannot connect to, found out with a plain client.

The advice depends on the classes of errors, not on their messages: these may contain anything, such
as a host that is called `auth`.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    RedisError,
)

from fastapi_rooms.cli.session import Session

LOGIN = "Put the user and the password into the URL: redis://user:password@host:6379"
TRUST = "Trust the server's CA: rediss://…?ssl_ca_certs=/path/to/ca.pem"
MASTER = "Give the address of the master, or of the sentinels: redis+sentinel://…"
REACH = "Check that Redis runs, and that its host and port are reachable from here."
SEVERAL = "Check that all servers run, are reachable from here, and accept this user."


async def advice_for(session: Session) -> str:
    """What to do about a manager that cannot connect."""
    if not session.is_one_server:
        return SEVERAL
    client: Any = Redis.from_url(
        session.redis_url, socket_timeout=session.timeout, socket_connect_timeout=session.timeout
    )
    try:
        async with client, client.pubsub() as listener:
            channel = f"{session.prefix}#doctor#"
            await client.publish(channel, "")
            await listener.subscribe(channel)
            await listener.get_message(timeout=session.timeout)
            is_replica = (await hello(client)).get(b"role") in (b"replica", b"slave")
    except (AuthenticationError, AuthorizationError):
        return LOGIN
    except NoPermissionError:
        return (
            "Grant the user what is needed, which takes nothing away: ACL SETUSER <user> "
            f"&{session.prefix}#* +publish +subscribe +unsubscribe"
        )
    except (RedisError, OSError, ValueError, TypeError) as error:
        return TRUST if any(isinstance(e, ssl.SSLError) for e in _causes(error)) else REACH
    return MASTER if is_replica else REACH


async def hello(client: Any) -> dict[bytes, Any]:
    """The reply to `HELLO`: version, role and so on.

    Raises `RedisError`, `ValueError` or `TypeError`.
    """
    reply = await client.execute_command("HELLO", NEVER_DECODE=True)
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


async def settings_of(client: Any, pattern: str) -> dict[str, str]:
    """The server's settings whose names match. Raises `RedisError` or `ValueError`."""
    reply: Any = await client.execute_command("CONFIG", "GET", pattern, NEVER_DECODE=True)
    if not isinstance(reply, dict):
        reply = dict(zip(reply[::2], reply[1::2], strict=True))
    return {_text(name): _text(value) for name, value in reply.items()}


def _text(value: Any) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
