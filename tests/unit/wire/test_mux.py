"""What a client with channels says, and what it is told."""

from __future__ import annotations

import json

import pytest

from fastapi_rooms.errors import MalformedEnvelope
from fastapi_rooms.wire import mux as wire


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ('0:{"open":7,"path":"/chat"}', wire.Open(7, "/chat")),
        (
            '0:{"open":7,"path":"/chat","protocols":["a"],"window":9,"more":1}',
            wire.Open(7, "/chat", ("a",), 9),
        ),
        ('0:{"credit":7,"bytes":1}', wire.Credit(7, 1)),
        ('0:{"close":7}', wire.Close(7, 1000, "")),
        ('0:{"close":65535,"code":4000,"reason":"x"}', wire.Close(65535, 4000, "x")),
        ("7:", wire.Data(7, "")),
        ("65535:0:{}:ü", wire.Data(65535, "0:{}:ü")),
    ],
)
def test_what_a_client_may_say(said: str, read: object) -> None:
    assert wire.read_text(said) == read


@pytest.mark.parametrize(
    "said",
    [
        *("", "x", "7", ":", "x:", "00:{}", "07:x", "+7:x", "7 :x", "-1:x", "65536:x", "٧:x"),
        *("0:", "0:x", "0:[]", "0:1", "0:{}", '0:{"more":7}', "0:" + "[" * 9_000),
        *('0:{"open":7}', '0:{"open":0,"path":"/"}', '0:{"open":65536,"path":"/"}'),
        *('0:{"open":"7","path":"/"}', '0:{"open":true,"path":"/"}', '0:{"open":7.0,"path":"/"}'),
        *('0:{"open":7,"path":1}', '0:{"open":7,"path":"/","protocols":"a"}'),
        *('0:{"open":7,"path":"/","protocols":[1]}', '0:{"open":7,"path":"/","window":0}'),
        *('0:{"open":7,"path":"/","window":true}', '0:{"open":7,"path":"/","window":99999999}'),
        *('0:{"open":7,"path":"/","close":7}', '0:{"credit":7}', '0:{"credit":7,"bytes":0}'),
        *('0:{"credit":7,"bytes":-1}', '0:{"credit":7,"bytes":1e3}', '0:{"close":[7]}'),
        *('0:{"close":7,"code":1006}', '0:{"close":7,"code":"1000"}', '0:{"close":7,"code":5000}'),
        *('0:{"close":7,"reason":1}', '0:{"close":7,"reason":"%s"}' % ("x" * 124)),
        *('0:{"close":7,"reason":"\\ud800"}', '0:{"open":7,"path":"/\ud800"}'),
        '0:{"open":7,"path":"%s"}' % ("/" * wire.MAX_CONTROL),
    ],
)
def test_what_breaks_the_rules_is_malformed(said: str) -> None:
    with pytest.raises(MalformedEnvelope):
        wire.read_text(said)


@pytest.mark.parametrize("number", [1, 127, 128, 16_383, 16_384, 65_535])
def test_the_number_before_bytes_is_read_as_it_was_written(number: int) -> None:
    for payload in (b"", b"\x00\xff"):
        assert wire.read_bytes(wire.bytes_prefix(number) + payload) == wire.Data(number, payload)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\x00", b"\x00x", b"\x80", b"\x80\x80", b"\x80\x80\x80"),
        *(b"\x81\x00x", b"\x80\x00", b"\x87\x80\x00x", b"\x80\x80\x04", b"\xff\xff\xff\x01"),
    ],
)
def test_bytes_without_the_number_of_a_channel_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedEnvelope):
        wire.read_bytes(data)


def test_a_path_is_what_a_server_makes_of_it() -> None:
    target = wire.target_of(wire.Open(1, "/a%20b/%C3%BC%2Fc?q=a%26b?c"))
    assert target == wire.Target("/a b/ü/c", b"/a%20b/%C3%BC%2Fc", b"q=a%26b?c")
    assert wire.target_of(wire.Open(1, "/%ff")) == wire.Target("/�", b"/%ff", b"")


@pytest.mark.parametrize(
    "path", ["", "chat", "?q", "/a b", "/ü", "/a#b", "/a\n", "/\x7f", "http://x/", "*"]
)
def test_a_path_that_cannot_be_has_status_400(path: str) -> None:
    assert wire.target_of(wire.Open(1, path)) == 400


@pytest.mark.parametrize(
    "protocols", [("",), ("a b",), ("a,b",), ("a", "a"), ("ü",), ("x" * 101,), ("a\r\n",)]
)
def test_subprotocols_that_cannot_be_have_status_400(protocols: tuple[str, ...]) -> None:
    assert wire.target_of(wire.Open(1, "/", protocols)) == 400


def test_there_is_a_limit_on_the_path_and_on_subprotocols() -> None:
    assert isinstance(wire.target_of(wire.Open(1, "/" * wire.MAX_PATH)), wire.Target)
    assert wire.target_of(wire.Open(1, "/" * (wire.MAX_PATH + 1))) == 414
    most = tuple(map(str, range(wire.MAX_PROTOCOLS)))
    assert isinstance(wire.target_of(wire.Open(1, "/", most)), wire.Target)
    assert wire.target_of(wire.Open(1, "/", (*most, "one more"))) == 400


def test_what_the_edge_says_is_what_the_page_has() -> None:
    said = [
        wire.opened(7, 65536, None),
        wire.opened(7, 65536, "b"),
        wire.denied(7, 403),
        wire.closed(7, 1000, "ü"),
        wire.reopened(7),
        wire.credit(7, 32768),
    ]
    assert all(one.startswith(b"0:") for one in said)
    assert [json.loads(one[2:]) for one in said] == [
        {"opened": 7, "window": 65536},
        {"opened": 7, "window": 65536, "protocol": "b"},
        {"denied": 7, "status": 403},
        {"closed": 7, "code": 1000, "reason": "ü"},
        {"reopened": 7},
        {"credit": 7, "bytes": 32768},
    ]
    assert wire.text_prefix(65535) == b"65535:"
