"""The framing of clients, byte by byte: it is documented, and others write clients for it."""

from __future__ import annotations

import gc

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.core.payload import Batch, Payload
from fastapi_rooms.wire import client_framing as framing
from fastapi_rooms.wire.client_framing import ClientResume
from tests.unit.strategies import any_text, room_names

TOKEN = "000102030405060708090a0b0c0d0e0f"
POSITION = "5f1d7a84db1c3a90.7.00000000000000ff"

payloads = st.one_of(any_text.map(Payload.of_text), st.binary().map(Payload.of_bytes))


@pytest.mark.parametrize(
    ("frame", "data"),
    [
        (
            framing.hello(TOKEN, answers=True, window=0),
            b'\0h{"version":1,"token":"%b","heartbeat":25,"answers":true,"window":0}'
            % TOKEN.encode(),
        ),
        (framing.heartbeat(), b"\0b"),
        (framing.joined("tea", None), b'\0j{"room":"tea","recovered":null}'),
        (framing.joined("tea", recovered=True), b'\0j{"room":"tea","recovered":true}'),
        (framing.joined("tea", recovered=False), b'\0j{"room":"tea","recovered":false}'),
        (framing.left('"\n'), b'\0l{"room":"\\"\\n"}'),
        (
            framing.position("t\u00e9", POSITION),
            b'\0p{"room":"t\xc3\xa9","position":"5f1d7a84db1c3a90.7.00000000000000ff"}',
        ),
        (
            framing.in_place("tea", POSITION, Payload.of_text("hi\n")),
            b'\0m{"room":"tea","position":"5f1d7a84db1c3a90.7.00000000000000ff"}\nhi\n',
        ),
        (
            framing.in_place("tea", POSITION, Payload.of_bytes(b"\xff\0")),
            b'\0m{"room":"tea","position":"5f1d7a84db1c3a90.7.00000000000000ff"}\n\xff\0',
        ),
        (framing.framed(Payload.of_text("hi")), b"hi"),
        (framing.framed(Payload.of_text("\0hi")), b"\0.\0hi"),
        (framing.framed(Payload.of_bytes(b"\0")), b"\0.\0"),
    ],
)
def test_a_frame_is_these_bytes(frame: Payload, data: bytes) -> None:
    assert frame.data == data


@given(payloads, room_names)
def test_a_message_is_untouched_behind_its_place(payload: Payload, room: str) -> None:
    frame = framing.in_place(room, POSITION, payload)
    header, _, rest = frame.data.partition(b"\n")
    assert header.startswith(b"\0m")
    assert orjson.loads(header[2:]) == {"room": room, "position": POSITION}
    assert rest == payload.data
    assert frame.binary is payload.binary
    if not frame.binary:
        assert frame.text.encode() == frame.data


@given(payloads)
def test_a_message_without_a_place_is_the_same_for_everyone_unless_it_begins_with_a_nul(
    payload: Payload,
) -> None:
    frame = framing.framed(payload)
    if payload.data[:1] == b"\0":
        assert frame is framing.framed(payload), "it is made once"
        assert isinstance(frame, Payload)
        assert frame.data == b"\0." + payload.data
        assert frame.binary is payload.binary
    else:
        assert frame is payload


@pytest.mark.parametrize("said", [framing.left("tea"), framing.heartbeat()])
def test_what_is_said_to_framed_clients_is_not_escaped(said: Payload) -> None:
    assert framing.framed(said) is said


@given(st.one_of(any_text, st.binary()))
def test_what_a_client_has_escaped_comes_out_as_it_was(data: str | bytes) -> None:
    escaped = f"\0.{data}" if isinstance(data, str) else b"\0." + data
    assert framing.unescape(escaped) == data
    if data[:1] not in ("\0", b"\0"):
        assert framing.unescape(data) is data


@given(st.lists(payloads, min_size=1))
def test_messages_that_leave_in_one_write_are_framed_each_and_once(parts: list[Payload]) -> None:
    batch = Batch(parts)
    frame = framing.framed(batch)
    assert frame is framing.framed(batch)
    assert frame.frame == b"".join(framing.framed(part).frame for part in parts)
    if not any(part.data.startswith(b"\0") for part in parts):
        assert frame.frame is batch.frame, "no copy is made"


def test_a_message_that_was_framed_is_freed_without_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        for payload in (Payload.of_text("hi"), Payload.of_text("\0"), framing.left("tea")):
            framing.framed(payload)
            framing.framed(Batch([payload, payload]))
        del payload
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("query", "asks"),
    [
        (b"", False),
        (b"fastapi_rooms=1", True),
        (b"name=ann&fastapi_rooms=1", True),
        (b"fastapi_rooms=1&since=x", True),
        (b"fastapi_rooms=10", False),
        (b"fastapi_rooms=0", False),
        (b"my_fastapi_rooms=1", False),
        (b"fastapi_rooms", False),
    ],
)
def test_the_query_string_asks_for_it(query: bytes, asks: bool) -> None:
    assert framing.is_asked_for(query) is asks


def test_a_token_is_drawn_at_random_and_not_to_be_told_from_its_alias() -> None:
    one, two = framing.new_token(), framing.new_token()
    assert one != two
    assert framing.parse_resume(f'\0r{{"token":"{one}"}}') == ClientResume(one)
    assert framing.alias_of(one) == framing.alias_of(one) != framing.alias_of(two)
    assert one not in framing.alias_of(one)


def _of_rooms(count: int) -> str:
    positions = ",".join(f'"{n}":""' for n in range(count))
    return f'\0r{{"positions":{{{positions}}}}}'


def test_a_resume_frame_may_be_about_so_many_rooms() -> None:
    resume = framing.parse_resume(_of_rooms(framing.MAX_RESUME_ROOMS))
    assert resume is not None
    assert len(resume.positions) == framing.MAX_RESUME_ROOMS


@pytest.mark.parametrize(
    ("data", "resume"),
    [
        ("\0r{}", ClientResume()),
        ('\0r{"token":null,"positions":{}}', ClientResume()),
        (f'\0r{{"token":"{TOKEN}"}}', ClientResume(TOKEN)),
        (f'\0r{{"positions":{{"tea":"{POSITION}"}}}}', ClientResume(None, {"tea": POSITION})),
        ('\0r{"positions":{"tea":"nonsense"}}', ClientResume(None, {"tea": "nonsense"})),
        ('\0r{"later":[1]}', ClientResume()),
        ("", None),
        ("\0", None),
        ("{}", None),
        ("\0r", None),
        ("\0r[]", None),
        ("\0r{", None),
        ('\0r{"token":1}', None),
        ('\0r{"token":"x"}', None),
        (f'\0r{{"token":"{TOKEN}\\n"}}', None),
        ('\0r{"positions":[]}', None),
        ('\0r{"positions":{"tea":1}}', None),
        ('\0r{"positions":{"":"x"}}', None),
        (f'\0r{{"positions":{{"{"x" * 256}":"x"}}}}', None),
        (f'\0r{{"x":"{"x" * framing.MAX_RESUME_BYTES}"}}', None),
        (_of_rooms(framing.MAX_RESUME_ROOMS + 1), None),
        (f'\0r{{"x":"{chr(0x20AC) * (framing.MAX_RESUME_BYTES // 2)}"}}', None),
        ("\0r\ud800", None),
        (b"\0r{}", None),
        (None, None),
    ],
)
def test_a_resume_frame_is_read_strictly(data: object, resume: ClientResume | None) -> None:
    assert framing.parse_resume(data) == resume
