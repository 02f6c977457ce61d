"""A TCP proxy that breaks connections in all the ways a network does.

    async with Proxy("127.0.0.1", 6379) as proxy:
        rooms = RoomManager(f"redis://{proxy.host}:{proxy.port}")
        ...
        proxy.cut()           # every connection is reset; new ones get through
        proxy.refuse()        # nobody is listening: reset, and new ones are refused
        await proxy.accept()  # as before
        proxy.stall()         # half-open: connections stay up, and nothing moves on them
        proxy.stall(Direction.TO_CLIENT)  # the server hears, and is not heard
        proxy.resume()        # what waited is sent
        proxy.slow(0.1)       # every byte takes so much longer, each way or one of them
        proxy.lead_to("127.0.0.1", 6380)  # new connections go elsewhere
        await proxy.heal()    # whatever was done: as before

It knows nothing of Redis and can stand before any server.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from enum import Flag, auto
from types import TracebackType
from typing import Self

CHUNK = 64 * 1024
_QUEUED_CHUNKS = 4
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Direction(Flag):
    """Which way bytes travel."""

    TO_SERVER = auto()
    TO_CLIENT = auto()
    BOTH = TO_SERVER | TO_CLIENT


class ProxyConnection:
    """One client's connection through the proxy, to be broken apart from the others."""

    def __init__(
        self,
        proxy: Proxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._writers = (client[1], server[1])
        self._task: asyncio.Task[None] | None = None
        self._ways = {
            Direction.TO_SERVER: _Way(proxy, Direction.TO_SERVER, client[0], server[1]),
            Direction.TO_CLIENT: _Way(proxy, Direction.TO_CLIENT, server[0], client[1]),
        }
        self.server_side: tuple[str, int] = server[1].get_extra_info("sockname")[:2]
        """The address the server knows this connection by: `addr` in Redis' `CLIENT LIST`."""

    def cut(self) -> None:
        """Reset it, at both ends."""
        for writer in self._writers:
            raw = writer.get_extra_info("socket")
            if raw is not None and raw.fileno() >= 0:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()
        if self._task is not None:
            self._task.cancel()

    def stall(self, direction: Direction = Direction.BOTH) -> None:
        """Let nothing through, and keep the connection up."""
        for way in direction:
            self._ways[way].open.clear()

    def resume(self, direction: Direction = Direction.BOTH) -> None:
        """Let through what waited, and what follows."""
        for way in direction:
            self._ways[way].open.set()

    def inject(self, data: bytes, direction: Direction = Direction.TO_CLIENT) -> None:
        """Say something in the other side's name."""
        for way in direction:
            self._ways[way].writer.write(data)

    async def run(self) -> None:
        """Forward until both sides are done, or either breaks."""
        self._task = asyncio.current_task()
        try:
            async with asyncio.TaskGroup() as ways:
                for way in self._ways.values():
                    ways.create_task(way.read())
                    ways.create_task(way.write())
        except* OSError:
            self._task = None
            self.cut()
        finally:
            self._task = None
            for writer in self._writers:
                await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close it once what was written has been sent, or at once if it was aborted."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


class _Way:
    """One direction of one connection."""

    def __init__(
        self,
        proxy: Proxy,
        direction: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._direction = direction
        self._reader = reader
        self.writer = writer
        self._chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED_CHUNKS)
        self.open = asyncio.Event()
        self.open.set()

    async def read(self) -> None:
        clock = asyncio.get_running_loop().time
        data = b"-"
        while data:
            data = await self._reader.read(CHUNK)
            await self._chunks.put((clock() + self._proxy.delays[self._direction], data))

    async def write(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due, data = await self._chunks.get()
            if due > clock():
                await asyncio.sleep(due - clock())
            await self.open.wait()
            if not data:
                self.writer.write_eof()
                return
            self.writer.write(data)
            await self.writer.drain()


class Proxy:
    """Forwards a port of its own to a server, until told otherwise.

    Args:
        host: the server's host.
        port: the server's port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._reserved: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stalled = Direction(0)
        self.connections: list[ProxyConnection] = []
        """The connections that are up, oldest first."""
        self.accepted = 0
        """How many there have been."""
        self.delays = {Direction.TO_SERVER: 0.0, Direction.TO_CLIENT: 0.0}
        """Seconds that everything takes longer that way."""
        self.host = "127.0.0.1"
        self.port = 0
        """Where it listens."""

    async def __aenter__(self) -> Self:
        # A second socket, which never listens, holds on to the port while connections are refused.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind((self.host, 0))
        self.port = self._reserved.getsockname()[1]
        await self._listen()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.refuse()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._reserved is not None:
            self._reserved.close()

    def cut(self) -> None:
        """Reset every connection. New ones get through."""
        for connection in list(self.connections):
            connection.cut()
        for task in self._tasks:  # some are on their way to the server still
            task.cancel()

    def refuse(self) -> None:
        """Reset every connection and refuse new ones, as when no server is there."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def lead_to(self, host: str, port: int) -> None:
        """Connect to another server from now on, as a name does that is given a new address.

        Connections that are up stay where they are.
        """
        self._target = (host, port)

    async def accept(self) -> None:
        """Let new connections through again after `refuse`."""
        if self._server is None:
            await self._listen()

    def stall(self, direction: Direction = Direction.BOTH) -> None:
        """Let nothing through on any connection, present or new, and keep them up."""
        self._stalled |= direction
        for connection in self.connections:
            connection.stall(direction)

    def resume(self, direction: Direction = Direction.BOTH) -> None:
        """Let everything through again, what waited first."""
        self._stalled &= ~direction
        for connection in self.connections:
            connection.resume(direction)

    def slow(self, delay: float, direction: Direction = Direction.BOTH) -> None:
        """Have everything take so many seconds longer; zero is as before."""
        for way in direction:
            self.delays[way] = delay

    async def heal(self) -> None:
        """Undo `refuse`, `stall` and `slow`. What was cut is for the clients to mend."""
        self.slow(0)
        self.resume()
        await self.accept()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._accepted, self.host, self.port, reuse_port=True
        )

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.create_task(self._serve(reader, writer), name="proxied connection")
        self._tasks.add(task)

        def done(_: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            writer.transport.abort()  # it was cut before it began, or no server was there

        task.add_done_callback(done)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server = await asyncio.open_connection(*self._target)
        except OSError:
            return
        connection = ProxyConnection(self, (reader, writer), server)
        connection.stall(self._stalled)
        self.connections.append(connection)
        try:
            await connection.run()
        finally:
            self.connections.remove(connection)
