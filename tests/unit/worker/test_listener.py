"""Listeners: a room's messages as an iterator, bounded."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import ListenerOverflow
from fastapi_rooms.worker.listener import Listener
from fastapi_rooms.worker.room_message import RoomMessage

NEWS = Target(("news",))

TWO = 2 * (1 + ENTRY_BYTES)
"""Room for two messages of one byte."""


def _listener(*rooms: str, policy: OutboxPolicy = OutboxPolicy()) -> Listener:  # noqa: B008
    return Listener(rooms or ("news",), policy)


def _text(text: str) -> Payload:
    return Payload.of_text(text)


async def _rest(listener: Listener) -> list[str]:
    return [message.text async for message in listener]


async def test_messages_come_in_order() -> None:
    listener = _listener()
    for text in "abc":
        listener.offer(NEWS, _text(text))
    listener.close()
    assert await _rest(listener) == ["a", "b", "c"]


async def test_a_reader_that_waits_is_woken_by_a_message() -> None:
    listener = _listener()
    waiting = asyncio.ensure_future(anext(listener))
    await asyncio.sleep(0)
    assert not waiting.done()
    listener.offer(NEWS, _text("at last"))
    assert (await waiting).text == "at last"


async def test_a_reader_that_has_read_all_waits_for_the_next() -> None:
    listener = _listener()
    listener.offer(NEWS, _text("first"))
    assert (await anext(listener)).text == "first"
    waiting = asyncio.ensure_future(anext(listener))
    await asyncio.sleep(0)
    assert not waiting.done()
    listener.offer(NEWS, _text("second"))
    assert (await waiting).text == "second"


async def test_two_readers_share_the_messages_without_losing_one() -> None:
    listener = _listener()
    readers = [asyncio.ensure_future(anext(listener)) for _ in range(2)]
    await asyncio.sleep(0)
    listener.offer(NEWS, _text("a"))
    listener.offer(NEWS, _text("b"))
    assert {(await reader).text for reader in readers} == {"a", "b"}


async def test_a_reader_that_is_cancelled_takes_no_message_with_it() -> None:
    listener = _listener()
    waiting = asyncio.ensure_future(anext(listener))
    await asyncio.sleep(0)
    listener.offer(NEWS, _text("kept"))
    waiting.cancel()
    await asyncio.wait((waiting,))
    assert waiting.cancelled()
    assert (await anext(listener)).text == "kept"


async def test_close_ends_the_iteration_after_what_has_arrived() -> None:
    listener = _listener()
    listener.offer(NEWS, _text("last"))
    listener.close()
    assert await _rest(listener) == ["last"]
    assert await _rest(listener) == []


async def test_a_busy_room_does_not_keep_a_closed_listener_from_ending() -> None:
    listener = _listener()
    listener.offer(NEWS, _text("last"))
    listener.close()
    listener.offer(NEWS, _text("too late"))
    assert await _rest(listener) == ["last"]


async def test_close_ends_the_iteration_of_a_reader_that_waits() -> None:
    listener = _listener()
    waiting = asyncio.ensure_future(_rest(listener))
    await asyncio.sleep(0)
    listener.close()
    assert await waiting == []


@pytest.mark.parametrize(
    ("sent_to", "heard_in"),
    [(("news",), "news"), (("other", "sport", "news"), "sport"), (("news", "sport"), "news")],
)
async def test_a_message_tells_the_first_of_its_rooms_that_is_listened_to(
    sent_to: tuple[str, ...], heard_in: str
) -> None:
    listener = _listener("news", "sport")
    listener.offer(Target(sent_to), _text("hello"))
    assert (await anext(listener)).room == heard_in


async def test_a_listener_that_does_not_keep_up_ends_with_an_error_after_what_it_has() -> None:
    listener = _listener(policy=OutboxPolicy(max_bytes=TWO))
    for text in "abcd":
        listener.offer(NEWS, _text(text))
    assert [(await anext(listener)).text for _ in range(2)] == ["a", "b"]
    for _ in range(2):  # and stays ended
        with pytest.raises(
            ListenerOverflow, match=rf"{TWO} bytes .* 'news'.* {ENTRY_BYTES} bytes.*drop_oldest"
        ):
            await anext(listener)


async def test_nothing_follows_a_gap_unseen_even_if_there_is_room_again() -> None:
    listener = _listener(policy=OutboxPolicy(max_bytes=TWO))
    for text in "abc":
        listener.offer(NEWS, _text(text))
    assert (await anext(listener)).text == "a"
    listener.offer(NEWS, _text("d"))
    assert (await anext(listener)).text == "b"
    with pytest.raises(ListenerOverflow):
        await anext(listener)


async def test_an_overflow_wakes_a_reader_that_waits_on_a_full_listener() -> None:
    listener = _listener(policy=OutboxPolicy(max_bytes=TWO))
    waiting = asyncio.ensure_future(anext(listener))
    await asyncio.sleep(0)
    for text in ("aa", "bb"):
        listener.offer(NEWS, _text(text))
    assert (await waiting).text == "aa"
    with pytest.raises(ListenerOverflow):
        await anext(listener)


@pytest.mark.parametrize(
    ("overflow", "kept"), [("drop_oldest", ["c", "d"]), ("drop_newest", ["a", "b"])]
)
async def test_a_dropping_listener_goes_on_and_counts_what_it_missed(
    overflow: str, kept: list[str]
) -> None:
    policy = OutboxPolicy(max_bytes=TWO, overflow=overflow)  # type: ignore[arg-type]
    listener = _listener(policy=policy)
    for text in "abcd":
        listener.offer(NEWS, _text(text))
    listener.close()
    assert await _rest(listener) == kept
    assert listener.dropped == 2


def test_listeners_of_a_room_share_one_message_and_each_has_the_room_it_heard_it_in() -> None:
    made: dict[str, RoomMessage] = {}
    listeners = [_listener("news"), _listener("news", "sport"), _listener("sport")]
    for listener in listeners:
        listener.offer(Target(("sport", "news")), _text("hello"), made)
    assert made == {room: RoomMessage(room, "hello") for room in ("news", "sport")}
