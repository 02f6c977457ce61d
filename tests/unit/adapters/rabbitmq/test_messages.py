"""What a message looks like in RabbitMQ, what names are, and which messages come too late."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms import ConfigurationError
from fastapi_rooms.adapters.rabbitmq.links.frames import publish, start_of_body
from fastapi_rooms.adapters.rabbitmq.pubsub import lateness as lateness_module
from fastapi_rooms.adapters.rabbitmq.pubsub.lateness import MARGIN, SPAN, Lateness
from fastapi_rooms.adapters.rabbitmq.pubsub.messages import (
    Sent,
    decode,
    encode,
    exchange_of,
    key_of,
    number_of,
)

ME = b"12345678"


@given(st.integers(0, 2**64 - 1), st.binary(max_size=700), st.binary(max_size=100))
def test_a_message_is_read_as_it_was_written(number: int, channel: bytes, data: bytes) -> None:
    message = Sent(ME, number, 123.25, 5.0, channel, data)
    assert decode(encode(message)) == message
    written = publish(1, b"rooms", key_of(channel), encode(message))
    assert number_of(written, start_of_body(written, b"rooms")) == number


@given(st.binary(max_size=60))
def test_anything_else_is_refused(data: bytes) -> None:
    with suppress(ValueError):
        assert encode(decode(data)) == data


@given(st.binary(max_size=600))
def test_a_key_is_text_of_at_most_255_bytes(channel: bytes) -> None:
    key = key_of(channel)
    assert len(key) <= 255
    assert key.decode() is not None
    assert key == channel or key.startswith(b"~")


def test_keys_are_the_channels_wherever_they_can_be() -> None:
    room = "rooms#/#Grüße 🎉#".encode()
    assert key_of(room) == room
    hashed = [key_of(channel) for channel in (b"x" * 256, b"\xff", b"~", b"~x", b"x" * 257)]
    assert len(set(hashed)) == 5
    assert all(len(key) == 65 for key in hashed)
    assert key_of(hashed[0]) != hashed[0], "no room takes the key of another"


def test_an_exchange_is_named_as_the_prefix_wherever_it_can_be() -> None:
    assert exchange_of("rooms") == "rooms"
    odd = [exchange_of(prefix) for prefix in ("ü", "é", "a" * 255, "a b", "a\nb")]
    assert len(set(odd)) == 5
    assert all(len(name) < 80 and name.isascii() and name.isprintable() for name in odd)
    assert odd[3].startswith("a-b+")
    with pytest.raises(ConfigurationError, match=r"amq\."):
        exchange_of("amq.direct")


def test_a_message_is_late_if_its_sender_has_stopped_waiting() -> None:
    known = Lateness()
    clock = 1000.0  # of the receiver; the sender's is 990 behind
    assert not known.is_late(ME, clock - 990, 5, clock)
    assert not known.is_late(ME, clock - 990, 5, clock + 5 - MARGIN * 2)
    assert known.is_late(ME, clock - 990, 5, clock + 5 - MARGIN / 2)
    assert not known.is_late(ME, clock - 990, 0.4, clock + 0.19)
    assert known.is_late(ME, clock - 990, 0.4, clock + 0.21)
    assert not known.is_late(ME, clock - 990 + 6, 5, clock + 6)


def test_however_long_nothing_came_what_waited_is_late() -> None:
    known = Lateness()
    assert not known.is_late(ME, 0.0, 5, 100.0)
    assert all(known.is_late(ME, 1.0 + n / 10, 5, 1000.0 + n / 10) for n in range(50))
    assert not known.is_late(ME, 905.0, 5, 1005.1)


def test_clocks_that_part_are_followed() -> None:
    known = Lateness()
    assert not known.is_late(ME, 0.0, 5, 0.0)
    late = [known.is_late(ME, n / 1, 5, n * 1.01) for n in range(5000)]
    assert not any(late), "one clock is one percent faster"


def test_a_clock_that_has_stood_still_is_found_out_before_long() -> None:
    known = Lateness()
    for n in range(30):
        known.is_late(ME, float(n), 5, float(n))
    stood = [known.is_late(ME, float(n), 5, n + 60.0) for n in range(30, 90)]
    assert stood[0]
    assert not any(stood[int(2 * SPAN) + 2 :])


def test_the_number_of_publishers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lateness_module, "MAX_PUBLISHERS", 10)
    known = Lateness()
    for number in range(100):
        assert not known.is_late(b"%08d" % number, 0.0, 1, 0.0)
    assert len(known._publishers) == 10
