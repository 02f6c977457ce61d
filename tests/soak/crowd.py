"""The clients of a cycle: they come, talk, flood, stop reading, and go, each kind in its way."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from tests.soak.client import TIMEOUT, Client, Refused
from tests.soak.ledger import Hearer, Ledger, Sender

NAMESPACES = ("/", "/a", "/b")
"""Those that somebody stays in for a whole cycle."""
CHOSEN_SIDS = [f"chosen-{number}" for number in range(20)]
FLOODED = ("flood-1", "flood-2")


class Size(NamedTuple):
    """How many clients of each kind there are at a time, on both workers together."""

    stayers: int = 12
    passers: int = 24
    crowd: int = 60
    """Those who are in the rooms that are flooded, and say nothing."""
    listeners: int = 6
    mutes: int = 4
    askers: int = 2
    flooders: int = 1


class Guest:
    """One connection of the soak: what it says and hears is in the ledger."""

    def __init__(self, ledger: Ledger, name: str, worker: int, namespace: str) -> None:
        self._ledger = ledger
        self.namespace = namespace
        self.hearer: Hearer = ledger.hearer(name, worker)
        self.sender: Sender = ledger.sender(name, time.time())
        self.client: Client
        self._answers: asyncio.Queue[str] = asyncio.Queue()

    def _heard(self, text: str) -> None:
        if not self._ledger.heard(self.hearer, text):
            self._answers.put_nowait(text)

    async def connect(self, port: int, path: str) -> bool:
        """Connect; whether the server has let it in."""
        try:
            self.client = await Client.connect(port, path, self._heard)
        except Refused:
            return False
        return (await self.answer()).startswith("in ")

    async def answer(self) -> str:
        """The next answer; empty if the connection is over."""
        answer = asyncio.create_task(self._answers.get())
        ended = asyncio.create_task(self.client.ended.wait())
        try:
            async with asyncio.timeout(2 * TIMEOUT):
                await asyncio.wait((answer, ended), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            self._ledger.fault("unanswered", f"{self.hearer.name} on worker {self.hearer.worker}")
            return ""
        else:
            return answer.result() if answer.done() else ""
        finally:
            answer.cancel()
            ended.cancel()

    async def ask(self, *words: str) -> str:
        """Ask for something; what came of it, or nothing if the connection is over."""
        self.client.send(" ".join(words))
        return await self.answer()

    def full(self, room: str) -> str:
        return f"{self.namespace}:{room}"

    async def join(self, *rooms: str) -> bool:
        names = [self.full(room) for room in rooms]
        self.hearer.joins(*names)
        if await self.ask("join", *rooms) == "joined":
            self.hearer.joined(time.time(), *names)
            return True
        self.hearer.left(time.time(), *names)
        return False

    async def leave(self, room: str) -> None:
        if (answer := await self.ask("leave", room)).startswith("left "):
            self.hearer.left(float(answer.split(" ")[1]), self.full(room))

    def say(self, room: str) -> None:
        number = self.sender.next_to(self.full(room))
        self.client.send(f"say {room} {self.sender.name} {number}")

    async def finish_speaking(self) -> None:
        """Return when it is known what became of all that it said."""
        self.sender.is_sure = await self.ask("bye") == "bye"

    async def go(self, *, politely: bool) -> None:
        """Leave, without a close frame if it is not polite."""
        self.hearer.is_here = False
        (self.client.close if politely else self.client.vanish)()
        try:
            async with asyncio.timeout(TIMEOUT):
                await self.client.ended.wait()
        except TimeoutError:
            self._ledger.fault("hanging", f"{self.hearer.name} on worker {self.hearer.worker}")
            self.client.vanish()


class Crowd:
    """All clients of one cycle."""

    def __init__(
        self, ports: Sequence[int], ledger: Ledger, chance: random.Random, cycle: int
    ) -> None:
        self._ports = ports
        self._ledger = ledger
        self._chance = chance
        self._cycle = cycle
        self._numbers = itertools.count()
        self._staying: list[Guest] = []
        self._flood = 0  # how many messages it has at most
        self.over = asyncio.Event()
        """Set when all have said what they had to say, but for what they are in the midst of."""

    async def live(self, size: Size, seconds: float) -> None:
        """Have all clients come, and return when the last has said what it has to say.

        Those who stay are there still: see `leave`.
        """
        self._flood = int(min(10_000, 1_000 * seconds))
        kinds: list[tuple[Callable[[int], Awaitable[None]], int]] = [
            (self._stayer, size.stayers),
            (self._passer, size.passers),
            (self._in_crowd, size.crowd),
            (self._listener, size.listeners),
            (self._mute, size.mutes),
            (self._asker, size.askers),
            (self._flooder, size.flooders),
        ]
        async with asyncio.TaskGroup() as group:
            for kind, count in kinds:
                for number in range(count):
                    group.create_task(self._again_and_again(kind, number))
            await asyncio.sleep(seconds)
            self.over.set()

    async def leave(self) -> None:
        """Have those go who have stayed, every other without a word."""
        async with asyncio.TaskGroup() as group:
            for number, guest in enumerate(self._staying):
                group.create_task(guest.go(politely=number % 2 == 0))
        self._staying.clear()

    async def _again_and_again(self, kind: Callable[[int], Awaitable[None]], number: int) -> None:
        while not self.over.is_set():
            await kind(number)
            await asyncio.sleep(0.02)

    @asynccontextmanager
    async def _guest(
        self,
        kind: str,
        number: int,
        path: str = "/ws/{}",
        *,
        namespace: str | None = None,
        sid: str = "",
        listens_to: Sequence[str] = (),
    ) -> AsyncIterator[Guest | None]:
        """A client on this or that worker for the time of the block; none if it is not let in."""
        if namespace is None:
            namespace = self._chance.choice(NAMESPACES)
        worker = number % len(self._ports)
        name = f"{kind}-{self._cycle}.{next(self._numbers)}"
        guest = Guest(self._ledger, name, worker, namespace)
        where = path.format("-" + namespace.strip("/")) + (f"?sid={sid}" if sid else "")
        guest.hearer.joins(*map(guest.full, listens_to))
        self._ledger.counts["clients"] += 1
        if await guest.connect(self._ports[worker], where):
            yield guest
        else:
            guest.hearer.is_here = False
            self._ledger.counts["not let in"] += 1
            yield None

    def _goes(self, guest: Guest) -> Awaitable[None]:
        return guest.go(politely=self._chance.random() < 0.5)

    async def _pause(self, least: float, most: float) -> None:
        """Let some time pass, but no more than there is."""
        try:
            async with asyncio.timeout(self._chance.uniform(least, most)):
                await self.over.wait()
        except TimeoutError:
            pass

    async def _stayer(self, number: int) -> None:
        """Talks in a hall all the time, and hears all that is said there to the very end."""
        namespace = NAMESPACES[number // len(self._ports) % len(NAMESPACES)]
        async with self._guest("stayer", number, namespace=namespace) as guest:
            if guest is None:
                return
            rooms = ("hall", f"hall-{self._cycle}")
            if await guest.join(*rooms):
                while not self.over.is_set() and not guest.client.ended.is_set():
                    guest.say(self._chance.choice(rooms))
                    await self._pause(0.05, 0.4)
            await self._stays(guest)

    async def _stays(self, guest: Guest) -> None:
        """It hears all that is told in this cycle, unless the server has closed it."""
        await guest.finish_speaking()
        if guest.client.ended.is_set():
            await self._goes(guest)
            self._ledger.counts["closed by the server"] += 1
        else:
            self._staying.append(guest)

    async def _passer(self, number: int) -> None:
        """Comes for a moment, often with a sid of its choice, to rooms that come and go.

        So do some of their namespaces.
        """
        sid = self._chance.choice(CHOSEN_SIDS) if self._chance.random() < 0.3 else ""
        namespace = self._chance.choice((*NAMESPACES, f"/passing-{self._chance.randrange(100)}"))
        async with self._guest("passer", number, namespace=namespace, sid=sid) as guest:
            if guest is None:
                return
            rooms = [f"room-{self._chance.randrange(100)}" for _ in range(3)]
            rooms = list(dict.fromkeys((*rooms, f"doomed-{number % 3}")))
            if await guest.join(*rooms):
                for _ in range(self._chance.randrange(20)):
                    guest.say(self._chance.choice(rooms[:-1] or rooms))
                    await self._pause(0.0, 0.1)
                await guest.leave(rooms[0])
                await self._pause(0.0, 1.0)
            if self._chance.random() < 0.7:
                await guest.finish_speaking()
            await self._goes(guest)

    async def _in_crowd(self, number: int) -> None:
        """Hears the flood."""
        async with self._guest("crowd", number, namespace="/") as guest:
            if guest is None:
                return
            await guest.join(FLOODED[number % 2])
            await self._ends(guest)
            await self._stays(guest)

    async def _ends(self, guest: Guest) -> None:
        """Return when the cycle is over, or the server has closed the client."""
        while not self.over.is_set() and not guest.client.ended.is_set():
            await self._pause(0.1, 0.2)

    async def _listener(self, number: int) -> None:
        """Listens to a room, without being in it."""
        room = self._chance.choice(("hall", "hall", "room-1", "flood-1"))
        path = f"/listen/{{}}/{room}"
        async with self._guest(
            "listener", number, path, namespace="/", listens_to=(room,)
        ) as guest:
            if guest is None:
                return
            if await guest.answer() == "joined":
                guest.hearer.joined(time.time(), guest.full(room))
                await self._pause(0.2, 5.0)
            await self._goes(guest)

    async def _mute(self, number: int) -> None:
        """Does not read what it is flooded with."""
        async with self._guest("mute", number, namespace="/") as guest:
            if guest is None:
                return
            await guest.join(*FLOODED)
            guest.client.stop_reading()
            await self._pause(1.0, 8.0)
            await guest.go(politely=False)

    async def _asker(self, number: int) -> None:
        """Asks both workers for things, and has clients closed wherever they are."""
        async with self._guest("asker", number) as guest:
            if guest is None:
                return
            for verb, room in (
                ("count", "hall"),
                ("fetch", "hall"),
                ("lure", f"room-{self._chance.randrange(100)}"),
                ("disconnect", f"doomed-{self._chance.randrange(3)}"),
            ):
                answer = await guest.ask(verb, room)
                self._ledger.counts[
                    "requests that failed" if "failed" in answer else "requests"
                ] += 1
                await self._pause(0.0, 0.5)
            await self._goes(guest)

    async def _flooder(self, number: int) -> None:
        """Sends thousands of messages to two rooms as fast as they are read."""
        await self._pause(1.0, 5.0)
        worker = number + self._chance.randrange(2)
        async with self._guest("flooder", worker, namespace="/") as guest:
            if guest is None:
                return
            for _ in range(self._chance.randrange(self._flood // 10, self._flood)):
                guest.say(self._chance.choice(FLOODED))
                await guest.client.writable()
            self._ledger.counts["floods"] += 1
            await guest.finish_speaking()
            await self._goes(guest)
