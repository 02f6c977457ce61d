"""What the commands say about a carrier before they connect to it."""

from __future__ import annotations

import pytest

from fastapi_rooms import UsageError
from fastapi_rooms.cli.session import Session


async def test_who_asks_rabbitmq_for_a_history_is_told_that_it_has_none() -> None:
    session = Session("amqp://127.0.0.1:1", "rooms", "/", 1.0)
    with pytest.raises(UsageError, match="RabbitMQ keeps no messages"):
        async with session.rooms(remembers="lobby"):
            raise AssertionError
