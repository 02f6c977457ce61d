"""Which confirmation a blocking emitter takes for that of its message."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pamqp import commands

from fastapi_rooms import AdapterUnavailable, Emitter
from fastapi_rooms.adapters.rabbitmq.emit_clients.wires import Wire
from fastapi_rooms.testing import eventually
from tests.unit.adapters.rabbitmq.broker import Broker


class _Interrupted(BaseException):
    """What the handler of a signal raises, wherever the thread is."""


def _interrupt(*_: Any) -> None:
    raise _Interrupted


async def _send(emitter: Emitter, text: str = "hello") -> None:
    await asyncio.to_thread(emitter.send_text, text)


async def test_the_next_one_does_not_get_that_of_a_message_which_a_signal_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Broker() as broker:
        emitter = Emitter(broker.url)
        await _send(emitter)
        broker.confirms = False
        with monkeypatch.context() as patch:
            patch.setattr(Wire, "_next", _interrupt)
            with pytest.raises(_Interrupted):
                await _send(emitter)
        sent = asyncio.ensure_future(_send(emitter, "the next"))
        await eventually(lambda: b"the next" in b"".join(broker.last.published))
        broker.connections[0].say(commands.Basic.Ack(3))
        broker.last.say(commands.Basic.Nack(2))
        with pytest.raises(AdapterUnavailable, match="refused to take it"):
            await sent
        emitter.close()


async def test_one_that_is_interrupted_while_it_connects_closes_its_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Broker() as broker:
        emitter = Emitter(broker.url)
        with monkeypatch.context() as patch:
            patch.setattr(Wire, "_next", _interrupt)
            with pytest.raises(_Interrupted):
                await _send(emitter)
        await _send(emitter)
        emitter.close()  # a socket that is left open is a warning, and so an error


async def test_that_of_another_message_is_none() -> None:
    async with Broker() as broker:
        broker.confirms = False
        emitter = Emitter(broker.url)
        sent = asyncio.ensure_future(_send(emitter))
        await eventually(lambda: broker.connections and len(broker.last.published) == 2)
        broker.last.say(commands.Basic.Ack(1), commands.Basic.Nack(2))
        with pytest.raises(AdapterUnavailable, match="refused to take it"):
            await sent
        emitter.close()
