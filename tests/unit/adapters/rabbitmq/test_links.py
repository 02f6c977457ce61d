"""What a broker may say, and what becomes of the connection: nothing ends anything else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from pamqp import commands

from fastapi_rooms import (
    AdapterUnavailable,
    AsyncEmitter,
    ConfigurationError,
    Emitter,
    NotStarted,
    RabbitMQAdapter,
)
from fastapi_rooms.adapters import probe
from fastapi_rooms.adapters.rabbitmq.links import access as access_module
from fastapi_rooms.adapters.rabbitmq.links import frames
from fastapi_rooms.adapters.rabbitmq.links.access import access_of
from fastapi_rooms.adapters.rabbitmq.links.link import Link
from fastapi_rooms.adapters.rabbitmq.links.steps import log_in_to_publish
from fastapi_rooms.adapters.rabbitmq.pubsub import subscriber as subscriber_module
from fastapi_rooms.adapters.rabbitmq.pubsub.messages import Sent, decode, encode
from fastapi_rooms.testing import eventually
from fastapi_rooms.testing.suite import Station
from tests.emitters import done
from tests.unit.adapters.rabbitmq.broker import Broker, Connection

Close = commands.Connection.Close


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with Broker() as broker:
        yield broker


@asynccontextmanager
async def running(broker: Broker) -> AsyncIterator[Station]:
    """An adapter with both connections; the broker delivers nothing, so no probe comes back.

    Its start waits for one, and nobody waits for that.
    """
    station = Station(
        RabbitMQAdapter(broker.url, publish_timeout=60, connect_timeout=60, probe_interval=600)
    )
    starting = asyncio.ensure_future(station.start(b"news"))
    try:
        await eventually(lambda: len(broker.connections) == 2)
        await eventually(lambda: _publishing(broker).published)
        await eventually(lambda: station.adapter.is_live(b"news"))  # type: ignore[attr-defined]
        yield station
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await station.adapter.close()


def _publishing(broker: Broker) -> Connection:
    """The newest connection on which something was published."""
    published = [c for c in broker.connections if c.published]
    return published[-1] if published else Connection(broker, None)  # type: ignore[arg-type]


def _has_published(connection: Connection, messages: int) -> bool:
    return len(connection.published) == messages


def receiving(broker: Broker) -> Connection:
    return next(c for c in reversed(broker.connections) if not c.published)


def a_message(data: bytes, channel: bytes = b"news", number: int = 1, sent: float = 5.0) -> bytes:
    return encode(Sent(b"somebody", number, sent, 1.0, channel, data))


# What is published.


async def test_what_is_refused_raises_and_what_nobody_got_is_none(broker: Broker) -> None:
    broker.confirms = False
    async with running(broker) as station:
        publisher = _publishing(broker)
        answers = [asyncio.ensure_future(_publish(station, b"%d" % n)) for n in range(4)]
        await eventually(lambda: len([c for c in publisher.published if b"\0" in c]) >= 5)
        probe, *ours = publisher.published[1:]
        assert decode(probe).channel.startswith(b"rooms#probe")
        publisher.give_back(ours[1])
        publisher.say(commands.Basic.Ack(4), commands.Basic.Nack(5), commands.Basic.Ack(6))
        publisher.say(commands.Basic.Ack(2), commands.Basic.Ack(3))
        results = await asyncio.gather(*answers, return_exceptions=True)
        assert results[:2] == [None, 0]
        assert isinstance(results[2], AdapterUnavailable)
        assert results[3] is None
        assert station.adapter.health.dropped == 1


async def _publish(station: Station, data: bytes) -> int | None:
    return await station.adapter.publish(b"other", data)


async def test_nothing_is_written_while_it_says_that_it_takes_nothing(broker: Broker) -> None:
    async with running(broker) as station:
        publisher = _publishing(broker)
        publisher.say(commands.Connection.Blocked("low on memory"), channel=0)
        await eventually(lambda: "low on memory" in station.adapter.health.reason)
        before = len(publisher.published)
        waits = asyncio.ensure_future(_publish(station, b"later"))
        station.publish_volatile(b"other", b"never")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert station.adapter.health.buffered
        assert len(publisher.published) == before
        publisher.say(commands.Connection.Unblocked(), channel=0)
        assert await waits is None
        sent = map(decode, publisher.published[before:])
        assert [message.data for message in sent if message.channel == b"other"] == [b"later"]
        assert station.adapter.health.dropped == 1


async def test_a_probe_that_is_refused_says_so(broker: Broker) -> None:
    broker.confirms = False
    async with running(broker) as station:
        publisher = _publishing(broker)
        await eventually(lambda: len(publisher.published) == 2)
        publisher.say(commands.Basic.Nack(2))
        await eventually(lambda: "refused" in station.adapter.health.reason)


async def test_a_probe_that_comes_back_as_bound_nowhere_is_a_gap(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "RETRY", 0.01)
    broker.confirms = False
    async with running(broker) as station:
        publisher = _publishing(broker)
        for number in range(2, probe.TOLERATED + 3):
            await eventually(partial(_has_published, publisher, number))
            publisher.give_back(publisher.published[-1])
            publisher.say(commands.Basic.Ack(number))
        await eventually(lambda: len(station.gaps) == 1)


@pytest.mark.parametrize(
    "nonsense",
    [
        commands.Basic.Ack(99),
        commands.Basic.Ack(7, multiple=True),
        commands.Queue.BindOk(),
        commands.Channel.Close(404, "NOT_FOUND", 60, 40),
    ],
)
async def test_a_publishing_connection_that_makes_no_sense_is_made_anew(
    broker: Broker, nonsense: Any
) -> None:
    async with running(broker) as station:
        _publishing(broker).say(nonsense)
        await eventually(lambda: len(broker.connections) >= 3)
        assert await _publish(station, b"all is well") is None


async def test_a_message_that_is_too_long_is_refused_and_takes_no_other_along(
    broker: Broker,
) -> None:
    broker.confirms = False
    async with running(broker) as station:
        publisher = _publishing(broker)
        long = asyncio.ensure_future(_publish(station, b"long" * 100))
        short = asyncio.ensure_future(_publish(station, b"short"))
        await eventually(lambda: len(publisher.published) == 4)
        broker.confirms = True
        size = max(len(data) for data in publisher.published)
        why = f"PRECONDITION_FAILED - message size {size} is larger than configured max size 9"
        publisher.say(commands.Channel.Close(406, why, 60, 40))
        with pytest.raises(AdapterUnavailable, match=f"refused to take it: .* {size} is larger"):
            await long
        assert await short is None
        assert station.adapter.health.dropped == 1


async def test_one_that_comes_back_and_is_too_long_to_be_read_is_accepted(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_CONTENT", 10)
    broker.confirms = False
    async with running(broker) as station:
        publisher = _publishing(broker)
        await eventually(lambda: len(publisher.published) == 2)
        sent = asyncio.ensure_future(_publish(station, b"long"))
        await eventually(lambda: len(publisher.published) == 3)
        broker.confirms = True
        publisher.give_back(publisher.published[-1])
        publisher.say(commands.Basic.Ack(3, multiple=True))
        assert await sent is None
        assert len(broker.connections) == 2


async def test_one_that_sends_back_what_was_never_published_is_left(broker: Broker) -> None:
    async with running(broker) as station:
        for number in range(3):
            _publishing(broker).give_back(a_message(b"no", number=number))
        await eventually(lambda: len(broker.connections) >= 3)
        assert await _publish(station, b"all is well") is None


# What is received.


async def test_messages_are_passed_on_and_what_is_none_is_counted(broker: Broker) -> None:
    async with running(broker) as station:
        connection = receiving(broker)
        connection.deliver(a_message(b"one"), tag=1)
        connection.deliver(b"", tag=2)
        connection.deliver(b"nonsense", tag=3)
        connection.deliver(a_message(b"for others", b"other"), tag=4)
        connection.deliver(a_message(b"two"), tag=5)
        await eventually(lambda: station.heard(b"news") == [b"one", b"two"])
        assert station.adapter.health.dropped == 2
        acks = [frame for frame in broker.came if isinstance(frame, commands.Basic.Ack)]
        await eventually(lambda: acks or [f for f in broker.came if f.name == "Basic.Ack"])


async def test_what_comes_too_late_is_a_gap_and_no_message(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber_module, "LOSS_DELAY", 0.05)
    async with running(broker) as station:
        connection = receiving(broker)
        connection.deliver(a_message(b"in time", sent=100.0))
        connection.deliver(a_message(b"late", sent=90.0), tag=2)
        connection.deliver(a_message(b"late", sent=91.0), tag=3)
        connection.deliver(a_message(b"in time", sent=100.1), tag=4)
        await eventually(lambda: station.heard(b"news") == [b"in time"] * 2)
        await eventually(lambda: len(station.gaps) == 2, what="one at once, one for those after it")
        assert all(b"news" in gap.channels for gap in station.gaps)


@pytest.mark.parametrize("channel", [2, 3])
async def test_what_is_too_long_or_the_queue_had_no_room_for_is_a_gap(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, channel: int
) -> None:
    monkeypatch.setattr(subscriber_module, "LOSS_DELAY", 0.01)
    monkeypatch.setattr(frames, "MAX_CONTENT", 10)
    async with running(broker) as station:
        receiving(broker).deliver(a_message(b"lost"), channel=channel)
        await eventually(lambda: len(station.gaps) == 1)
        assert station.heard(b"news") == []
        await eventually(lambda: any(frame.name == "Basic.Ack" for frame in broker.came))


@pytest.mark.parametrize(
    "nonsense",
    [
        commands.Queue.BindOk(),
        commands.Queue.UnbindOk(),
        commands.Basic.Cancel("c"),
        commands.Basic.Ack(1),
        Close(320, "CONNECTION_FORCED", 0, 0),
    ],
)
async def test_a_receiving_connection_that_ends_or_makes_no_sense_is_a_gap(
    broker: Broker, nonsense: Any
) -> None:
    async with running(broker) as station:
        channel = 0 if isinstance(nonsense, Close) else 1
        receiving(broker).say(nonsense, channel=channel)
        await eventually(lambda: len(broker.connections) >= 3)
        await eventually(lambda: [b"news" in gap.channels for gap in station.gaps] == [True])


@pytest.mark.parametrize("data", [b"\x01\x00\x00\x00\x00\x00\x04ABCD\xce", b"HTTP/1.1 400\r\n"])
async def test_bytes_that_make_no_sense_end_one_connection(broker: Broker, data: bytes) -> None:
    async with running(broker) as station:
        receiving(broker).write(data)
        await eventually(lambda: len(station.gaps) == 1)


# How a connection begins and ends.


@pytest.mark.parametrize(
    ("method", "answer", "why"),
    [
        ("Connection.StartOk", Close(403, "ACCESS_REFUSED - no", 10, 11), "percent-encoded"),
        ("Connection.StartOk", commands.Connection.Tune(0, 4096, 60), "frame_max is 4096, .* Take"),
        ("Connection.StartOk", commands.Queue.BindOk(), "Connection.Tune did not come"),
        ("Connection.Open", Close(530, "NOT_ALLOWED - vhost x not found", 10, 40), "the path"),
        ("Exchange.Declare", commands.Channel.Close(406, "PRECONDITION_FAILED", 40, 10), "PREC"),
        ("Exchange.Declare", commands.Channel.Close(403, "ACCESS_REFUSED - x", 40, 10), "set_perm"),
        ("Confirm.Select", commands.Queue.BindOk(), "Confirm.SelectOk did not come"),
    ],
)
async def test_who_is_not_let_in_is_told_why(
    broker: Broker, method: str, answer: Any, why: str
) -> None:
    group, name = method.split(".")
    broker.answers[getattr(getattr(commands, group), name)] = lambda _: answer
    for emitter in (Emitter(broker.url, timeout=5), AsyncEmitter(broker.url, timeout=5)):
        with pytest.raises(AdapterUnavailable, match=why):
            await done(await asyncio.to_thread(emitter.send_text, "hello"))


async def test_a_broker_that_takes_no_password_is_not_given_one(broker: Broker) -> None:
    broker.start = commands.Connection.Start(0, 9, {}, "EXTERNAL", "en_US")
    with pytest.raises(AdapterUnavailable, match=r"no login by PLAIN, but by EXTERNAL\. A URL"):
        await AsyncEmitter(broker.url).send_text("hello")
    await AsyncEmitter(f"{broker.url}?auth=external").send_text("hello")
    (login,) = [frame for frame in broker.came if isinstance(frame, commands.Connection.StartOk)]
    assert (login.mechanism, login.response) == ("EXTERNAL", "")


async def test_a_broker_that_says_nothing_is_left(broker: Broker) -> None:
    access = access_of(broker.url, "test")
    steps = log_in_to_publish(access, "rooms")
    link = Link(steps, 0.02)  # type: ignore[arg-type]  # AMQP has whole seconds
    await asyncio.get_running_loop().create_connection(lambda: link, *access.hosts[0])
    await link.opened
    assert link.broker.product == "Fake"
    assert "nothing has come for" in await link.lost
    await link.close()


async def test_a_broker_that_never_answers_is_waited_for_no_longer_than_said(
    broker: Broker,
) -> None:
    broker.answers[commands.Connection.Open] = lambda _: None
    for emitter in (Emitter(broker.url, timeout=0.1), AsyncEmitter(broker.url, timeout=0.1)):
        with pytest.raises(AdapterUnavailable, match="did not accept it"):
            await done(await asyncio.to_thread(emitter.send_text, "hello"))


async def test_an_adapter_that_is_not_started_says_so() -> None:
    adapter = RabbitMQAdapter("amqp://127.0.0.1:1", connect_timeout=5)
    with pytest.raises(NotStarted):
        await adapter.publish(b"news", b"hello")
    starting = asyncio.ensure_future(adapter.start(Station(adapter), []))
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert not adapter.health.connected


def test_certificates_that_cannot_be_read_are_said_to_be_so(tmp_path: Any) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    with pytest.raises(ConfigurationError, match="certificates"):
        access_of(f"amqps://host?cafile={tmp_path / 'no.pem'}", "test")
    assert access_module.DEFAULT_HEARTBEAT <= 10
