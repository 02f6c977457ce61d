"""The conformance suite, bound to the memory adapter."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fastapi_rooms import MemoryAdapter, MemoryBus, RoomManager
from fastapi_rooms.testing import Member
from fastapi_rooms.testing.suite import AdapterSuite, ManagerSuite
from tests.conformance.silence import SilenceSuite


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
