"""How much may be under way on a channel."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.core.link import MESSAGE_BYTES
from fastapi_rooms.core.windows import ReceiveWindow, SendWindow

WINDOW = 1_000


def test_a_message_may_be_longer_than_what_is_left() -> None:
    send, receive = SendWindow(WINDOW), ReceiveWindow(WINDOW)
    send.sent(5_000)
    assert receive.came(5_000)
    assert not send.may_send
    assert receive.took(5_000)
    assert send.credited(receive.credit())
    assert send.may_send


def test_empty_messages_have_a_limit_too() -> None:
    receive = ReceiveWindow(WINDOW)
    count = 0
    while receive.came(0):
        count += 1
    assert count == -(-WINDOW // MESSAGE_BYTES)


def test_what_was_taken_and_not_credited_may_not_be_sent_again() -> None:
    receive = ReceiveWindow(WINDOW)
    assert receive.came(WINDOW)
    assert receive.took(WINDOW)
    assert not receive.came(0)
    receive = ReceiveWindow(WINDOW)
    assert receive.came(WINDOW)
    receive.took(WINDOW)
    receive.credit()
    assert receive.came(0)


def test_credit_for_what_was_not_sent_is_none() -> None:
    send = SendWindow(WINDOW)
    assert not send.credited(1)
    send = SendWindow(WINDOW)
    send.sent(10)
    assert send.credited(10 + MESSAGE_BYTES)
    assert not send.credited(1)


@given(st.lists(st.integers(0, 900) | st.just(None)))
def test_who_keeps_to_the_window_is_never_refused_and_never_stalls(
    steps: list[int | None],
) -> None:
    """Each step sends a message of that size if it may, or takes one."""
    send, receive, way = SendWindow(WINDOW), ReceiveWindow(WINDOW), deque[int]()
    for step in steps:
        if step is not None and send.may_send:
            send.sent(step)
            assert receive.came(step)
            way.append(step)
        elif way and receive.took(way.popleft()):
            assert send.credited(receive.credit())
    assert receive.waiting == sum(size + MESSAGE_BYTES for size in way)
    while way:
        if receive.took(way.popleft()):
            assert send.credited(receive.credit())
    assert send.may_send
