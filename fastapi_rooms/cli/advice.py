"""What to do about a Redis that no worker could work with, by how it treats a plain client.

What an error says is for people, and a host may well be called `auth`; its kind is what counts.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    RedisError,
)

from fastapi_rooms.cli.session import Session

LOGIN = "Put the user and the password into the URL: redis://user:password@host:6379"
TRUST = "Trust the server's authority: rediss://…?ssl_ca_certs=/path/to/ca.pem"
MASTER = "Give the address of the master, or of the sentinels: redis+sentinel://…"
REACH = "See that Redis runs, and that host and port can be reached from here."
SEVERAL = "See that all servers run, can be reached from here, and let this user in."


async def advice_for(session: Session) -> str:
    """What to do about a connection that does not come about."""
    if "+" in urlsplit(session.url).scheme:
        return SEVERAL
    client: Any = Redis.from_url(
        session.url, socket_timeout=session.timeout, socket_connect_timeout=session.timeout
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
            "Let the user do what is needed: ACL SETUSER <user> resetchannels "
            f"&{session.prefix}#* +publish +subscribe +unsubscribe"
        )
    except (RedisError, OSError, ValueError, TypeError) as error:
        return TRUST if any(isinstance(e, ssl.SSLError) for e in _causes(error)) else REACH
    return MASTER if is_replica else REACH


async def hello(client: Any) -> dict[bytes, Any]:
    """What a server says of itself. Raises `RedisError`, `ValueError` or `TypeError`."""
    reply = await client.execute_command("HELLO", NEVER_DECODE=True)
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
