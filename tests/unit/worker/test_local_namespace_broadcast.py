"""Who gets a broadcast, in which order, and whether the adapter accepts it or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from fastapi_rooms import AdapterUnavailable, MessageTooLarge, RoomManager, UsageError
from fastapi_rooms.core.names import Channels, new_sid
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import Member
from fastapi_rooms.wire import codec
from fastapi_rooms.worker.fanout import IMMEDIATE_MAX
from tests.unit.support import OTHER_NODE, FakeAdapter, broadcast, channel_of, decoded

LOBBY = channel_of("lobby")


@pytest.fixture
async def rooms(adapter: FakeAdapter) -> AsyncIterator[RoomManager]:
    """A manager that runs, on an adapter in the test's hands, without a linger."""
    async with RoomManager(adapter, linger=0, max_message_bytes=1000) as rooms:
        yield rooms


async def _who_heard(people: dict[str, Member], text: str) -> set[str]:
    """Who had `text`, and had it once; everyone is sent a last word to know."""
    heard = set()
    for name, member in people.items():
        await member.socket.send_text("end")
        got = await member.receive_until("end")
        assert got in ([], [text])
        if got:
            heard.add(name)
    return heard


# Who gets it.


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target(), {"ann", "bob", "cid"}),
        (Target(("lobby",)), {"ann", "bob"}),
        (Target(("lobby", "bar")), {"ann", "bob"}),
        (Target(("bar", "cid")), {"ann", "cid"}),
        (Target(("nowhere",)), set()),
        (Target(()), set()),
        (Target(None, ("lobby",)), {"cid"}),
        (Target(("lobby",), ("bar",)), {"bob"}),
        (Target(("lobby",), ("bob", "nowhere")), {"ann"}),
        (Target(("bob",)), {"bob"}),
    ],
)
@pytest.mark.parametrize("sender", ["here", "here, local", "here, volatile", "another worker"])
async def test_a_broadcast_reaches_those_it_addresses_once_and_no_other(
    rooms: RoomManager,
    adapter: FakeAdapter,
    people: dict[str, Member],
    target: Target,
    expected: set[str],
    sender: str,
) -> None:
    if sender == "another worker":
        assert adapter.receiver is not None
        adapter.receiver.received(LOBBY, codec.encode(broadcast(1, target, "hello")))
    else:
        operator = rooms.except_(*target.except_)
        if target.rooms is not None:
            operator = operator.to(*target.rooms)
        if sender == "here, local":
            operator = operator.local
        if sender == "here, volatile":
            operator = operator.volatile
        await operator.send_text("hello")
    assert await _who_heard(people, "hello") == expected
    sent = [decoded(data) for _, data in adapter.published]
    sent_volatile = [decoded(data) for _, data in adapter.published_volatile]
    assert [b.target for b in sent] == ([target] if sender == "here" and target.rooms != () else [])
    assert [b.target for b in sent_volatile] == (
        [target] if sender == "here, volatile" and target.rooms != () else []
    )


async def test_the_namespaces_own_verbs_address_everyone(
    rooms: RoomManager, people: dict[str, Member]
) -> None:
    await rooms.send_text("text")
    await rooms.send_bytes(b"\xff")
    await rooms.send_json({"n": 1})
    for member in people.values():
        assert [await member.receive() for _ in range(3)] == ["text", b"\xff", '{"n":1}']


async def test_a_sockets_own_broadcasts_leave_it_out(people: dict[str, Member]) -> None:
    await people["ann"].socket.to("lobby", "cid").send_text("hello")
    assert await _who_heard(people, "hello") == {"bob", "cid"}
    await people["ann"].socket.broadcast.send_text("hello")
    assert await _who_heard(people, "hello") == {"bob", "cid"}


async def test_a_room_named_after_a_sid_can_be_joined_by_others(people: dict[str, Member]) -> None:
    await people["bob"].socket.join("ann")
    await people["cid"].socket.to("ann").send_text("hello")
    assert await _who_heard(people, "hello") == {"ann", "bob"}


async def test_what_is_sent_to_another_workers_sid_goes_to_that_worker(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    sid = new_sid(OTHER_NODE)
    await rooms.to(sid).send_text("hello")
    [(channel, data)] = adapter.published
    assert channel == f"rooms#{OTHER_NODE}.#".encode()
    assert decoded(data).target == Target((sid,))


async def test_another_workers_message_reaches_a_generated_sid(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    async with Member(rooms) as member:
        channel = channel_of(member.sid)
        assert channel == Channels("rooms").of_sids(rooms.node)
        assert adapter.receiver is not None
        message = broadcast(1, Target((member.sid,)), "hello")
        adapter.receiver.received(channel, codec.encode(message))
        assert await member.receive_text() == "hello"


# In which order, and whether the adapter accepts it or not.


async def test_local_members_have_a_message_before_the_adapter_has_accepted_it(
    rooms: RoomManager, adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    adapter.hold()
    send = asyncio.ensure_future(rooms.to("lobby").send_text("hello"))
    assert await people["ann"].receive_text() == "hello"
    assert not send.done()
    adapter.release()
    await send


async def test_local_members_have_a_message_that_the_adapter_did_not_accept(
    rooms: RoomManager, adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    adapter.publish_error = AdapterUnavailable("Redis is away")
    with pytest.raises(AdapterUnavailable):
        await rooms.to("lobby").send_text("hello")
    assert await _who_heard(people, "hello") == {"ann", "bob"}


async def test_a_volatile_message_neither_waits_for_the_adapter_nor_raises(
    rooms: RoomManager, adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    adapter.hold()
    adapter.publish_error = AdapterUnavailable("Redis is away")
    await rooms.to("lobby").volatile.send_text("typing")
    assert await _who_heard(people, "typing") == {"ann", "bob"}
    assert len(adapter.published_volatile) == 1


async def test_a_local_message_is_not_published(
    rooms: RoomManager, adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    await rooms.local.send_text("hello")
    await rooms.to("lobby").local.volatile.send_text("hello")
    assert adapter.published == adapter.published_volatile == []


async def test_a_message_for_members_elsewhere_is_published_though_nobody_is_here(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    await rooms.to("elsewhere").send_text("hello")
    assert [channel for channel, _ in adapter.published] == [channel_of("elsewhere")]


async def test_a_message_over_the_limit_reaches_nobody(
    rooms: RoomManager, adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    for operator in (rooms.to("lobby"), rooms.local, rooms.volatile):
        with pytest.raises(MessageTooLarge, match="1001 bytes; the limit is 1000"):
            await operator.send_text("x" * 1001)
    assert await _who_heard(people, "") == set()
    assert adapter.published == adapter.published_volatile == []
    await rooms.to("lobby").send_text("x" * 1000)
    assert await _who_heard(people, "x" * 1000) == {"ann", "bob"}


async def test_more_rooms_than_a_message_can_name_are_refused_before_anybody_has_it(
    rooms: RoomManager, adapter: FakeAdapter, people: dict[str, Member]
) -> None:
    with pytest.raises(UsageError, match="65535"):
        await rooms.to("lobby", *map(str, range(65_535))).send_text("hello")
    assert await _who_heard(people, "hello") == set()
    assert adapter.published == []


async def test_two_thousand_messages_of_one_sender_arrive_in_order(
    rooms: RoomManager, people: dict[str, Member]
) -> None:
    for number in range(2000):
        await rooms.to("lobby").send_text(str(number))
    for name in ("ann", "bob"):
        assert [await people[name].receive_text() for _ in range(2000)] == [
            str(number) for number in range(2000)
        ]


async def test_a_room_that_is_more_than_a_handful_is_told_in_order_and_each_once(
    rooms: RoomManager,
) -> None:
    async with AsyncExitStack() as stack:
        crowd = [
            await stack.enter_async_context(Member(rooms, "crowd", sid=f"s{n}"))
            for n in range(IMMEDIATE_MAX + 3)
        ]
        for number in range(20):
            await crowd[0].socket.to("crowd").send_text(str(number))
            await rooms.to("s1").send_text(f"{number} for you")
        assert crowd[0].unread == []
        for member in crowd[2:]:
            assert [await member.receive() for _ in range(20)] == [str(n) for n in range(20)]
            assert member.unread == []
        expected = [text for n in range(20) for text in (str(n), f"{n} for you")]
        assert [await crowd[1].receive() for _ in range(40)] == expected


class _PromptAdapter(FakeAdapter):
    """Writes what was published as the Redis adapter does: once the present turn is over."""

    def __init__(self) -> None:
        super().__init__()
        self.write: Callable[[], None] = lambda: None

    def publish(  # type: ignore[override]
        self, channel: bytes, data: bytes
    ) -> Awaitable[int | None]:
        asyncio.get_running_loop().call_soon(self.write)
        return super().publish(channel, data)


class _RaisingAdapter(FakeAdapter):
    """Raises where others give something to wait for."""

    def publish(  # type: ignore[override]
        self, channel: bytes, data: bytes
    ) -> Awaitable[int | None]:
        if channel == LOBBY:
            raise AdapterUnavailable("Not now.")
        return super().publish(channel, data)


async def test_an_adapter_that_raises_at_once_keeps_a_message_from_nobody_here() -> None:
    async with RoomManager(_RaisingAdapter()) as rooms, Member(rooms, "lobby") as member:
        with pytest.raises(AdapterUnavailable, match="Not now"):
            await rooms.to("lobby").send_text("hello")
        assert await member.receive_text() == "hello"


async def test_other_workers_are_not_kept_waiting_while_a_crowd_here_is_written_to() -> None:
    adapter = _PromptAdapter()
    async with RoomManager(adapter) as rooms, AsyncExitStack() as stack:
        crowd = [
            await stack.enter_async_context(Member(rooms, "crowd", sid=f"s{n}"))
            for n in range(IMMEDIATE_MAX + 1)
        ]
        pending: list[list[int]] = []
        adapter.write = lambda: pending.append([member.socket.pending for member in crowd])
        await rooms.to("crowd").send_text("hello")
        assert pending == [[0] * len(crowd)]
        assert {await member.receive_text() for member in crowd} == {"hello"}


async def test_a_sender_to_a_crowd_that_is_cancelled_takes_no_other_with_it(
    rooms: RoomManager,
) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(IMMEDIATE_MAX + 1):
            await stack.enter_async_context(Member(rooms, "crowd"))
        crowd = rooms.to("crowd").local
        one, two = (asyncio.ensure_future(crowd.send_text(text)) for text in "ab")
        await asyncio.sleep(0)  # both wait for the fan-out
        one.cancel()
        await two


async def test_a_direct_send_does_not_overtake_a_broadcast_that_was_not_accepted(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    adapter.publish_error = AdapterUnavailable("Redis is away")
    async with AsyncExitStack() as stack:
        crowd = [
            await stack.enter_async_context(Member(rooms, "crowd"))
            for _ in range(IMMEDIATE_MAX + 1)
        ]
        with pytest.raises(AdapterUnavailable):
            await rooms.to("crowd").send_text("first")
        await crowd[0].socket.send_text("second")
        assert [await crowd[0].receive() for _ in range(2)] == ["first", "second"]
