"""The manager: put together, and several of them in one process."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fastapi_rooms import (
    Compression,
    ConfigurationError,
    InvalidNamespace,
    MemoryAdapter,
    MemoryBus,
    Namespace,
    NotStarted,
    OutboxPolicy,
    RedisAdapter,
    RoomManager,
)
from fastapi_rooms import manager as manager_module
from fastapi_rooms.testing import Cluster, Member
from tests.unit.support import FakeAdapter

# Put together.


def test_making_one_opens_nothing_and_needs_no_event_loop() -> None:
    for url in ("memory://", "memory://name", "redis://nowhere.invalid:1", "unix:///nowhere"):
        rooms = RoomManager(url)
        assert not rooms.health.ready
        assert rooms.rooms == rooms.sids == {}


def test_a_manager_is_the_namespace_slash() -> None:
    rooms = RoomManager()
    assert rooms.name == "/"
    assert rooms.of("/") is rooms


def test_a_namespace_is_made_once() -> None:
    rooms = RoomManager()
    chat = rooms.of("/chat")
    assert isinstance(chat, Namespace)
    assert not isinstance(chat, RoomManager)
    assert chat is rooms.of("/chat") is rooms.of("chat")
    assert chat.name == "/chat"
    assert rooms.of("/Chat") is not chat


@pytest.mark.parametrize("name", ["", "/a#b", "x" * 256, None])
def test_what_no_namespace_can_be_called_is_refused(name: Any) -> None:
    with pytest.raises(InvalidNamespace):
        RoomManager().of(name)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory://", MemoryAdapter),
        ("memory://shared", MemoryAdapter),
        ("redis://localhost:6379/1", RedisAdapter),
        ("rediss://user:secret@localhost:6379", RedisAdapter),
        ("unix:///run/redis.sock", RedisAdapter),
    ],
)
def test_a_url_says_which_adapter(url: str, kind: type) -> None:
    rooms = RoomManager(url, prefix="mine")
    assert type(rooms._runtime.adapter) is kind
    assert rooms._runtime.adapter.prefix == "mine"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", "is empty"),
        ("localhost:6379", "has no ://"),
        (":secret@localhost:6379", "has no ://"),
        ("http://me:secret@host", "scheme is not known"),
        ("secret://host", "scheme is not known"),
        ("valkeys://me:secret@host", "Write rediss:// for valkeys://"),
        ("sentinel://me:secret@host/m", "Write redis+sentinel://"),
        ("memory", "has no ://"),
    ],
)
def test_a_url_that_says_none_is_refused_without_showing_a_password(url: str, shown: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        RoomManager(url)
    assert shown in str(raised.value)
    assert "secret" not in str(raised.value)
    for known in ("memory://", "redis://", "rediss://", "unix://"):
        assert known in str(raised.value)


def test_what_compression_is_to_be_is_a_policy_or_none() -> None:
    policy = Compression(threshold=1000)
    for given, is_so in ((policy, policy), (True, Compression()), (False, None), (None, None)):
        assert RoomManager(compression=given)._runtime.settings.compression == is_so
    assert RoomManager()._runtime.settings.compression == Compression()
    with pytest.raises(ConfigurationError, match="compression must be a Compression"):
        RoomManager(compression="deflate")  # type: ignore[arg-type]


def test_the_prefix_is_rooms_or_what_the_adapter_was_made_with() -> None:
    assert RoomManager()._runtime.channels.prefix == "rooms"
    assert RoomManager(FakeAdapter("mine"))._runtime.channels.prefix == "mine"
    assert RoomManager(FakeAdapter("mine"), prefix="mine")._runtime.channels.prefix == "mine"


@pytest.mark.parametrize("prefix", ["", "a#b", "x" * 256])
def test_a_prefix_that_would_blur_the_channels_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="prefix"):
        RoomManager(prefix=prefix)


def test_two_different_prefixes_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"'theirs'.*'mine'"):
        RoomManager(FakeAdapter("theirs"), prefix="mine")


# Not started.


USES: dict[str, Callable[[RoomManager], Awaitable[object]]] = {
    "send_text": lambda rooms: rooms.send_text("x"),
    "send_bytes": lambda rooms: rooms.send_bytes(b"x"),
    "send_json": lambda rooms: rooms.send_json("x"),
    "to": lambda rooms: rooms.to("lobby").send_text("x"),
    "except_": lambda rooms: rooms.except_("ann").send_text("x"),
    "local": lambda rooms: rooms.local.send_text("x"),
    "volatile": lambda rooms: rooms.volatile.send_text("x"),
    "of": lambda rooms: rooms.of("/chat").to("lobby").send_text("x"),
    "listen": lambda rooms: rooms.listen("lobby").__aenter__(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("closed", [False, True])
async def test_using_a_manager_that_does_not_run_says_how_to_start_it(
    use: Callable[[RoomManager], Awaitable[object]], closed: bool
) -> None:
    rooms = RoomManager()
    if closed:
        async with rooms:
            pass
    with pytest.raises(NotStarted, match=r"FastAPI\(lifespan=rooms.lifespan\)"):
        await use(rooms)


def test_a_manager_that_does_not_run_has_no_id() -> None:
    with pytest.raises(NotStarted):
        _ = RoomManager().node


def test_what_needs_no_adapter_can_be_said_before_the_start() -> None:
    rooms = RoomManager()
    operator = rooms.to("lobby").except_("ann").local.volatile
    rooms.on("connect")(print)
    assert "lobby" in repr(operator)


# The memory adapter where it cannot work.


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager_module, "count_workers_here", lambda: 2)


async def test_rooms_in_memory_with_several_workers_are_warned_of_once(
    two_workers: None, caplog: pytest.LogCaptureFixture
) -> None:
    rooms = RoomManager()
    async with rooms, rooms:
        pass
    [record] = caplog.records
    assert (record.name, record.levelno) == ("fastapi_rooms", logging.WARNING)
    assert "2 worker processes" in record.getMessage()
    assert 'RoomManager("redis://localhost:6379")' in record.getMessage()


async def test_one_worker_or_an_adapter_that_meets_others_is_not_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(manager_module, "count_workers_here", lambda: 1)
    async with RoomManager():
        pass
    monkeypatch.setattr(manager_module, "count_workers_here", lambda: 4)
    async with RoomManager(FakeAdapter()):
        pass
    assert not caplog.records


# Several managers in one process.


async def test_managers_with_the_same_memory_name_are_each_others_workers() -> None:
    one, two, other = (RoomManager(f"memory://{name}") for name in ("a", "a", "b"))
    async with (
        one,
        two,
        other,
        Member(two, "lobby") as member,
        Member(other, "lobby") as outsider,
    ):
        await one.to("lobby").send_text("hello")
        assert await member.receive_text() == "hello"
        await other.to("lobby").send_text("apart")
        assert await outsider.receive_text() == "apart"
        assert member.unread == []


async def test_managers_without_a_name_are_apart() -> None:
    one, two = RoomManager(), RoomManager()
    async with one, two, Member(two, "lobby") as member:
        await one.to("lobby").send_text("unheard")
        await two.to("lobby").send_text("heard")
        assert await member.receive_text() == "heard"


async def test_prefixes_keep_applications_on_one_bus_apart() -> None:
    bus = MemoryBus()
    one, two = (RoomManager(MemoryAdapter(bus, prefix=prefix)) for prefix in "ab")
    async with one, two, Member(two, "lobby") as member:
        await one.to("lobby").send_text("unheard")
        await two.to("lobby").send_text("heard")
        assert await member.receive_text() == "heard"


async def test_a_slow_reader_is_closed_by_the_policy_of_its_own_worker() -> None:
    async with Cluster(workers=2, outbox=OutboxPolicy(max_bytes=100)) as cluster:
        one, two = cluster
        slow = await cluster.member(two, "lobby")
        quick = await cluster.member(two, "lobby")
        slow.stall()
        for number in range(10):
            await one.to("lobby").send_text(f"{number}" * 30)
            assert await quick.receive_text() == f"{number}" * 30
        slow.resume()
        assert await slow.wait_closed() == 1013
