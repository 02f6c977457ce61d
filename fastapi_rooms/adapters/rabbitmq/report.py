"""What RabbitMQ says of itself to whoever may publish there: for tools."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from fastapi_rooms.adapters.rabbitmq.extra import require
from fastapi_rooms.adapters.rabbitmq.links.access import access_of
from fastapi_rooms.adapters.rabbitmq.pubsub.messages import exchange_of
from fastapi_rooms.adapters.urls import Url
from fastapi_rooms.errors import AdapterUnavailable


class RabbitMQReport(NamedTuple):
    """One broker, as it is seen over one connection."""

    product: str
    version: str
    exchange: str
    """What workers publish to."""
    channel_max: int
    """How many channels a connection may have; 0 for any number."""
    frame_max: int
    """The longest frame that it takes, in bytes; 0 for any length."""
    alarm: str
    """Why it takes nothing that is published; empty if it does."""
    permissions: str
    """The command that lets a user do what a worker needs."""


async def report_on_rabbitmq(url: Url, prefix: str, timeout: float) -> RabbitMQReport:
    """Log in, and see whether anything may be published.

    Raises `ConfigurationError`, or `AdapterUnavailable`, which says what to do.
    """
    require("RabbitMQ")
    from fastapi_rooms.adapters.rabbitmq.links.frames import ProtocolError
    from fastapi_rooms.adapters.rabbitmq.links.link import Link
    from fastapi_rooms.adapters.rabbitmq.links.reasons import Refused, permissions_for, reason_of
    from fastapi_rooms.adapters.rabbitmq.links.steps import log_in_to_publish

    access, exchange = access_of(url, "RabbitMQ"), exchange_of(prefix)

    try:
        link = await Link.open(access, partial(log_in_to_publish, access, exchange), timeout)
    except (Refused, ProtocolError, OSError) as error:
        raise AdapterUnavailable(reason_of(error)) from error
    try:
        product, version, channel_max, frame_max = link.broker
        return RabbitMQReport(
            product,
            version,
            exchange,
            channel_max,
            frame_max,
            link.blocked,
            permissions_for(exchange),
        )
    finally:
        await link.close()
