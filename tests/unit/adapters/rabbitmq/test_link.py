"""What one connection to RabbitMQ takes for a sign of life."""

from __future__ import annotations

from fastapi_rooms.adapters.rabbitmq.links.access import access_of
from fastapi_rooms.adapters.rabbitmq.links.frames import BEAT
from fastapi_rooms.adapters.rabbitmq.links.link import Link
from fastapi_rooms.adapters.rabbitmq.links.steps import log_in


async def test_a_heartbeat_is_no_sign_that_messages_arrive() -> None:
    link = Link(log_in(access_of("amqp://host", "Test")), 5)
    link.last_received = 0.0
    link.data_received(BEAT)
    assert link.last_received == 0.0
    link.data_received(BEAT[:3])
    assert link.last_received > 0.0
