"""One connection to RabbitMQ: what it hands over, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pamqp.frame
import pytest
from pamqp import commands

from fastapi_rooms.adapters.rabbitmq.links import link as module
from fastapi_rooms.adapters.rabbitmq.links.access import access_of
from fastapi_rooms.adapters.rabbitmq.links.frames import BEAT, Confirmed
from fastapi_rooms.adapters.rabbitmq.links.link import Link
from fastapi_rooms.adapters.rabbitmq.links.steps import log_in
from fastapi_rooms.testing import eventually


async def test_a_heartbeat_is_no_sign_that_messages_arrive() -> None:
    link = Link(log_in(access_of("amqp://host", "Test")), 5)
    link.last_received = 0.0
    link.data_received(BEAT)
    assert link.last_received == 0.0
    link.data_received(BEAT[:3])
    assert link.last_received > 0.0


class FakeTransport:
    """Takes what is written, as long as it is open."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_reading = True
        self.ended = ""

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return bool(self.ended)

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"


class OpenLink:
    """A link that is open, what it has handed over, and what it has told."""

    def __init__(self) -> None:
        self.transport = FakeTransport()
        self.link = Link(log_in(access_of("amqp://host", "Test")), 60)
        self.link.connection_made(cast("asyncio.Transport", self.transport))
        self.link._steps = None
        self.link.opened.set_result(None)
        self.transport.written.clear()
        self.got: list[int] = []
        self.writable: list[bool] = []
        self.link.on_event = self._happened
        self.link.on_writable = lambda: self.writable.append(self.link.writable)

    def _happened(self, event: object) -> None:
        assert isinstance(event, Confirmed)
        self.got.append(event.tag)

    def acks(self, *numbers: int) -> None:
        data = [pamqp.frame.marshal(commands.Basic.Ack(number), 1) for number in numbers]
        self.link.data_received(b"".join(data))

    def say(self, frame: Any) -> None:
        self.link.data_received(pamqp.frame.marshal(frame, 0))

    async def gone(self) -> str:
        self.link.connection_lost(None)
        return await self.link.lost


@pytest.fixture
async def here(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenLink]:
    monkeypatch.setattr(module, "EVENTS_PER_TURN", 2)
    here = OpenLink()
    yield here
    here.link.connection_lost(None)


async def test_what_is_more_than_a_turn_has_room_for_keeps_its_order(here: OpenLink) -> None:
    here.acks(1, 2, 3, 4, 5)
    assert (here.got, here.transport.is_reading) == ([1, 2], False)
    here.acks(6)
    assert here.got == [1, 2]
    await eventually(lambda: here.got == [1, 2, 3, 4, 5, 6])
    assert here.transport.is_reading


async def test_what_has_come_before_the_end_is_handed_over_before_it_is_told(
    here: OpenLink,
) -> None:
    here.acks(1, 2, 3, 4, 5)
    assert await here.gone() == "closed"
    assert here.got == [1, 2, 3, 4, 5]


async def test_nothing_is_handed_over_or_written_after_an_abort(here: OpenLink) -> None:
    here.acks(1, 2, 3, 4, 5)
    here.link.abort("over")
    here.link.write(b"too late")
    await asyncio.sleep(0)
    assert await here.gone() == "over"
    assert here.got == [1, 2]
    assert here.transport.written == []


async def test_a_server_that_reads_slowly_is_written_to_when_it_has_caught_up(
    here: OpenLink,
) -> None:
    here.link.pause_writing()
    assert not here.link.writable
    here.link.resume_writing()
    assert here.writable == [True]


async def test_a_server_that_closes_the_connection_is_answered_and_said_to_have_done_it(
    here: OpenLink,
) -> None:
    here.say(commands.Connection.Close(320, "an operator did it", 0, 0))
    assert here.transport.ended == "closed"
    assert len(here.transport.written) == 1
    assert "an operator did it" in await here.link.lost
    here.link.abort_soon("for another reason")
    assert "an operator did it" in await here.link.lost


async def test_what_a_server_says_while_it_is_taken_leave_of_is_of_no_matter(
    here: OpenLink,
) -> None:
    closing = asyncio.create_task(here.link.close())
    await eventually(lambda: here.transport.written)
    here.acks(1)
    here.say(commands.Connection.Close(320, "an operator did it", 0, 0))
    assert not closing.done()
    here.say(commands.Connection.CloseOk())
    here.link.connection_lost(None)
    await closing
    assert (here.got, here.transport.ended) == ([1], "aborted"), "a message's fate is"
    assert await here.link.lost == "closed"


async def test_a_link_that_was_given_up_before_it_was_open_is_not_opened_by_what_comes() -> None:
    link = Link(log_in(access_of("amqp://host", "Test")), 60)
    link.abort_soon("given up")
    link.write(b"nowhere")
    link.connection_lost(None)
    with pytest.raises(ConnectionResetError):
        await link.opened
    assert await link.lost == "given up"
