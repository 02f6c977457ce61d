"""A connection with channels on a server that takes messages only as long as it is told so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.core.payload import Outgoing
from fastapi_rooms.servers.mux import MuxConnection
from fastapi_rooms.servers.mux.connection import MAX_TURN
from fastapi_rooms.testing import eventually
from fastapi_rooms.transports import Transport
from fastapi_rooms.wire import mux as wire


class FakeTransport:
    """Writes down what is sent, and is flushed if there is room."""

    def __init__(self, receive: Callable[[], Awaitable[Message]]) -> None:
        self.receive = receive
        self.writes: list[Outgoing] = []
        self.room = asyncio.Event()
        self.room.set()
        self.log: list[str] = []
        self.is_lost = False

    def write(self, message: Outgoing) -> None:
        self.writes.append(message)
        self.log.append("write")

    @property
    def is_flushed(self) -> bool:
        return self.room.is_set()

    async def flush(self) -> bool:
        await self.room.wait()
        return not self.is_lost

    async def drain(self, timeout: float) -> None:
        self.log.append("drain")

    def stop(self) -> None:
        self.log.append("stop")

    def said(self) -> list[Any]:
        """All control messages."""
        texts = [part.text for one in self.writes for part in one.parts]
        return [json.loads(text[2:]) for text in texts if text.startswith("0:")]


class Client:
    """Has said some things, and goes when it is told to."""

    def __init__(self, application: Any, *said: str, path: str = "/") -> None:
        self.said = list(said)
        self.gone = asyncio.Event()
        self.more = asyncio.Event()
        self.transport = FakeTransport(self._receive)
        scope = {
            "type": "websocket",
            "path": path,
            "headers": [(b"Sec-WebSocket-Protocol", b"rooms.mux.v1"), (b"cookie", b"a=b")],
            "subprotocols": [wire.SUBPROTOCOL],
        }
        self.connection = MuxConnection(
            application,
            scope,
            self._receive,
            self._send,
            max_channels=9,
            open_transport=self._open_transport,
        )
        self.running = asyncio.create_task(self.connection.run())

    async def _receive(self) -> Message:
        await asyncio.sleep(0)
        if self.said:
            return {"type": "websocket.receive", "text": self.said.pop(0)}
        waiting = [asyncio.ensure_future(one.wait()) for one in (self.gone, self.more)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for each in waiting:
            each.cancel()
        self.more.clear()
        if self.said:
            return {"type": "websocket.receive", "text": self.said.pop(0)}
        return {"type": "websocket.disconnect", "code": 1001}

    async def _send(self, message: Any) -> None:
        self.transport.log.append(message["type"])

    def _open_transport(
        self,
        websocket: WebSocket,
        policy: OutboxPolicy,
        on_overflow: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> Transport:
        return cast("Transport", self.transport)

    async def leave(self) -> None:
        self.transport.room.set()
        self.gone.set()
        await self.running


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        await send({**message, "type": "websocket.send"})


async def test_a_client_that_reads_no_refusals_is_not_read_from() -> None:
    client = Client(echo, *['0:{"open":1,"path":"x"}'] * 100)
    client.transport.room.clear()
    await turns()
    assert len(client.said) == 99
    assert len(client.transport.said()) == 1
    await client.leave()
    assert client.transport.said() == [{"denied": 1, "status": 400}] * 100


async def test_a_client_that_reads_no_ends_of_channels_is_not_read_from() -> None:
    both = ['0:{"open":1,"path":"/"}', '0:{"close":1}']
    client = Client(echo, *both * 100)
    client.transport.room.clear()
    await turns()
    assert len(client.said) == 198
    await client.leave()
    ends = [said for said in client.transport.said() if "closed" in said]
    assert len(ends) == 100


async def test_one_that_sends_to_a_client_that_does_not_read_waits() -> None:
    sent = 0

    async def flood(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            await send({"type": "websocket.send", "text": "x"})
            sent += 1

    client = Client(flood, '0:{"open":1,"path":"/"}')
    client.transport.room.clear()
    await turns()
    assert sent == 0
    client.running.cancel()
    client.transport.room.set()
    await asyncio.wait((client.running,))


async def test_one_that_sends_what_is_for_no_channel_lets_others_go_on() -> None:
    async def receive() -> Message:
        return {"type": "websocket.receive", "text": "1:for nobody"}

    client = Client(echo)
    client.transport.receive = receive
    client.said.append("1:for nobody")
    client.more.set()
    await turns(3)
    client.running.cancel()
    await asyncio.wait((client.running,))


async def test_what_is_sent_in_a_turn_is_one_write_unless_it_is_long() -> None:
    client = Client(echo)
    await turns(5)
    for _ in range(10):
        client.connection.write(b"1:x")
    await turns(2)
    assert client.transport.log.count("write") == 1
    client.connection.write(bytes(MAX_TURN + 1), binary=True)
    assert client.transport.log.count("write") == 2
    await client.leave()


async def test_what_was_sent_goes_out_before_whatever_ends_the_connection() -> None:
    client = Client(echo)
    await turns(5)
    client.connection.write(b"1:x")
    await client.connection.drain(1)
    assert client.transport.log == ["websocket.accept", "write", "drain"]
    client.connection.write(b"1:x")
    await client.connection._close(1002, "")
    assert client.transport.log[3:] == ["write", "websocket.close"]
    await client.leave()
    another = Client(echo)
    await turns(5)
    another.running.cancel()
    another.connection.write(b"1:x")
    await asyncio.wait((another.running,))
    assert another.transport.log[-2:] == ["write", "stop"]


async def test_an_endpoint_sees_the_subprotocols_of_its_channel_and_all_other_headers() -> None:
    seen: list[Any] = []

    async def look(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope["headers"], scope["subprotocols"]))

    said = ['0:{"open":1,"path":"/","protocols":["a","b"]}', '0:{"open":2,"path":"/"}']
    await Client(look, *said).leave()
    assert seen == [
        ([(b"cookie", b"a=b"), (b"sec-websocket-protocol", b"a, b")], ["a", "b"]),
        ([(b"cookie", b"a=b")], []),
    ]


async def test_a_connection_that_was_cancelled_waits_for_no_channel() -> None:
    client = Client(echo, '0:{"open":1,"path":"/"}')
    await turns(10)
    client.running.cancel()
    await asyncio.wait((client.running,))
    await turns(2)
    assert client.connection._idle is None


async def test_credit_is_given_once_the_client_reads_what_was_sent_before() -> None:
    taken = 0

    async def take(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal taken
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            taken += 1

    client = Client(take, '0:{"open":1,"path":"/"}')
    await turns()
    client.transport.room.clear()
    client.said += ["1:" + "x" * 20_000] * 3
    client.more.set()
    await turns()
    assert taken == 3
    assert [said for said in client.transport.said() if "credit" in said] == []
    client.transport.room.set()
    await turns()
    assert [said["credit"] for said in client.transport.said() if "credit" in said] == [1]
    await client.leave()


async def test_credit_is_given_at_once_to_a_client_that_reads() -> None:
    client = Client(echo, '0:{"open":1,"path":"/"}', "1:" + "x" * 40_000)
    await turns()
    assert [said["credit"] for said in client.transport.said() if "credit" in said] == [1]
    assert client.connection._crediting is None
    await client.leave()


@pytest.mark.parametrize("ends", ["cancelled", "lost"])
async def test_credit_that_is_still_to_be_given_ends_with_the_connection(ends: str) -> None:
    client = Client(echo, '0:{"open":1,"path":"/"}')
    await turns()
    client.transport.room.clear()
    client.said.append("1:" + "x" * 40_000)
    client.more.set()
    await turns()
    crediting = client.connection._crediting
    assert crediting is not None
    if ends == "cancelled":
        client.running.cancel()
    else:
        client.transport.is_lost = True
        client.transport.room.set()
        client.gone.set()
    await asyncio.wait((client.running,))
    await asyncio.wait((crediting,))
    assert crediting.cancelled() is (ends == "cancelled")
    assert [said for said in client.transport.said() if "credit" in said] == []


async def test_a_connection_is_closed_once_for_all_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi_rooms.servers.mux.connection.IDLE_TIMEOUT", 0.0)
    client = Client(echo)
    await eventually(lambda: "websocket.close" in client.transport.log)
    client.said.append("nonsense")
    client.more.set()
    await client.running
    assert client.transport.log.count("websocket.close") == 1
