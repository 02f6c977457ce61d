"""A link hands over so many replies in a turn of the event loop, and none is lost by that."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastapi_rooms.adapters.redis.links.link import REPLIES_PER_TURN, Link
from fastapi_rooms.testing import eventually


class _Transport:
    """What a link believes to be its connection, redis-py's part of it as well."""

    def __init__(self) -> None:
        self._writer = self.transport = self
        self.protocol = 3
        self.host, self.port = "127.0.0.1", 6379
        self.is_reading = True
        self.aborted = False

    def get_protocol(self) -> asyncio.BaseProtocol:
        return asyncio.Protocol()

    def set_protocol(self, protocol: object) -> None: ...

    def get_extra_info(self, name: str) -> object:
        return None

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def abort(self) -> None:
        self.aborted = True


class _Replies:
    """A link, and what it has handed over."""

    def __init__(self) -> None:
        self.transport = _Transport()
        self.got: list[Any] = []
        connection: Any = self.transport
        self.link = Link(connection, self.reply)

    def reply(self, reply: Any) -> None:
        self.got.append(reply)
        if reply == -1:
            raise ValueError("no such reply")

    def say(self, *numbers: int) -> None:
        self.link.data_received(b"".join(b":%d\r\n" % number for number in numbers))


MANY = 2 * REPLIES_PER_TURN + 10


@pytest.fixture
async def replies() -> _Replies:
    return _Replies()


async def test_what_is_over_the_limit_waits_for_the_next_turns_and_nothing_more_is_read(
    replies: _Replies,
) -> None:
    replies.say(*range(MANY))
    handed_over, is_reading = [len(replies.got)], [replies.transport.is_reading]
    while len(replies.got) < MANY:
        await asyncio.sleep(0)
        handed_over.append(len(replies.got))
        is_reading.append(replies.transport.is_reading)
    assert handed_over == [REPLIES_PER_TURN, 2 * REPLIES_PER_TURN, MANY]
    assert is_reading == [False, False, True]
    assert replies.got == list(range(MANY))


async def test_what_comes_meanwhile_comes_behind_it(replies: _Replies) -> None:
    replies.say(*range(MANY))
    replies.say(MANY, MANY + 1)
    assert len(replies.got) == REPLIES_PER_TURN
    await eventually(lambda: replies.transport.is_reading)
    assert replies.got == list(range(MANY + 2))


@pytest.mark.parametrize("how", ["eof", "lost"])
async def test_what_has_arrived_is_handed_over_before_the_loss_is_told(
    replies: _Replies, how: str
) -> None:
    replies.say(*range(MANY))
    if how == "eof":
        replies.link.eof_received()
    else:
        replies.link.connection_lost(None)
    assert replies.got == list(range(MANY))
    assert replies.link.lost.done()
    await asyncio.sleep(0)
    assert replies.got == list(range(MANY))


async def test_after_an_abort_nothing_more_is_handed_over(replies: _Replies) -> None:
    replies.say(*range(MANY))
    replies.link.abort("on purpose")
    await asyncio.sleep(0)
    replies.link.connection_lost(None)
    assert len(replies.got) == REPLIES_PER_TURN


async def test_a_reply_that_answers_nothing_ends_the_link_in_a_later_turn_too(
    replies: _Replies,
) -> None:
    replies.say(*range(REPLIES_PER_TURN + 5), -1, 7)
    assert not replies.link.lost.done()
    await replies.link.lost
    assert replies.transport.aborted
    assert replies.got[-1] == -1
    assert "not Redis' protocol" in replies.link.lost.result()
