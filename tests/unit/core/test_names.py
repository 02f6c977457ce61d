"""Names: what is a valid one, and which channel carries it."""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastapi_rooms.core.names import (
    MAX_NAME_BYTES,
    Channels,
    check_event,
    check_namespace,
    check_prefix,
    check_room,
    check_rooms,
    check_user,
    new_node_id,
    new_sid,
    node_of,
)
from fastapi_rooms.core.patterns import check_pattern
from fastapi_rooms.errors import ConfigurationError, InvalidNamespace, InvalidRoomName, UsageError
from tests.unit.strategies import namespaces, node_ids, room_names

NODE = "0123456789abcdef"

INVALID = [
    pytest.param("", "empty", id="empty"),
    pytest.param("x" * (MAX_NAME_BYTES + 1), "25[67] bytes", id="one byte too many"),
    pytest.param("é" * 128, "25[67] bytes", id="bytes are counted, not characters"),
    pytest.param("\ud800", "lone surrogate", id="lone surrogate"),
    pytest.param(b"room", "bytes", id="bytes"),
    pytest.param(7, "7 is of type int", id="number"),
    pytest.param(None, "NoneType", id="None"),
]


@given(room_names)
@example("*")
@example("#")
@example("\0")
@example("a" * MAX_NAME_BYTES)
@example("é" * 127 + "x")
def test_every_string_of_1_to_255_bytes_is_a_room_name_and_is_kept_as_it_is(name: str) -> None:
    assert check_room(name) == name
    assert check_rooms((name, name)) == (name, name)


@pytest.mark.parametrize(("name", "reason"), INVALID)
def test_anything_else_is_refused_with_the_reason(name: Any, reason: str) -> None:
    with pytest.raises(InvalidRoomName, match=reason):
        check_room(name)


@pytest.mark.parametrize(("name", "reason"), INVALID)
def test_a_user_is_called_one_where_it_is_refused(name: Any, reason: str) -> None:
    with pytest.raises(InvalidRoomName, match=f"^A user must be .*{reason}"):
        check_user(name)
    assert check_user("ann") == "ann"


def test_one_bad_name_among_good_ones_refuses_them_all() -> None:
    with pytest.raises(InvalidRoomName):
        check_rooms(("good", "", "good too"))


@pytest.mark.parametrize(("given", "name"), [("/chat", "/chat"), ("chat", "/chat"), ("/", "/")])
def test_a_namespace_gets_the_slash_it_lacks(given: str, name: str) -> None:
    assert check_namespace(given) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *INVALID,
        pytest.param("/a#b", "separates the parts", id="hash"),
        pytest.param("x" * MAX_NAME_BYTES, "256 bytes", id="too long with its slash"),
    ],
)
def test_what_no_namespace_can_be_called_is_refused_with_the_reason(name: Any, reason: str) -> None:
    with pytest.raises(InvalidNamespace, match=reason):
        check_namespace(name)


def test_two_workers_and_two_sockets_never_have_the_same_id() -> None:
    nodes = {new_node_id() for _ in range(1000)}
    sids = {new_sid(NODE) for _ in range(1000)}
    assert len(nodes) == len(sids) == 1000


def test_the_id_of_a_worker_is_sixteen_digits_and_its_sids_carry_it() -> None:
    node = new_node_id()
    assert len(bytes.fromhex(node)) == 8
    assert node_of(new_sid(node)) == node


@given(node_ids)
def test_a_sid_carries_the_id_of_its_worker(node: str) -> None:
    sid = new_sid(node)
    assert node_of(sid) == node
    assert check_room(sid) == sid


@pytest.mark.parametrize(
    "name",
    [
        "room",
        NODE,
        f"{NODE}.short",
        f"{NODE}.{'x' * 17}",
        f"{NODE}-{'x' * 16}",
        f"{NODE.upper()}.{'x' * 16}",
        f"{'g' * 16}.{'x' * 16}",
    ],
)
def test_a_name_of_another_form_carries_no_worker(name: str) -> None:
    assert node_of(name) is None


@pytest.mark.parametrize("sharded", [False, True])
@given(ns=namespaces, room=room_names, ns2=namespaces, room2=room_names)
@example(ns="/a", room="b#c", ns2="/a", room2="b")
@example(ns="/", room="/#", ns2="/", room2="#")
@example(ns="/", room="a", ns2="/", room2="a}#")
def test_two_rooms_never_share_a_channel(
    ns: str, room: str, ns2: str, room2: str, sharded: bool
) -> None:
    channels = Channels("rooms", sharded=sharded)
    same = channels.of_room(ns, room) == channels.of_room(ns2, room2)
    assert same == ((ns, room) == (ns2, room2))


@pytest.mark.parametrize("sharded", [False, True])
@given(ns=namespaces, room=room_names, ns2=namespaces, node=node_ids)
def test_a_rooms_channel_is_no_namespaces_and_no_workers(
    ns: str, room: str, ns2: str, node: str, sharded: bool
) -> None:
    channels = Channels("rooms", sharded=sharded)
    kinds = {channels.of_room(ns, room), channels.of_namespace(ns2)}
    kinds |= {channels.of_node(node), channels.of_sids(node)}
    assert len(kinds) == 4


def test_channels_read_as_documented() -> None:
    channels = Channels("app")
    assert channels.of_namespace("/chat") == b"app#/chat#"
    assert channels.of_room("/chat", "café") == "app#/chat#café#".encode()
    assert channels.of_node(NODE) == b"app#0123456789abcdef#"
    assert channels.of_sids(NODE) == b"app#0123456789abcdef.#"


def test_where_there_are_shards_a_rooms_channel_has_braces_and_no_other_has() -> None:
    channels = Channels("app", sharded=True)
    assert channels.of_room("/chat", "café") == "app#{/chat#café}#".encode()
    assert channels.of_room("/", new_sid(NODE)) == channels.of_sids(NODE)
    plain = Channels("app")
    assert channels.of_namespace("/chat") == plain.of_namespace("/chat")
    assert channels.of_node(NODE) == plain.of_node(NODE)
    assert channels.of_sids(NODE) == plain.of_sids(NODE)


@pytest.mark.parametrize("prefix", ["{", "{}", "a{}b", "a{b", "}{", "{}{a}"])
def test_a_brace_in_a_prefix_has_to_close_where_there_are_shards(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="close its first brace"):
        Channels(prefix, sharded=True)
    assert Channels(prefix).prefix == prefix
    for well in ("{shop}", "a}", "}{a}", "a{b}{"):
        assert Channels(well, sharded=True).prefix == well


def test_what_is_sent_to_a_generated_sid_travels_on_its_workers_channel() -> None:
    channels = Channels("rooms")
    sid = new_sid(NODE)
    assert channels.of_room("/", sid) == channels.of_room("/chat", sid) == channels.of_sids(NODE)


@given(namespaces, st.one_of(room_names, st.builds(new_sid, node_ids)), node_ids)
@example("/", f"{NODE}.0123456789abcdef", NODE)
@example("/", NODE, NODE)
def test_no_room_leads_to_the_channel_that_a_worker_is_asked_on(
    namespace: str, room: str, node: str
) -> None:
    channels = Channels("rooms")
    assert channels.of_room(namespace, room) not in (channels.of_node(node), channels.of_workers())


@pytest.mark.parametrize(("prefix", "reason"), [*INVALID, pytest.param("a#b", "'#'", id="hash")])
def test_a_prefix_that_would_blur_the_channels_is_refused(prefix: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        Channels(prefix)


class RoomName(str, Enum):  # noqa: UP042 -- as FastAPI's tutorial has them
    """Its text is "RoomName.LOBBY", and its value "lobby"."""

    LOBBY = "lobby"


class Modern(StrEnum):
    LOBBY = "lobby"


class Own(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"

    def __format__(self, spec: str) -> str:
        return "something else"


class NoString(Enum):
    LOBBY = "lobby"


@pytest.mark.parametrize("name", [RoomName.LOBBY, Modern.LOBBY, Own("lobby")], ids=type)
def test_a_string_of_any_class_is_the_name_it_holds(name: str) -> None:
    checked = [
        check_room(name),
        *check_rooms(("a", name)),
        check_namespace(name),
        check_prefix(name),
        check_event(name),
    ]
    assert checked == ["lobby", "a", "lobby", "/lobby", "lobby", "lobby"]
    assert {type(each) for each in checked} == {str}
    assert type(check_pattern(name, "authorize", "")) is str
    assert Channels(name).of_room(check_namespace(name), check_room(name)) == b"lobby#/lobby#lobby#"


def test_an_enum_that_is_no_string_is_told_of_its_value() -> None:
    member: Any = NoString.LOBBY
    for check in (check_room, check_namespace, check_prefix, check_event):
        with pytest.raises(UsageError, match=r"give NoString\.LOBBY\.value"):
            check(member)
