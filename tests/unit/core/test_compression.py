"""Messages that are compressed once, as the clients that get them read them."""

from __future__ import annotations

import random
import struct
import zlib
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms import ConfigurationError
from fastapi_rooms.core.compression import Compression, Deflate, compression_of, deflate_for
from fastapi_rooms.core.payload import Batch, Outgoing, Payload

POLICY = Compression()
WORDS = [b"tea", b"coffee", b'"room":', b"{}", b"\xc3\xa9", b"0123456789"]


def deflate(bits: int = 12, *, keeps: bool = True, policy: Compression = POLICY) -> Deflate:
    found = deflate_for(policy, bits, keeps_window=keeps)
    assert found is not None
    return found


class Client:
    """Reads frames as a client that negotiated a window of so many bits, and not one bit more."""

    def __init__(self, bits: int, *, keeps: bool = True) -> None:
        self.bits, self.keeps = bits, keeps
        self.inflater = zlib.decompressobj(-bits)

    def read(self, data: bytes) -> list[Payload]:
        messages = []
        while data:
            first, size, start = data[0], data[1], 2
            if size == 126:
                (size,), start = struct.unpack(">H", data[2:4]), 4
            elif size == 127:
                (size,), start = struct.unpack(">Q", data[2:10]), 10
            message, data = data[start : start + size], data[start + size :]
            if first & 0x40:
                if not self.keeps:
                    self.inflater = zlib.decompressobj(-self.bits)
                message = self.inflater.decompress(message + b"\x00\x00\xff\xff")
                assert not self.inflater.unused_data
            messages.append(Payload(message, binary=first & 0x0F == 2))
        return messages


@cache
def text_of(seed: int, size: int) -> bytes:
    """Text whose repetitions are as far apart as it is long."""
    words = random.Random(seed)
    data = b""
    while len(data) < size:
        data += words.choice(WORDS) + b"%d," % words.randrange(10**6)
    return data[:size]


messages = st.builds(
    Payload,
    st.builds(text_of, st.integers(0, 3), st.sampled_from([0, 100, 200, 300, 5000, 40_000])),
    binary=st.booleans(),
)
either = st.one_of(messages, st.lists(messages, min_size=2, max_size=5).map(Batch))


@given(st.lists(either, max_size=8), st.integers(9, 15), st.booleans())
def test_every_client_reads_what_was_sent_whatever_it_was_sent_before(
    sent: list[Outgoing], bits: int, keeps: bool
) -> None:
    ours = deflate(bits, keeps=keeps)
    for received in (sent, sent[1::2]):
        client = Client(bits, keeps=keeps)
        for message in received:
            got = [(m.data, m.binary) for m in client.read(message.frame_for(ours))]
            assert got == [(part.data, part.binary) for part in message.parts]


def test_a_message_is_compressed_once_for_all_that_negotiated_the_same() -> None:
    message, batch = (
        Payload(text_of(1, 5000), binary=False),
        Batch([Payload(b"x" * 300, binary=True)]),
    )
    both: tuple[Outgoing, ...] = (message, batch)
    for each in both:
        frame = each.frame_for(deflate())
        assert len(frame) < len(each.frame)
        assert each.frame_for(deflate(14)) is frame
        assert each.frame_for(None) is each.frame


@pytest.mark.parametrize(("size", "forms"), [(200, 1), (2000, 2), (40_000, 3)])
def test_a_message_is_compressed_three_times_at_most_whatever_clients_ask_for(
    size: int, forms: int
) -> None:
    message = Payload(text_of(1, size), binary=False)
    assert len({id(message.frame_for(deflate(bits))) for bits in range(9, 16)}) == forms


@pytest.mark.parametrize("bits", range(9))
def test_a_window_that_zlib_does_not_have_is_not_compressed_for(bits: int) -> None:
    assert deflate_for(POLICY, bits, keeps_window=True) is None


@pytest.mark.parametrize("size", [0, 1, 159])
def test_short_messages_are_sent_as_they_are(size: int) -> None:
    message = Payload(b"x" * size, binary=False)
    assert message.frame_for(deflate()) is message.frame
    longer = Payload(b"x" * 160, binary=False)
    assert longer.frame_for(deflate()) is not longer.frame
    assert longer.frame_for(deflate(policy=Compression(161))) is longer.frame


def test_what_gains_nothing_is_sent_as_it_is() -> None:
    noise = [Payload(random.Random(n).randbytes(n), binary=True) for n in (5000, 30_000)]
    each: list[Outgoing] = [*noise, Batch(noise)]
    for message in each:
        assert message.frame_for(deflate()) is message.frame


def test_empty_messages_between_compressed_ones_are_read_as_such() -> None:
    parts = [Payload(data, binary=True) for data in (b"x" * 500, b"", b"", b"x" * 500, b"")]
    got = Client(12).read(Batch(parts).frame_for(deflate()))
    assert [message.data for message in got] == [part.data for part in parts]


def test_messages_that_leave_together_refer_to_one_another_if_the_client_keeps_its_window() -> None:
    parts = [Payload(text_of(1, 200), binary=n % 2 == 0) for n in range(10)]
    alone = sum(len(part.frame_for(deflate())) for part in parts)
    assert len(Batch(parts).frame_for(deflate())) < alone / 4
    assert len(Batch(parts).frame_for(deflate(keeps=False))) == alone


def test_short_messages_that_leave_together_are_compressed_as_one() -> None:
    batch = Batch([Payload(b"a short one", binary=False)] * 20)
    assert len(batch.frame_for(deflate())) < len(batch.frame)
    few = Batch(batch.parts[:2])
    assert few.frame_for(deflate()) is few.frame


def test_framed_clients_share_what_is_the_same_for_them() -> None:
    batch = Batch([Payload(text_of(1, 5000), binary=False)] * 2)
    same = Batch(batch.parts, batch)
    assert same.frame_for(deflate()) is batch.frame_for(deflate())


def test_a_higher_level_takes_fewer_bytes() -> None:
    data = text_of(1, 20_000)
    sizes = [
        len(Payload(data, binary=False).frame_for(deflate(policy=Compression(level=level))))
        for level in (1, 9)
    ]
    assert sizes[0] > sizes[1]


@pytest.mark.parametrize(
    "wrong", [{"threshold": 0}, {"threshold": 1.5}, {"level": 0}, {"level": 10}, {"level": True}]
)
def test_a_policy_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    [name] = wrong
    with pytest.raises(ConfigurationError, match=f"Compression.{name} must be"):
        Compression(**wrong)


def test_a_setting_is_a_policy_or_says_yes_or_no() -> None:
    policy = Compression(1000)
    assert [compression_of(value) for value in (policy, True, False, None)] == [
        policy,
        Compression(),
        None,
        None,
    ]
    wrong: tuple[object, ...] = ("deflate", 9, {}, Compression)
    for each in wrong:
        with pytest.raises(ConfigurationError, match="compression must be a Compression"):
            compression_of(each)
