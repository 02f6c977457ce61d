"""What emitters say when RabbitMQ takes nothing from the moment in which they send."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pamqp import commands

from fastapi_rooms import AdapterUnavailable, AsyncEmitter, Emitter
from fastapi_rooms.testing import eventually
from tests.emitters import done
from tests.unit.adapters.rabbitmq.broker import Broker


@pytest.mark.parametrize("kind", [Emitter, AsyncEmitter])
async def test_the_alarm_that_a_message_ran_into_is_in_the_error(kind: Any) -> None:
    async with Broker() as broker:
        emitter = kind(broker.url, timeout=0.5)
        await done(await asyncio.to_thread(emitter.send_text, "taken"))
        broker.confirms = False

        async def send() -> None:
            await done(await asyncio.to_thread(emitter.send_text, "not taken"))

        sent = asyncio.ensure_future(send())
        await eventually(lambda: len(broker.last.published) == 3)
        broker.last.say(commands.Connection.Blocked("low on memory"), channel=0)
        with pytest.raises(AdapterUnavailable, match="low on memory"):
            await sent
        await done(await asyncio.to_thread(emitter.close))
