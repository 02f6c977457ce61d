"""What a client that speaks the framing asks for costs no more than it is worth."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from starlette.types import Message

from fastapi_rooms.testing import eventually
from fastapi_rooms.wire.client_framing import ASKS_FOR_HEARTBEAT
from fastapi_rooms.worker.framed_transport import SKIPPED_IN_A_TURN, FramedTransport
from tests.unit.support import FakeTransport


async def test_all_who_ask_in_one_turn_are_answered_by_one_heartbeat() -> None:
    inner = FakeTransport()
    transport = FramedTransport(inner)
    assert transport.answers_by_itself()
    ask = inner.intercepted[ASKS_FOR_HEARTBEAT]
    for number in range(1, 4):
        for _ in range(1000):
            ask()
        assert inner.writes == [["\0b"]] * number
        await eventually(lambda: not transport._has_answered)


async def test_nor_is_a_flood_answered_one_by_one_that_the_endpoint_reads() -> None:
    texts = ["\0b"] * SKIPPED_IN_A_TURN * 10 + ["hi"]
    events: Iterator[Message] = iter([{"type": "websocket.receive", "text": t} for t in texts])

    async def receive() -> Message:
        return next(events)

    inner = FakeTransport()
    inner.receive = receive
    message = await FramedTransport(inner).receive()
    assert message["text"] == "hi"
    assert inner.writes == [["\0b"]] * 10


async def test_one_who_sends_nothing_for_the_endpoint_lets_others_go_on() -> None:
    async def receive() -> Message:
        return {"type": "websocket.receive", "text": "\0r{}"}

    inner = FakeTransport()
    inner.receive = receive
    reading = asyncio.create_task(FramedTransport(inner).receive())
    for _ in range(3):
        await asyncio.sleep(0)
    reading.cancel()


def test_a_heartbeat_that_is_skipped_is_no_message_that_was_dropped() -> None:
    class Slow(FakeTransport):
        def write_volatile(self, message: object) -> None:
            self.dropped += 1

    inner = Slow()
    transport = FramedTransport(inner)
    transport.answer()
    assert (inner.dropped, transport.dropped) == (1, 0)
    inner.dropped += 1
    assert transport.dropped == 1


async def test_the_turn_after_is_another_one() -> None:
    inner = FakeTransport()
    transport = FramedTransport(inner)
    transport.answers_by_itself()
    inner.intercepted[ASKS_FOR_HEARTBEAT]()
    await asyncio.sleep(0)
    inner.intercepted[ASKS_FOR_HEARTBEAT]()
    assert inner.writes == [["\0b"]] * 2


async def test_what_has_nothing_to_do_with_the_framing_is_the_transports_own() -> None:
    class Drained(FakeTransport):
        drained = 0.0

        async def drain(self, timeout: float) -> None:
            self.drained = timeout

    inner, answered = Drained(), list[str]()
    transport = FramedTransport(inner)
    assert transport.intercept("ping", lambda: answered.append("pong"))
    inner.intercepted["ping"]()
    await transport.drain(3.0)
    assert (answered, inner.drained) == (["pong"], 3.0)
