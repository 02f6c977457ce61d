"""The queue that takes the place of uvicorn's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastapi_rooms.servers.uvicorn.inbox import MAX_BYTES, MAX_MESSAGES, Inbox


class Reading(asyncio.Transport):
    """Knows whether it is being read from."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = False

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False


def text(data: str) -> dict[str, Any]:
    return {"type": "websocket.receive", "text": data}


@pytest.fixture
async def transport() -> Reading:
    return Reading()


@pytest.fixture
async def inbox(transport: Reading) -> Inbox:
    return Inbox(transport, paused=False)


async def test_messages_come_out_in_the_order_they_came_in(inbox: Inbox) -> None:
    for number in range(10):
        inbox.put_nowait(text(str(number)))
    assert [(await inbox.get())["text"] for _ in range(10)] == [str(n) for n in range(10)]


async def test_reading_goes_on_until_too_many_messages_wait(
    inbox: Inbox, transport: Reading
) -> None:
    for number in range(MAX_MESSAGES):
        assert not transport.paused
        inbox.put_nowait(text(str(number)))
    assert transport.paused


@pytest.mark.parametrize(
    "event",
    [text("x" * MAX_BYTES), {"type": "websocket.receive", "bytes": bytes(MAX_BYTES)}],
    ids=["text", "bytes"],
)
async def test_reading_goes_on_until_too_many_bytes_wait(
    inbox: Inbox, transport: Reading, event: dict[str, Any]
) -> None:
    inbox.put_nowait(text("small"))
    assert not transport.paused
    inbox.put_nowait(event)
    assert transport.paused


async def test_reading_is_not_paused_twice(inbox: Inbox, transport: Reading) -> None:
    for number in range(3 * MAX_MESSAGES):  # what one read of the socket may bring
        inbox.put_nowait(text(str(number)))
    assert transport.paused


async def test_reading_resumes_when_the_endpoint_waits_for_more(
    inbox: Inbox, transport: Reading
) -> None:
    for number in range(MAX_MESSAGES):
        inbox.put_nowait(text(str(number)))
    for _ in range(MAX_MESSAGES):
        await inbox.get()
    waiting = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)
    assert not transport.paused
    inbox.put_nowait(text("more"))
    assert (await waiting)["text"] == "more"


async def test_a_message_for_an_endpoint_that_waits_never_pauses(
    inbox: Inbox, transport: Reading
) -> None:
    waiting = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)
    inbox.put_nowait(text("x" * MAX_BYTES))
    assert not transport.paused
    assert (await waiting)["text"] == "x" * MAX_BYTES


async def test_what_was_paused_when_it_took_over_is_read_on_by_it(transport: Reading) -> None:
    transport.paused = True
    inbox = Inbox(transport, paused=True)
    inbox.put_nowait(text("came before"))
    assert (await inbox.get())["text"] == "came before"
    waiting = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)
    assert not transport.paused
    waiting.cancel()


async def test_cancelling_a_receive_loses_no_message(inbox: Inbox) -> None:
    waiting = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)
    waiting.cancel()
    inbox.put_nowait(text("kept"))
    assert (await inbox.get())["text"] == "kept"


async def test_cancelling_a_receive_that_was_just_woken_wakes_another(inbox: Inbox) -> None:
    first, second = (asyncio.ensure_future(inbox.get()) for _ in range(2))
    await asyncio.sleep(0)
    inbox.put_nowait(text("for whoever is left"))
    first.cancel()
    assert (await asyncio.wait_for(second, 1))["text"] == "for whoever is left"
    assert first.cancelled()


async def test_a_receive_that_is_cancelled_alone_wakes_nobody(inbox: Inbox) -> None:
    only = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)
    inbox.put_nowait(text("kept"))
    only.cancel()
    await asyncio.wait([only])
    assert only.cancelled()
    assert (await inbox.get())["text"] == "kept"


async def test_the_protocol_is_told_that_it_is_never_empty(inbox: Inbox) -> None:
    assert not inbox.empty()
