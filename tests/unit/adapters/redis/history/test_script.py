"""How the script is called, and what its answer may say."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from fastapi_rooms.adapters.history import Retention, RoomKey
from fastapi_rooms.adapters.redis.history.script import (
    EVALSHA,
    SHA,
    Message,
    Outcome,
    decode,
    encode,
)
from fastapi_rooms.core.position import Position

TEA, MILK = RoomKey(b"/#tea", b"rooms#/#tea#"), RoomKey(b"/#milk", b"rooms#/#milk#")
MESSAGES = [
    Message(TEA, 2**64 - 1, Retention(5, 60.0), b"a\r\nb"),
    Message(MILK, 1, Retention(1, 0.0001), b""),
    Message(TEA, 7, Retention(5, 60.0), b"c"),
]


def test_every_key_is_declared_once_and_messages_keep_their_order() -> None:
    reader = hiredis.Reader()
    reader.feed(encode(EVALSHA, b"rooms", MESSAGES, "0" * 16, again=True))
    command = reader.gets()
    keys = [b"rooms:meta:{/#tea}", b"rooms:stream:{/#tea}"]
    keys += [b"rooms:meta:{/#milk}", b"rooms:stream:{/#milk}"]
    assert command[:7] == [b"EVALSHA", SHA, b"4", *keys]
    assert command[7:10] == [b"1", b"2592000000", b"0" * 16]
    assert command[10:12] == [TEA.channel, MILK.channel]
    assert command[12:] == [
        *(b"1", b"18446744073709551615", b"6", b"60000", b"a\r\nb"),
        *(b"2", b"1", b"2", b"1", b""),
        *(b"1", b"7", b"6", b"60000", b"c"),
    ]


def test_each_message_has_its_outcome() -> None:
    reply = [b"00000000000000ab 9007199254740992", b"-OOM no", b"!ERR no"]
    assert decode(reply, MESSAGES) == [
        Outcome(Position("00000000000000ab", 2**53, 2**64 - 1)),
        Outcome(None, "OOM no"),
        Outcome(None, "ERR no", is_sent=True),
    ]


def test_an_error_is_that_of_every_message() -> None:
    error = hiredis.ReplyError("NOSCRIPT No matching script.")
    assert decode(error, MESSAGES) == [Outcome(None, "NOSCRIPT No matching script.")] * 3


@pytest.mark.parametrize(
    "reply",
    [
        None,
        7,
        b"",
        [],
        [b"0000000000000000 1"] * 2,
        [None] * 3,
        [[]] * 3,
        [b""] * 3,
        [b"0000000000000000 0"] * 3,
        [b"0000000000000000 01"] * 3,
        [b"0000000000000000 9007199254740993"] * 3,
        [b"000000000000000g 1"] * 3,
        [b"0000000000000000 1\n"] * 3,
    ],
)
def test_an_answer_that_makes_no_sense_is_uncertain(reply: Any) -> None:
    outcomes = decode(reply, MESSAGES)
    assert [(outcome.position, outcome.is_sent) for outcome in outcomes] == [(None, True)] * 3
