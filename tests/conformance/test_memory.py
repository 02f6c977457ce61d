"""The conformance suite, bound to the memory adapter."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fastapi_rooms import AdapterUnavailable, MemoryAdapter, MemoryBus, Outage, RoomManager
from fastapi_rooms.adapters.history import Retention, RoomKey, kept
from fastapi_rooms.adapters.memory import backlog as backlog_module
from fastapi_rooms.adapters.memory import bus as bus_module
from fastapi_rooms.adapters.memory import store as store_module
from fastapi_rooms.adapters.memory import sweeper as sweeper_module
from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.testing import Member, eventually
from fastapi_rooms.testing.suite import AdapterSuite, HistorySuite, ManagerSuite
from tests.conformance.silence import SilenceSuite


class Receiver:
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def received(self, channel: bytes, data: bytes) -> None:
        self.messages.append(data)

    def gap(self, outage: Outage) -> None: ...


class MemoryBackplane:
    """A bus."""

    def __init__(self) -> None:
        self._bus = MemoryBus()

    def adapter(self) -> MemoryAdapter:
        return MemoryAdapter(self._bus)

    async def subscribers(self, channel: bytes) -> int:
        return self._bus.subscriptions(channel)

    async def break_connections(self) -> None:
        """There are none."""


@pytest.fixture
def backplane() -> MemoryBackplane:
    return MemoryBackplane()


class TestMemoryAdapter(AdapterSuite):
    """Adapters that share a bus."""


class TestMemoryHistory(HistorySuite):
    """The messages that a bus keeps."""


class TestMemoryManager(ManagerSuite):
    """Managers that share a bus."""


class TestMemorySilence(SilenceSuite):
    """Workers that do not answer, on a bus."""


class TestMemoryItself:
    """What only a process can have."""

    async def test_managers_in_different_threads_hear_each_other_in_order(self) -> None:
        bus = MemoryBus()
        sent = [str(number) for number in range(500)]
        heard: list[str] = []
        listening = threading.Event()

        async def listen() -> None:
            async with RoomManager(MemoryAdapter(bus)) as rooms, rooms.listen("news") as messages:
                listening.set()
                while len(heard) < len(sent):
                    heard.append((await anext(messages)).text)

        async def talk() -> None:
            async with RoomManager(MemoryAdapter(bus)) as rooms:
                await asyncio.to_thread(listening.wait, 10)
                for text in sent:
                    await rooms.to("news").send_text(text)

        await asyncio.gather(
            asyncio.to_thread(asyncio.run, listen()), asyncio.to_thread(asyncio.run, talk())
        )
        assert heard == sent

    @pytest.mark.parametrize("size", [0, 100_000])
    async def test_what_is_on_its_way_to_a_busy_event_loop_is_bounded(
        self, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backlog_module, "MAX_BACKLOG_BYTES", 1_000_000)
        receiver = Receiver()
        bus = MemoryBus()
        one, two = MemoryAdapter(bus), MemoryAdapter(bus)
        await one.start(Receiver(), ())
        await two.start(receiver, (b"channel",))
        sent = 1_000_000 // (size + ENTRY_BYTES)
        for _ in range(sent):  # in one turn, so that nothing is received
            await one.publish(b"channel", bytes(size))
        with pytest.raises(AdapterUnavailable, match=r"1000000 bytes .* event loop is busy"):
            await one.publish(b"channel", bytes(size))
        one.publish_volatile(b"channel", bytes(size))
        await eventually(lambda: len(receiver.messages) == sent)
        assert await one.publish(b"channel", bytes(2_000_000)) == 1, "one may always wait"
        await eventually(lambda: len(receiver.messages) == sent + 1)
        await one.close()
        await two.close()

    async def test_managers_of_one_named_bus_meet_and_those_of_others_do_not(self) -> None:
        one, two = RoomManager("memory://named"), RoomManager("memory://named")
        other, alone = RoomManager("memory://another"), RoomManager("memory://")
        async with one, two, other, alone, Member(two, "lobby") as member:
            for rooms in (alone, other, one):
                await rooms.to("lobby").send_text("last" if rooms is one else "a stranger")
            assert await member.receive_until("last") == []

    async def test_one_whose_event_loop_is_gone_is_not_waited_for(self) -> None:
        bus = MemoryBus()
        never_closed = RoomManager(MemoryAdapter(bus))
        async with RoomManager(MemoryAdapter(bus)) as rooms:
            await asyncio.to_thread(asyncio.run, never_closed.__aenter__())
            assert await rooms.count(timeout=1) == 0


RETENTION = Retention(size=1000, ttl=60)
ROOM = RoomKey(b"/#tea", b"rooms#/#tea#")


class TestMemoryOfMessages:
    """What only a bus promises of the messages it keeps."""

    async def test_one_whose_tag_is_known_is_neither_kept_nor_published_again(self) -> None:
        bus, receiver = MemoryBus(), Receiver()
        one, two = MemoryAdapter(bus), MemoryAdapter(bus)
        await one.start(receiver, [ROOM.channel])
        await two.start(Receiver(), [])
        positions = [await one.append(ROOM, b"hello", tag, RETENTION) for tag in (1, 2, 3)]
        assert positions == [await two.append(ROOM, b"again", tag, RETENTION) for tag in (1, 2, 3)]
        await one.forget(ROOM)
        assert positions[2] == await two.append(ROOM, b"again", 3, RETENTION), "it is the top"
        await two.append(ROOM, b"end", 4, RETENTION)
        await eventually(lambda: receiver.messages and receiver.messages[-1].endswith(b"end"))
        heard = [kept.decode(data) for data in receiver.messages]
        assert [(m.position.offset, m.previous) for m in heard] == [(1, 0), (2, 1), (3, 2), (4, 3)]
        await one.close()
        await two.close()

    async def test_workers_in_different_threads_hear_one_order(self) -> None:
        bus, everyone = MemoryBus(), threading.Barrier(3)

        async def work(number: int) -> list[bytes]:
            receiver, adapter = Receiver(), MemoryAdapter(bus)
            await adapter.start(receiver, [ROOM.channel])
            everyone.wait(10)
            for tag in range(number * 1000 + 1, number * 1000 + 301):
                await adapter.append(ROOM, b"%d" % tag, tag, RETENTION)
            await eventually(lambda: len(receiver.messages) == 900)
            await adapter.close()
            return receiver.messages

        heard = await asyncio.gather(
            *(asyncio.to_thread(asyncio.run, work(number)) for number in range(3))
        )
        assert heard[0] == heard[1] == heard[2]
        assert [kept.decode(data).position.offset for data in heard[0]] == [*range(1, 901)]

    async def test_none_is_kept_that_a_busy_event_loop_has_no_room_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backlog_module, "MAX_BACKLOG_BYTES", 100_000)
        receiver, adapter = Receiver(), MemoryAdapter()
        await adapter.start(receiver, [ROOM.channel])
        await adapter.append(ROOM, bytes(90_000), 1, RETENTION)
        with pytest.raises(AdapterUnavailable, match="event loop is busy") as refused:
            await adapter.append(ROOM, bytes(90_000), 2, RETENTION)
        assert not refused.value.uncertain
        assert (await adapter.read(ROOM)).top.offset == 1
        await eventually(lambda: receiver.messages)
        assert (await adapter.append(ROOM, bytes(90_000), 2, RETENTION)).offset == 2
        await adapter.close()

    async def test_what_has_expired_is_swept_as_long_as_a_worker_runs(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sweeper_module, "INTERVAL", 0.01)
        monkeypatch.setattr(bus_module, "_SWEPT_AT_ONCE", 2)
        adapter = MemoryAdapter()
        await adapter.start(Receiver(), [])
        for number in range(5):
            room = RoomKey(b"%d" % number, b"#%d" % number)
            await adapter.append(room, b"hello", 1, Retention(size=10, ttl=0.01))
        with adapter.bus.store() as store:
            assert len(store) == 5
        await eventually(lambda: not store.bytes, what="nobody reads, and it is gone")
        monkeypatch.setattr(store_module, "IDLE_TIME", 0.0)
        await eventually(lambda: not len(store), what="nor is there a numbering")
        await adapter.close()
        assert adapter._sweeper._next is None
