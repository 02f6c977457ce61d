"""The conformance suite, bound to the memory adapter."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fastapi_rooms import AdapterUnavailable, MemoryAdapter, MemoryBus, Outage, RoomManager
from fastapi_rooms.adapters import memory as memory_module
from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.testing import Member, eventually
from fastapi_rooms.testing.suite import AdapterSuite, ManagerSuite
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


@pytest.fixture
def backplane() -> MemoryBackplane:
    return MemoryBackplane()


class TestMemoryAdapter(AdapterSuite):
    """Adapters that share a bus."""


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
        monkeypatch.setattr(memory_module, "MAX_BACKLOG_BYTES", 1_000_000)
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
