"""What emitters make of what a broker answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pamqp import commands

from fastapi_rooms import AdapterUnavailable, AsyncEmitter, Emitter
from fastapi_rooms.adapters.rabbitmq.emit_clients.wires import Wire
from fastapi_rooms.testing import eventually
from tests.emitters import done
from tests.unit.adapters.rabbitmq.broker import Broker


class _Interrupted(BaseException):
    """What the handler of a signal raises, wherever the thread is."""


def _interrupt(*_: Any) -> None:
    raise _Interrupted


async def _send(emitter: Any, text: str = "hello") -> None:
    await done(await asyncio.to_thread(emitter.send_text, text))


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with Broker() as broker:
        yield broker


@pytest.mark.parametrize("kind", [Emitter, AsyncEmitter])
async def test_an_emitter_is_told_that_its_message_was_refused(broker: Broker, kind: Any) -> None:
    broker.confirms = False
    emitter = kind(broker.url)
    sent = asyncio.ensure_future(_send(emitter))
    await eventually(lambda: broker.connections and len(broker.last.published) == 2)
    broker.last.give_back(broker.last.published[-1])
    broker.last.say(commands.Basic.Nack(2))
    with pytest.raises(AdapterUnavailable, match="refused to take it"):
        await sent
    await done(await asyncio.to_thread(emitter.close))


@pytest.mark.parametrize("kind", [Emitter, AsyncEmitter])
async def test_an_emitter_waits_until_it_may_publish_again(broker: Broker, kind: Any) -> None:
    emitter = kind(broker.url)
    await _send(emitter)
    broker.last.say(commands.Connection.Blocked("low on disk"), channel=0)
    sent = asyncio.ensure_future(_send(emitter))
    await asyncio.sleep(0.05)
    assert len(broker.last.published) == 2
    broker.last.say(commands.Connection.Unblocked(), channel=0)
    await sent
    assert len(broker.last.published) == 3
    await done(await asyncio.to_thread(emitter.close))


@pytest.mark.parametrize("kind", [Emitter, AsyncEmitter])
@pytest.mark.parametrize("say", [commands.Queue.BindOk(), None])
async def test_an_emitter_sends_once_more_what_a_lost_connection_had(
    broker: Broker, kind: Any, say: Any
) -> None:
    emitter = kind(broker.url)
    await _send(emitter)
    broker.confirms = False
    sent = asyncio.ensure_future(_send(emitter))
    await eventually(lambda: len(broker.last.published) == 3)
    first = broker.last
    broker.confirms = True
    if say is None:
        first.end()
    else:
        first.say(say, commands.Connection.Close(501, "FRAME_ERROR", 0, 0), channel=0)
    await sent
    assert len(broker.connections) == 2
    assert broker.last.published[-1] == first.published[-1], "with the same number"
    await done(await asyncio.to_thread(emitter.close))


# The one that blocks takes no confirmation of another message for its own.


async def test_the_next_one_does_not_get_that_of_a_message_which_a_signal_interrupted(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitter = Emitter(broker.url)
    with monkeypatch.context() as patch:
        patch.setattr(Wire, "_next", _interrupt)
        with pytest.raises(_Interrupted):
            await _send(emitter)
    await _send(emitter)
    emitter.close()  # a socket that is left open is a warning, and so an error


async def test_that_of_another_message_is_none(broker: Broker) -> None:
    broker.confirms = False
    emitter = Emitter(broker.url)
    sent = asyncio.ensure_future(_send(emitter))
    await eventually(lambda: broker.connections and len(broker.last.published) == 2)
    broker.last.say(commands.Basic.Ack(1), commands.Basic.Nack(2))
    with pytest.raises(AdapterUnavailable, match="refused to take it"):
        await sent
    emitter.close()
