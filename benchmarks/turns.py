"""How long one turn of the event loop takes while a worker works on very many rooms or sockets.

    python -m benchmarks.turns                      # everything
    python -m benchmarks.turns --rooms 200000 resubscribe
    python -m benchmarks.turns --sockets 100000 leave disconnect

Each case prints the longest turns. A turn is counted by the CPU time of the thread, so that other
programs on the machine do not matter much. Python's garbage collector is off meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from asyncio import events
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from typing import Any, NamedTuple

from starlette.types import Message
from starlette.websockets import WebSocket

from fastapi_rooms import Gap, RequestError, RoomManager, Socket
from fastapi_rooms.adapters import Outage
from fastapi_rooms.testing import RedisServer, eventually

SHOWN = 3
"""How many of the longest turns are printed."""

PART = 2000
"""Rooms that one listener listens to."""

PATIENCE = 120.0
"""Seconds that anything may take."""

PLENTY = 10**9
"""A limit that nothing reaches."""

LIMIT = 0.020
"""Seconds; turns that took longer are counted."""

Turns = list[tuple[float, str]]


@contextmanager
def counted_turns() -> Iterator[Turns]:
    """The seconds of every call that the event loop makes, and what it was."""
    turns: Turns = []
    handle: Any = events.Handle
    original = handle._run

    def run(self: Any) -> None:
        begin = time.thread_time()
        original(self)
        seconds = time.thread_time() - begin
        owner = getattr(self._callback, "__self__", None)
        turns.append((seconds, owner.get_name() if isinstance(owner, asyncio.Task) else repr(self)))

    handle._run = run
    try:
        yield turns
    finally:
        handle._run = original


async def measured(name: str, work: Callable[[], Awaitable[object]]) -> None:
    """Do some work, and print the longest turns of that time."""
    gc.collect()
    gc.disable()  # it goes through all objects there are, whoever's turn it is
    with counted_turns() as turns:
        await asyncio.sleep(0)  # the turn that this is in was not counted from its beginning
        begin = time.monotonic()
        result = await work()
        await asyncio.sleep(0)
        seconds = time.monotonic() - begin
    gc.enable()
    del result  # which takes its time, and is the caller's to do
    too_long = sum(each > LIMIT for each, _ in turns)
    print(f"{name}: {seconds:.2f} s, {len(turns)} turns, {too_long} of them over 20 ms")
    for each, what in sorted(turns, reverse=True)[:SHOWN]:
        print(f"{each * 1000:9.1f} ms  {what[:100]}", flush=True)


class Scale(NamedTuple):
    """How many there are of each."""

    rooms: int
    sockets: int
    url: str


# Rooms: listeners have them, a few thousand each.


@asynccontextmanager
async def listening(manager: RoomManager, rooms: int) -> AsyncIterator[None]:
    """Listen to so many rooms."""
    begun: list[int] = []

    async def listen(first: int) -> None:
        names = [f"room {number}" for number in range(first, min(first + PART, rooms))]
        async with manager.listen(*names) as messages:
            begun.append(first)
            async for _ in messages:
                pass

    parts = range(0, rooms, PART)
    async with asyncio.TaskGroup() as tasks:
        listeners = [tasks.create_task(listen(first)) for first in parts]
        await eventually(lambda: len(begun) == len(parts), PATIENCE)
        yield
        for listener in listeners:
            listener.cancel()


async def resubscribe(scale: Scale) -> None:
    """The subscribing connection is killed, everything is subscribed again, and a gap is told."""
    with RedisServer() as redis:
        async with RoomManager(redis.url, join_timeout=PATIENCE) as manager:
            gaps: list[Gap] = []
            manager.on("gap")(gaps.append)

            async def lose() -> None:
                await asyncio.to_thread(redis.command, "CLIENT", "KILL", "TYPE", "pubsub")
                await eventually(lambda: gaps and manager.health.reconnects, PATIENCE)

            async with listening(manager, scale.rooms):
                await measured(f"resubscribe {scale.rooms} rooms", lose)


async def unsubscribe(scale: Scale) -> None:
    """All rooms are left at once, and unsubscribed from when they have lingered."""
    with RedisServer() as redis:
        async with RoomManager(redis.url, join_timeout=PATIENCE, linger=0.1) as manager:
            adapter: Any = manager._runtime.adapter
            stack = listening(manager, scale.rooms)
            await stack.__aenter__()

            async def leave() -> None:
                await stack.__aexit__(None, None, None)
                subscriber = adapter._node.subscriber
                await eventually(lambda: len(subscriber._subscriptions.wanted) < PART, PATIENCE)

            await measured(f"leave and unsubscribe {scale.rooms} rooms", leave)


async def history(scale: Scale) -> None:
    """All rooms remember, and may have missed something; and they are compared now and then."""
    manager = RoomManager(scale.url, join_timeout=PATIENCE)
    manager.history("room *")
    async with manager, listening(manager, scale.rooms):
        here: Any = manager._here
        run, logs = manager._runtime.run, here.recovery.logs
        channels = frozenset(entry.key.channel for entry in logs._entries.values())
        outage = Outage(time.time() - 1, time.time(), channels)

        async def doubt() -> None:
            run.gap(outage)
            await eventually(lambda: not logs._tasks, PATIENCE)

        async def compare() -> None:
            logs._compare_soon()
            await eventually(lambda: not logs._tasks, PATIENCE)

        await measured(f"read {scale.rooms} rooms again", doubt)
        await measured(f"compare {scale.rooms} rooms", compare)


async def many_rooms(scale: Scale) -> None:
    """Another worker has so many rooms: it is asked for them, and this one for its own."""
    async with (
        manager_of(scale) as one,
        manager_of(scale) as two,
    ):
        two.on("worker-lost")(lambda _: None)
        async with rooms_of(two, scale.rooms):
            await measured(f"all_rooms of another, {scale.rooms}", one.all_rooms)
            await measured(f"all_rooms of our own, {scale.rooms}", two.all_rooms)


@asynccontextmanager
async def rooms_of(manager: RoomManager, rooms: int) -> AsyncIterator[None]:
    """Have so many rooms, of a few sockets."""
    async with crowd(manager, max(rooms // PART, 1)) as sockets:
        for number, socket in enumerate(sockets):
            first = number * PART
            await socket.join(*[f"room {n}" for n in range(first, first + PART)])
        yield


# Sockets.


class Client:
    """A client that takes everything at once, and stays until it is closed."""

    def __init__(self) -> None:
        self._closed: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._connected = False
        scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b""}
        self.websocket = WebSocket(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        return await self._closed

    async def _send(self, message: Message) -> None:
        if message["type"] == "websocket.close":
            self.leave()

    def leave(self) -> None:
        """Go, unless the connection is closed already."""
        if not self._closed.done():
            self._closed.set_result({"type": "websocket.disconnect", "code": 1000})


@asynccontextmanager
async def crowd(manager: RoomManager, count: int, *rooms: str) -> AsyncIterator[list[Socket]]:
    """So many sockets in some rooms."""
    sockets: list[Socket] = []
    clients = [Client() for _ in range(count)]

    async def endpoint(client: Client, number: int) -> None:
        with suppress(Exception):
            async with manager.connect(client.websocket, data={"number": number}) as socket:
                await socket.join(*rooms)
                sockets.append(socket)
                await socket.wait_closed()

    async with asyncio.TaskGroup() as tasks:
        for number, client in enumerate(clients):
            tasks.create_task(endpoint(client, number))
            if number % 100 == 0:
                await asyncio.sleep(0)
        await eventually(lambda: len(sockets) == count, PATIENCE)
        yield sockets
        for client in clients:
            client.leave()


def manager_of(scale: Scale) -> AbstractAsyncContextManager[RoomManager]:
    """One that may take as long as it needs."""
    return RoomManager(
        scale.url,
        request_timeout=PATIENCE,
        join_timeout=PATIENCE,
        drain_window=1,
        drain_timeout=PATIENCE,
        max_rooms_per_socket=PLENTY,
    )


async def sockets(scale: Scale) -> None:
    """What another worker, or this one, does with so many sockets in one room."""
    count = scale.sockets
    async with (
        manager_of(scale) as other,
        manager_of(scale) as manager,
        crowd(manager, count, "tea"),
    ):
        for name, work in (
            ("count of another", other.count),
            ("workers", other.workers),
            ("fetch_sockets of another", other.fetch_sockets),
            ("fetch_sockets here", manager.to("tea").fetch_sockets),
            ("fetch_sockets here, of two rooms", manager.to("tea", "bar").fetch_sockets),
            ("fetch_sockets here, but for one", manager.except_("bar").fetch_sockets),
            ("all_rooms of another", other.all_rooms),
            ("send", lambda: manager.to("tea").send_text("hello")),
            ("send to two rooms", lambda: manager.to("tea", "x").send_text("hello")),
            ("send but for many", lambda: manager.except_("tea").send_text("hello")),
            ("sockets_join", lambda: manager.to("tea").sockets_join("bar")),
            ("sockets_join of another", lambda: other.to("tea").sockets_join("pub")),
            ("sockets_join two", lambda: manager.to("tea").sockets_join("one", "two")),
            ("send to two crowds", lambda: manager.to("tea", "bar").send_text("hello")),
            ("sockets_leave", lambda: manager.to("tea").sockets_leave("bar")),
            ("sockets_leave of another", lambda: other.to("tea").sockets_leave("pub")),
            ("sockets_leave two", lambda: manager.to("tea").sockets_leave("one", "two")),
            ("disconnect_sockets", lambda: manager.to("tea").disconnect_sockets()),
        ):
            await measured(f"{name}, {count} sockets", work)


async def lost(scale: Scale) -> None:
    """The connection is lost that carried so many sockets, each in its own room."""
    count = scale.sockets
    with RedisServer() as redis:
        async with RoomManager(redis.url, join_timeout=PATIENCE, drain_window=1) as manager:
            gaps: list[Gap] = []
            manager.on("gap")(gaps.append)

            async def lose() -> None:
                await asyncio.to_thread(redis.command, "CLIENT", "KILL", "TYPE", "pubsub")
                await eventually(lambda: gaps and manager.health.reconnects, PATIENCE)

            async with crowd(manager, count, "tea"):
                await measured(f"a gap beside {count} sockets", lose)


async def drain(scale: Scale) -> None:
    """A worker with so many sockets drains."""
    async with manager_of(scale) as manager, crowd(manager, scale.sockets, "tea"):
        await measured(f"drain of {scale.sockets} sockets", manager.drain)


async def stop(scale: Scale) -> None:
    """A worker stops whose sockets could not be drained in time."""
    manager = RoomManager(scale.url, drain_window=0, drain_timeout=0.001)
    await manager.start()
    async with crowd(manager, scale.sockets, "tea"):
        with suppress(RequestError):
            await measured(f"stop with {scale.sockets} sockets", manager.stop)


async def presence(scale: Scale) -> None:
    """Rooms know who is present: they are entered, and put in again after Redis has forgotten."""
    with RedisServer() as redis:
        manager = RoomManager(
            redis.url, join_timeout=PATIENCE, drain_window=1, max_rooms_per_socket=PLENTY
        )
        manager.presence("*", grace=0)
        async with manager, crowd(manager, max(scale.rooms // PART, 1)) as members:
            names = [[f"room {n} {m}" for n in range(PART)] for m in range(len(members))]

            async def enter() -> None:
                joins = zip(members, names, strict=True)
                await asyncio.gather(*(socket.join(*rooms) for socket, rooms in joins))

            async def forget() -> None:
                await asyncio.to_thread(redis.command, "FLUSHALL")
                await again(manager)

            await measured(f"enter {len(members) * PART} rooms", enter)
            await measured(f"put {len(members) * PART} rooms in again", forget)
        async with manager, crowd(manager, scale.sockets, "tea"):
            await measured(f"put {scale.sockets} users in again", lambda: again(manager))


async def again(manager: RoomManager) -> None:
    """Put in again who is present, as with a new lease."""
    keeper = manager._runtime.presence.running
    keeper._sync_all()
    await eventually(lambda: not (keeper._unsynced or keeper._due or keeper._telling), PATIENCE)


CASES: dict[str, Callable[[Scale], Awaitable[None]]] = {
    "resubscribe": resubscribe,
    "unsubscribe": unsubscribe,
    "history": history,
    "rooms": many_rooms,
    "sockets": sockets,
    "lost": lost,
    "drain": drain,
    "stop": stop,
    "presence": presence,
}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all when left out")
    parser.add_argument("--rooms", type=int, default=200_000)
    parser.add_argument("--sockets", type=int, default=100_000)
    arguments = parser.parse_args()
    scale = Scale(arguments.rooms, arguments.sockets, "memory://turns")
    for name in arguments.cases or CASES:
        asyncio.run(CASES[name](scale))


if __name__ == "__main__":
    main()
