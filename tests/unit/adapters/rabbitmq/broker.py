"""A broker that says what a test has it say, over real connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import pamqp.frame
from pamqp import body, commands, header

Answer = Callable[[Any], Any]


class Connection:
    """One client's."""

    def __init__(self, broker: Broker, writer: asyncio.StreamWriter) -> None:
        self._broker = broker
        self._writer = writer
        self.published: list[bytes] = []
        """The bodies of what came; the first is that by which a publisher tries its permission."""
        self._missing = -1
        self._body = b""

    def say(self, *frames: Any, channel: int = 1) -> None:
        """Send frames to the client."""
        for frame in frames:
            self.write(pamqp.frame.marshal(frame, channel))

    def deliver(self, data: bytes, *, channel: int = 2, tag: int = 1) -> None:
        """Deliver a message."""
        deliver = commands.Basic.Deliver("c", tag, False, "rooms", "key")
        self.say(deliver, header.ContentHeader(body_size=len(data)), channel=channel)
        if data:
            self.say(body.ContentBody(data), channel=channel)

    def give_back(self, data: bytes) -> None:
        """Say that a message reached nobody."""
        returned = commands.Basic.Return(312, "NO_ROUTE", "rooms", "key")
        parts = header.ContentHeader(body_size=len(data)), body.ContentBody(data)
        self.say(returned, *parts)

    def write(self, data: bytes) -> None:
        """Send any bytes."""
        self._writer.write(data)

    def end(self) -> None:
        """Close it without a word."""
        self._writer.close()

    def came(self, channel: int, frame: Any) -> None:
        if isinstance(frame, header.ContentHeader):
            self._missing, self._body = frame.body_size, b""
        elif isinstance(frame, body.ContentBody):
            self._body += frame.value
        else:
            self._broker.came.append(frame)
            answer = self._broker.answers.get(type(frame), _answer)(frame)
            if answer is not None:
                self.say(answer, channel=channel)
            return
        if len(self._body) == self._missing:
            self.published.append(self._body)
            if self._broker.confirms or len(self.published) == 1:
                self.say(commands.Basic.Ack(len(self.published)))


def _answer(frame: Any) -> Any:
    """What RabbitMQ answers when all is well."""
    if isinstance(frame, commands.Connection.StartOk):
        return commands.Connection.Tune(2047, 131072, 60)
    if isinstance(frame, commands.Queue.Declare):
        return commands.Queue.DeclareOk(frame.queue, 0, 0)
    if isinstance(frame, commands.Basic.Consume):
        return commands.Basic.ConsumeOk("c")
    if not frame.valid_responses or isinstance(frame, commands.Connection.TuneOk):
        return None
    group, name = frame.valid_responses[0].split(".")
    return getattr(getattr(commands, group), name)()


class Broker:
    """Listens, and answers what nobody has told it to answer as RabbitMQ does."""

    def __init__(self) -> None:
        self.answers: dict[type, Answer] = {}
        self.confirms = True
        self.start = commands.Connection.Start(0, 9, {"product": "Fake"}, "PLAIN", "en_US")
        self.connections: list[Connection] = []
        self.came: list[Any] = []
        """The methods that came."""

    @property
    def last(self) -> Connection:
        """The newest connection."""
        return self.connections[-1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, writer)
        self.connections.append(connection)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(8)
            connection.say(self.start, channel=0)
            while True:
                head = await reader.readexactly(7)
                rest = await reader.readexactly(int.from_bytes(head[3:7], "big") + 1)
                _, channel, frame = pamqp.frame.unmarshal(head + rest)
                if head[0] != 8:
                    connection.came(channel, frame)
        writer.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = "amqp://{}:{}".format(*self._server.sockets[0].getsockname())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for connection in self.connections:
            connection.end()
