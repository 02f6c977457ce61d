"""How a connection is opened, step by step, whoever carries the bytes: pure.

A step yields the bytes to send, and is sent the next method that comes. One loop runs the steps for
asyncio, another one over a plain socket.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, NamedTuple, TypeAlias, TypeVar

import pamqp.base

from fastapi_rooms.adapters.rabbitmq.links.access import Access
from fastapi_rooms.adapters.rabbitmq.links.frames import (
    FRAME_MAX,
    PROTOCOL,
    Confirmed,
    Event,
    Method,
    ProtocolError,
    Returned,
    commands,
    method,
    publish,
)
from fastapi_rooms.adapters.rabbitmq.links.reasons import (
    ACCESS_REFUSED,
    NOT_FOUND,
    Refused,
    said,
)

T = TypeVar("T")
F = TypeVar("F", bound=pamqp.base.Frame)
Steps: TypeAlias = Generator[bytes, Event, T]

UNUSED_KEY: Final = b"~"
"""A routing key by which no queue is ever bound."""

CHANNEL: Final = 1
"""The channel to publish on, or to bind queues on."""


class Broker(NamedTuple):
    """What a broker says of itself, and what was agreed."""

    product: str
    version: str
    channel_max: int
    """How many channels a connection may have; 0 for any number."""
    frame_max: int
    """The longest frame that it takes, in bytes; 0 for any length."""


def log_in(access: Access) -> Steps[Broker]:
    """Open the connection; returns what is there. Raises `Refused`."""
    event = yield PROTOCOL
    start = _expect(event, commands.Connection.Start)
    offered = str(start.mechanisms).split()
    mechanism = "EXTERNAL" if access.external else "PLAIN"
    if mechanism not in offered:
        raise Refused(
            0,
            f"it takes no login by {mechanism}, but by {', '.join(offered)}. A URL asks for PLAIN, "
            "or with ?auth=external for EXTERNAL: auth_mechanisms in rabbitmq.conf has to allow it",
        )
    login = "" if access.external else f"\0{access.user}\0{access.password}"
    capabilities: dict[str, object] = {
        "authentication_failure_close": True,
        "basic.nack": True,
        "connection.blocked": True,
        "consumer_cancel_notify": True,
        "publisher_confirms": True,
    }
    about: dict[str, object] = {
        "capabilities": capabilities,
        "connection_name": access.name,
        "product": "fastapi_rooms",
    }
    ok = commands.Connection.StartOk(about, mechanism, login)  # type: ignore[arg-type]  # a table
    try:
        event = yield method(ok, 0)
        tune = _expect(event, commands.Connection.Tune)
    except Refused as error:
        raise Refused(error.code, error.text, logging_in=True) from None
    if tune.frame_max and tune.frame_max < FRAME_MAX:
        raise Refused(
            0,
            f"its frame_max is {tune.frame_max}, and {FRAME_MAX} is needed, its default. "
            "Take the setting out of rabbitmq.conf",
        )
    tuned = commands.Connection.TuneOk(tune.channel_max, FRAME_MAX, access.heartbeat)
    event = yield method(tuned, 0) + method(commands.Connection.Open(access.vhost), 0)
    _expect(event, commands.Connection.OpenOk)
    properties = start.server_properties or {}
    product, version = (said(_text(properties.get(key))) for key in ("product", "version"))
    return Broker(product, version, tune.channel_max or 0, tune.frame_max or 0)


def call(frame: pamqp.base.Frame, answer: type[F], channel: int = CHANNEL) -> Steps[F]:
    """Call a method, and return the answer. Raises `Refused`."""
    event = yield method(frame, channel)
    return _expect(event, answer)


def open_channel(channel: int = CHANNEL) -> Steps[None]:
    """Open a channel."""
    yield from call(commands.Channel.Open(), commands.Channel.OpenOk, channel)


def find_exchange(exchange: str) -> Steps[None]:
    """Have an open channel, and the exchange; one that is there may be used without making it."""
    yield from open_channel()
    declare = commands.Exchange.Declare
    made = declare(exchange=exchange, exchange_type="direct", durable=True)
    try:
        yield from call(made, commands.Exchange.DeclareOk)
    except Refused as error:
        if error.code != ACCESS_REFUSED:
            raise
        refused = error
    else:
        return
    event = yield method(commands.Channel.CloseOk(), CHANNEL) + method(
        commands.Channel.Open(), CHANNEL
    )
    _expect(event, commands.Channel.OpenOk)
    found = declare(exchange=exchange, exchange_type="direct", passive=True)
    try:
        yield from call(found, commands.Exchange.DeclareOk)
    except Refused as error:
        raise (refused if error.code == NOT_FOUND else error) from None


def begin_publishing(exchange: str) -> Steps[None]:
    """Have a channel that confirms, on which this user may publish.

    Only what is published finds out whether that is allowed. So something is that nobody gets.
    """
    yield from find_exchange(exchange)
    yield from call(commands.Confirm.Select(), commands.Confirm.SelectOk)
    event = yield publish(CHANNEL, exchange.encode(), UNUSED_KEY, b"")
    while isinstance(event, Returned):
        event = yield b""
    if not isinstance(event, Confirmed):
        _expect(event, commands.Basic.Ack)


def log_in_to_publish(access: Access, exchange: str) -> Steps[Broker]:
    """Open the connection, with a channel to publish on. Raises `Refused`."""
    broker = yield from log_in(access)
    yield from begin_publishing(exchange)
    return broker


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _expect(event: Event, kind: type[F]) -> F:
    if isinstance(event, Method):
        frame = event.frame
        if isinstance(frame, kind):
            return frame
        if isinstance(frame, commands.Connection.Close | commands.Channel.Close):
            raise refusal(frame)
    raise ProtocolError(f"{kind.name} did not come")


def refusal(frame: commands.Connection.Close | commands.Channel.Close) -> Refused:
    """Why the broker closes a connection, or a channel."""
    return Refused(frame.reply_code or 0, str(frame.reply_text or "closed by RabbitMQ"))
