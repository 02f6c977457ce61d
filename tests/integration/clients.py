"""WebSocket clients that drive the endpoint of `apps`, and plain HTTP."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import secrets
import socket
from collections.abc import AsyncIterator, Generator, Iterable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.integration.servers import Server

TIMEOUT = 20.0
_REPLY = '{"reply":'
_MARK = "mark "

Message = str | bytes


class Refused(Exception):
    """What the endpoint was told to do raised."""

    def __init__(self, error: str, message: str, **details: Any) -> None:
        super().__init__(f"{error}: {message}")
        self.error = error
        self.details = details
        """What else it says."""


class Call:
    """A chain of attributes and calls, which the endpoint follows when this is awaited.

    await ann.rooms.to("tea").except_(bob.sid).send_text("hello")
    """

    def __init__(self, client: Client, name: str, steps: tuple[Any, ...] = ()) -> None:
        self._client = client
        self._name = name
        self._steps = steps

    def __getattr__(self, attribute: str) -> Call:
        return Call(self._client, self._name, (*self._steps, attribute))

    def __call__(self, *arguments: Any, **named: Any) -> Call:
        step = [[*map(_portable, arguments)], named]
        return Call(self._client, self._name, (*self._steps, step))

    def __await__(self) -> Generator[Any, None, Any]:
        return self._client.command(self._name, self._steps).__await__()

    def begin(self) -> asyncio.Task[Any]:
        """Have it done, and go on meanwhile."""
        return asyncio.create_task(self._client.command(self._name, self._steps))


def _portable(argument: Any) -> Any:
    if isinstance(argument, bytes):
        return {"base64": base64.b64encode(argument).decode()}
    return argument


async def dial(
    server: Server, path: str = "/ws", *, buffer: int | None = None, **options: Any
) -> ClientConnection:
    """A connection that does nothing by itself, with a receive buffer of that size."""
    settings = {"max_size": None, "ping_interval": None, "compression": None} | options
    if buffer is not None:
        settings["sock"] = sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.connect(("127.0.0.1", server.port))
        sock.setblocking(False)
    return await connect(server.url(path), **settings)


class Client:
    """A connection to one endpoint, which keeps its answers apart from what the rooms say."""

    def __init__(self, connection: ClientConnection, sid: str, worker: int) -> None:
        self.connection = connection
        self.sid = sid
        self.worker = worker
        """The process id of the worker that serves it."""
        self.socket = Call(self, "socket")
        self.rooms = Call(self, "rooms")
        self.app = Call(self, "app")
        self._numbers = itertools.count()
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._heard: asyncio.Queue[Message] = asyncio.Queue()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def connect(
        cls, server: Server, path: str = "/ws", *, buffer: int | None = None, **options: Any
    ) -> Client:
        """Connect, with a receive buffer of that size, and read the endpoint's welcome."""
        connection = await dial(server, path, buffer=buffer, **options)
        async with asyncio.timeout(TIMEOUT):
            welcome = json.loads(await connection.recv())
        return cls(connection, welcome["sid"], welcome["worker"])

    async def command(self, name: str, steps: tuple[Any, ...]) -> Any:
        """Have the endpoint follow a chain, and return what came of it."""
        number = next(self._numbers)
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        await self.connection.send(json.dumps([number, name, steps]))
        async with asyncio.timeout(TIMEOUT):
            answer = await reply
        if "error" in answer:
            raise Refused(**{name: answer[name] for name in answer if name != "reply"})
        return answer["value"]

    async def next(self) -> Message:
        """The next message that is no answer."""
        async with asyncio.timeout(TIMEOUT):
            return await self._heard.get()

    @property
    def unread(self) -> int:
        """How many messages that are no answer have come, and were not taken."""
        return self._heard.qsize()

    async def until(self, mark: str) -> list[Message]:
        """What came before `mark`, other marks left out."""
        messages = []
        while (message := await self.next()) != mark:
            if not (isinstance(message, str) and message.startswith(_MARK)):
                messages.append(message)
        return messages

    async def closed(self) -> int | None:
        """Wait for the end of the connection; return the server's close code, if it sent one."""
        async with asyncio.timeout(TIMEOUT):
            await self.connection.wait_closed()
        await asyncio.wait((self._reader,))
        return self.connection.close_code

    async def close(self) -> None:
        """Say goodbye."""
        await self.connection.close()
        await asyncio.wait((self._reader,))

    def vanish(self) -> None:
        """Cut the connection without a word."""
        self.connection.transport.abort()

    def stop_reading(self) -> None:
        """Leave what comes to the buffers on the way, until they are full."""
        self.connection.transport.pause_reading()

    def read_on(self) -> None:
        """Take what has come, and all that comes."""
        self.connection.transport.resume_reading()

    def _messages_in(self, frame: Message) -> Iterable[Message]:
        return (frame,)

    def _hear(self, message: Message) -> None:
        self._heard.put_nowait(message)

    async def _read(self) -> None:
        try:
            async for frame in self.connection:
                for message in self._messages_in(frame):
                    if isinstance(message, str) and message.startswith(_REPLY):
                        answer = json.loads(message)
                        self._replies.pop(answer["reply"]).set_result(answer)
                    else:
                        self._hear(message)
        except ConnectionClosed:
            pass
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(ConnectionError("closed before the endpoint answered"))
                reply.exception()  # whoever waits for it is told, but nobody has to wait


async def heard(sender: Client, *clients: Client) -> list[list[Message]]:
    """What each client has heard until now.

    A last message from `sender` to everyone in its namespace marks the end: what one worker sends
    arrives in order, so there is nothing to wait for in vain.
    """
    mark = f"{_MARK}{secrets.token_hex(8)}"
    await sender.rooms.send_text(mark)
    return [await client.until(mark) for client in clients]


async def talk_until_given_up(server: Server, ann: Client, bob: Client, mute: Client) -> None:
    """Have `mute` stop reading, and `ann` tell the room so much that it is given up.

    `bob` gets every word of it, and `ann` waits for him each time: it is not he who is slow.
    """
    await bob.socket.join("tea")
    await mute.socket.join("tea")
    mute.stop_reading()
    word = "." * 128 * 1024
    for _ in range(400):
        await ann.rooms.to("tea").send_text(word)
        assert await bob.next() == word
        if mute.sid not in (await http(server, "/state"))["sids"]:
            return
    raise AssertionError("50 MiB were sent to a client that reads nothing")


async def http(server: Server, path: str, method: str = "GET") -> Any:
    """The JSON that a route answers with, over a connection of its own: any worker may answer."""
    async with _response(server, path, method) as lines:
        return json.loads("".join([line async for line in lines]))


@asynccontextmanager
async def server_sent_events(server: Server, room: str) -> AsyncIterator[AsyncIterator[str]]:
    """A room as the SSE route tells it, from when it listens."""

    async def data(lines: AsyncIterator[str]) -> AsyncIterator[str]:
        async for line in lines:
            if line.startswith("data: "):
                yield line.removeprefix("data: ").rstrip("\n")

    async with _response(server, f"/listen/{quote(room, safe='')}") as lines:
        async for line in lines:
            if line.startswith("event: listening"):
                break
        yield data(lines)


@asynccontextmanager
async def _response(
    server: Server, path: str, method: str = "GET"
) -> AsyncIterator[AsyncIterator[str]]:
    """The lines of a body that is as long as its connection, which is what HTTP/1.0 asks for."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)

    async def lines() -> AsyncIterator[str]:
        while True:
            async with asyncio.timeout(TIMEOUT):
                line = await reader.readline()
            if not line:
                return
            yield line.decode()

    try:
        writer.write(f"{method} {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        async with asyncio.timeout(TIMEOUT):
            head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head.splitlines()[0], head
        yield lines()
    finally:
        writer.close()
