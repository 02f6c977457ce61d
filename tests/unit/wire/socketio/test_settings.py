"""What a manager or an emitter can be told of Socket.IO's servers, and what it is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from fastapi_rooms import ConfigurationError, InvalidNamespace, SocketIO, UsageError
from fastapi_rooms.core.target import Target
from fastapi_rooms.wire.socketio import msgpack
from fastapi_rooms.wire.socketio.channels import Channels, Heard


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"key": ""}, "key"),
        ({"key": "a#b"}, "key"),
        ({"mode": "both"}, "mode must be 'peer' or 'receive' or 'send'"),
        ({"namespaces": []}, "at least one"),
        ({"namespaces": "/chat"}, "list of names"),
        ({"codec": object()}, "to_native"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        SocketIO(**settings)


def test_a_namespace_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidNamespace):
        SocketIO(namespaces=["a#b"])


def test_namespaces_have_their_slash_and_come_once() -> None:
    assert SocketIO(namespaces=["chat", "/chat", "/"]).namespaces == ("/chat", "/")


@pytest.mark.parametrize("prefix", ["k", "k-request", "k-response"])
def test_a_prefix_that_has_their_channels_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="choose another prefix"):
        SocketIO(key="k").check_prefix(prefix)


def test_a_namespace_that_is_not_listed_is_not_shared() -> None:
    settings = SocketIO(namespaces=["/a"])
    settings.check_namespace("/a")
    with pytest.raises(UsageError, match=r"\['/a', '/'\]"):
        settings.check_namespace("/")


@pytest.fixture
def no_msgpack(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    msgpack._library.cache_clear()
    monkeypatch.setitem(sys.modules, "msgpack", None)
    yield
    msgpack._library.cache_clear()


@pytest.mark.usefixtures("no_msgpack")
def test_without_the_extra_it_says_what_to_install() -> None:
    with pytest.raises(ConfigurationError, match=r"pip install 'fastapi-rooms\[socketio\]'"):
        SocketIO()


def test_channels_are_theirs() -> None:
    channels = Channels("k", ["/", "/chat"])
    assert channels.of_target("/", Target()) == b"k#/#"
    assert channels.of_target("/", Target(("a", "b"))) == b"k#/#"
    assert channels.of_target("/chat", Target(("a",))) == b"k#/chat#a#"
    assert channels.requests("/") == b"k-request#/#"
    assert channels.responses("/", "abc") == b"k-response#/#abc#"


@pytest.mark.parametrize(
    ("channel", "heard"),
    [
        (b"k#/#", Heard("broadcast", "/")),
        (b"k#/chat#a#b#", Heard("broadcast", "/chat")),
        (b"k-request#/#", Heard("request", "/")),
        (b"k-response#/chat#uid#", Heard("response", "/chat")),
        (b"k#/other#", None),
        (b"k#", None),
        (b"", None),
        (b"other#/#", None),
    ],
)
def test_a_channel_says_what_it_is_for(channel: bytes, heard: Heard | None) -> None:
    assert Channels("k", ["/", "/chat"]).heard(channel) == heard


def test_the_pattern_of_sids_takes_names_literally() -> None:
    assert Channels("k[1]*", ["/a?"]).sids("/a?", "0f") == rb"k\[1\]\*#/a\?#0f.*"
