"""The queue that is used instead of uvicorn's."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import pytest

from fastapi_rooms.servers.uvicorn.inbox import MAX_BYTES, MAX_MESSAGES, Inbox
from tests.unit.servers.uvicorn.support import Wire, event, text


class StrictWire(Wire):
    """Is paused, and resumed, once at a time."""

    def pause_reading(self) -> None:
        assert not self.paused
        super().pause_reading()

    def resume_reading(self) -> None:
        assert self.paused
        super().resume_reading()


@pytest.fixture
async def transport() -> StrictWire:
    return StrictWire()


@pytest.fixture
async def inbox(transport: StrictWire) -> Inbox:
    return Inbox(transport, paused=False)


async def test_messages_come_out_in_the_order_they_came_in(inbox: Inbox) -> None:
    for number in range(10):
        inbox.put_nowait(event(str(number)))
    assert [(await inbox.get())["text"] for _ in range(10)] == [str(n) for n in range(10)]


async def test_reading_goes_on_until_too_many_messages_wait(
    inbox: Inbox, transport: StrictWire
) -> None:
    for number in range(MAX_MESSAGES):
        assert not transport.paused
        inbox.put_nowait(event(str(number)))
    assert transport.paused


@pytest.mark.parametrize(
    "message",
    [event("x" * MAX_BYTES), event(bytes(MAX_BYTES))],
    ids=["text", "bytes"],
)
async def test_reading_goes_on_until_too_many_bytes_wait(
    inbox: Inbox, transport: StrictWire, message: dict[str, Any]
) -> None:
    inbox.put_nowait(event("small"))
    assert not transport.paused
    inbox.put_nowait(message)
    assert transport.paused


async def test_events_come_out_as_they_came_in(inbox: Inbox) -> None:
    events = [
        event("text"),
        event(b"bytes"),
        {"type": "websocket.receive", "text": "text", "bytes": None},
        {"type": "websocket.disconnect", "code": 1005},
        {"type": "websocket.disconnect", "code": 1000, "reason": "done"},
    ]
    for each in events:
        inbox.put_nowait(each)
    assert [await inbox.get() for _ in events] == events


async def test_what_waits_takes_little_more_than_it_took_on_the_wire(inbox: Inbox) -> None:
    wire = 256 * 1024  # what asyncio reads at once
    count = wire // len(text("xy"))
    tracemalloc.start()
    try:
        for number in range(count):
            inbox.put_nowait(event(f"{number % 100:02}"))
        waiting, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert waiting < 10 * wire


async def test_reading_is_not_paused_twice(inbox: Inbox, transport: StrictWire) -> None:
    for number in range(3 * MAX_MESSAGES):  # what one read of the socket may bring
        inbox.put_nowait(event(str(number)))
    assert transport.paused


async def test_reading_resumes_when_the_endpoint_waits_for_more(
    inbox: Inbox, transport: StrictWire
) -> None:
    for number in range(MAX_MESSAGES):
        inbox.put_nowait(event(str(number)))
    for _ in range(MAX_MESSAGES):
        await inbox.get()
    waiting = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)
    assert not transport.paused
    inbox.put_nowait(event("more"))
    assert (await waiting)["text"] == "more"


async def test_a_message_for_an_endpoint_that_waits_never_pauses(
    inbox: Inbox, transport: StrictWire
) -> None:
    waiting = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)
    inbox.put_nowait(event("x" * MAX_BYTES))
    assert not transport.paused
    assert (await waiting)["text"] == "x" * MAX_BYTES


async def test_what_was_paused_when_it_took_over_is_read_on_by_it(transport: StrictWire) -> None:
    transport.paused = True
    inbox = Inbox(transport, paused=True)
    inbox.put_nowait(event("came before"))
    assert (await inbox.get())["text"] == "came before"
    waiting = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)
    assert not transport.paused
    waiting.cancel()


async def test_cancelling_a_receive_loses_no_message(inbox: Inbox) -> None:
    waiting = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)
    waiting.cancel()
    inbox.put_nowait(event("kept"))
    assert (await inbox.get())["text"] == "kept"


async def test_cancelling_a_receive_that_was_just_woken_wakes_another(inbox: Inbox) -> None:
    first, second = (asyncio.ensure_future(inbox.get()) for _ in range(2))
    await asyncio.sleep(0)
    inbox.put_nowait(event("for whoever is left"))
    first.cancel()
    assert (await asyncio.wait_for(second, 1))["text"] == "for whoever is left"
    assert first.cancelled()


async def test_a_receive_that_is_cancelled_alone_wakes_nobody(inbox: Inbox) -> None:
    only = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)
    inbox.put_nowait(event("kept"))
    only.cancel()
    await asyncio.wait([only])
    assert only.cancelled()
    assert (await inbox.get())["text"] == "kept"


async def test_receives_that_a_silent_client_lets_time_out_leave_nothing(inbox: Inbox) -> None:
    for _ in range(1000):
        waiting = [asyncio.ensure_future(inbox.get()) for _ in range(2)]
        await asyncio.sleep(0)
        for receive in waiting:
            receive.cancel()
        await asyncio.wait(waiting)
    assert not inbox._waiters
    inbox.put_nowait(event("kept"))
    assert (await inbox.get())["text"] == "kept"


async def test_the_protocol_is_told_that_it_is_never_empty(inbox: Inbox) -> None:
    assert not inbox.empty()


async def test_a_text_that_is_intercepted_is_answered_and_not_queued(
    inbox: Inbox, transport: StrictWire
) -> None:
    answers: list[None] = []
    inbox.intercept("ping", lambda: answers.append(None))
    for message in [event("ping"), event(b"ping")] * MAX_MESSAGES:
        inbox.put_nowait(message)
        inbox.put("ping")
        if "bytes" in message:
            assert await inbox.get() == event(b"ping")
    assert len(answers) == 3 * MAX_MESSAGES
    assert not transport.paused
    inbox.intercept(None, lambda: None)
    inbox.put("ping")
    assert await inbox.get() == event("ping")
