"""The transport over ASGI `send`, whose `send` waits when it is told to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.core.payload import Batch, Payload
from fastapi_rooms.testing import eventually
from fastapi_rooms.transports.asgi import AsgiTransport


class Client:
    """The far end of a WebSocket: what arrived there, and whether more may."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self.reading = asyncio.Event()
        self.reading.set()
        self.gone = False
        self.overflows = 0

    async def send(self, message: Any) -> None:
        await self.reading.wait()
        if self.gone:
            raise OSError("the connection is lost")
        if message["type"] == "websocket.send":
            self.received.append(message.get("text") or message["bytes"].decode())

    async def receive(self) -> Any:
        return {"type": "websocket.connect"}

    def overflowed(self) -> None:
        self.overflows += 1


@pytest.fixture
async def client() -> Client:
    return Client()


async def transport_to(client: Client, policy: OutboxPolicy | None = None) -> AsgiTransport:
    scope = {"type": "websocket", "path": "/", "headers": []}
    websocket = WebSocket(scope, client.receive, client.send)
    await websocket.accept()
    return AsgiTransport(websocket, policy or OutboxPolicy(), client.overflowed)


def text(data: str) -> Payload:
    return Payload.of_text(data)


async def test_messages_arrive_in_order_however_they_are_sent(client: Client) -> None:
    transport = await transport_to(client)
    transport.write(text("1"))
    sending = asyncio.ensure_future(transport.send(text("2")))
    await asyncio.sleep(0)
    transport.write(Batch([text("3"), text("4")]))
    transport.write_volatile(text("5"))
    await sending
    await transport.flush()
    assert client.received == ["1", "2", "3", "4", "5"]
    assert transport.pending == 0


async def test_nothing_is_left_running_when_nothing_waits(client: Client) -> None:
    before = asyncio.all_tasks()
    transport = await transport_to(client)
    for number in range(100):
        transport.write(text(str(number)))
    await transport.flush()
    assert len(client.received) == 100
    assert asyncio.all_tasks() == before


async def test_nothing_counts_as_running_once_the_last_message_is_sent(client: Client) -> None:
    transport = await transport_to(client)
    client.reading.clear()
    transport.write(text("1"))
    await asyncio.sleep(0)
    [draining] = asyncio.all_tasks() - {asyncio.current_task()}
    client.reading.set()
    for _ in range(10):  # one turn after the other, to look at the very turn that it is done in
        if draining.done():
            break
        await asyncio.sleep(0)
    assert draining.done()
    flushing = transport.flush()
    with pytest.raises(StopIteration):  # at once: there is nothing to wait for
        flushing.send(None)
    transport.write(text("2"))
    transport.write(text("3"))
    await transport.flush()
    assert client.received == ["1", "2", "3"]


async def test_flushing_waits_for_what_waits_behind_the_endpoints_own_send(client: Client) -> None:
    transport = await transport_to(client)
    client.reading.clear()
    sending = asyncio.ensure_future(transport.send(text("1")))
    await asyncio.sleep(0)
    transport.write(text("2"))
    assert not transport.is_flushed
    flushing = asyncio.ensure_future(transport.flush())
    await asyncio.sleep(0)
    assert not flushing.done()
    client.reading.set()
    assert await flushing
    assert sending.done()
    assert client.received == ["1", "2"]
    assert transport.is_flushed


async def test_flushing_ends_with_the_client_that_the_endpoint_was_sending_to(
    client: Client,
) -> None:
    transport = await transport_to(client)
    client.reading.clear()
    sending = asyncio.ensure_future(transport.send(text("1")))
    await asyncio.sleep(0)
    flushing = asyncio.ensure_future(transport.flush())
    await asyncio.sleep(0)
    client.gone = True
    client.reading.set()
    assert not await flushing
    with pytest.raises(WebSocketDisconnect):
        await sending


async def test_writing_never_waits_for_a_client_that_does_not_read(client: Client) -> None:
    transport = await transport_to(client)
    client.reading.clear()
    for number in range(10):
        transport.write(text(str(number)))
    await eventually(lambda: transport.pending == 9 * (1 + ENTRY_BYTES))
    assert client.received == []
    client.reading.set()
    await transport.flush()
    assert client.received == [str(n) for n in range(10)]


async def test_a_send_waits_for_its_turn_and_for_the_client(client: Client) -> None:
    transport = await transport_to(client)
    client.reading.clear()
    transport.write(text("1"))
    await asyncio.sleep(0)
    sending = asyncio.ensure_future(transport.send(text("2")))
    await asyncio.sleep(0)
    assert not sending.done()
    client.reading.set()
    await sending
    assert client.received == ["1", "2"]


async def test_a_send_that_is_cancelled_delays_no_other(client: Client) -> None:
    transport = await transport_to(client)
    client.reading.clear()
    sending = asyncio.ensure_future(transport.send(text("1")))
    await asyncio.sleep(0)
    transport.write(text("2"))
    sending.cancel()
    client.reading.set()
    await asyncio.wait([sending])
    await eventually(lambda: client.received == ["2"])


async def test_a_waiting_send_that_is_cancelled_is_never_sent(client: Client) -> None:
    transport = await transport_to(client)
    client.reading.clear()
    transport.write(text("1"))
    await asyncio.sleep(0)
    sending = asyncio.ensure_future(transport.send(text("2")))
    await asyncio.sleep(0)
    transport.write(text("3"))
    assert transport.pending == 2 * (1 + ENTRY_BYTES)
    sending.cancel()
    await asyncio.wait([sending])
    assert transport.pending == 1 + ENTRY_BYTES
    client.reading.set()
    await transport.flush()
    assert client.received == ["1", "3"]


async def test_a_send_that_is_cancelled_in_the_turn_of_its_message_is_not_sent(
    client: Client,
) -> None:
    transport = await transport_to(client)
    client.reading.clear()
    transport.write(text("1"))
    await asyncio.sleep(0)
    sending = asyncio.ensure_future(transport.send(text("2")))
    await asyncio.sleep(0)
    client.reading.set()
    sending.cancel()  # it learns of that after the writing task has come to its message
    await transport.flush()
    assert client.received == ["1"]
    assert sending.cancelled()


async def test_a_queued_send_that_the_server_has_is_sent_even_if_it_is_cancelled(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver, asked_for = client.send, list[str]()
    gates = {name: asyncio.Event() for name in "12"}

    async def send(message: Any) -> None:
        asked_for.append(message["text"])
        await gates[message["text"]].wait()
        await deliver(message)

    transport = await transport_to(client)
    monkeypatch.setattr(transport._websocket, "send", send)
    transport.write(text("1"))
    queued = asyncio.ensure_future(transport.send(text("2")))
    await asyncio.sleep(0)
    gates["1"].set()
    await eventually(lambda: asked_for == ["1", "2"])
    queued.cancel()
    await asyncio.wait([queued])
    assert queued.cancelled()
    gates["2"].set()
    await transport.flush()
    assert client.received == ["1", "2"]


async def test_thousands_of_sends_that_are_cancelled_leave_nothing(client: Client) -> None:
    transport = await transport_to(client)
    client.reading.clear()
    transport.write(text("1"))
    await asyncio.sleep(0)
    for _ in range(5):
        sending = [asyncio.ensure_future(transport.send(text("x" * 1000))) for _ in range(1000)]
        await asyncio.sleep(0)
        assert transport.pending == 1000 * (1000 + ENTRY_BYTES)
        for send in sending:
            send.cancel()
        await asyncio.wait(sending)
        assert transport.pending == 0
    client.reading.set()
    await transport.flush()
    assert client.received == ["1"]


async def test_a_flush_that_is_cancelled_leaves_nothing(client: Client) -> None:
    transport = await transport_to(client)
    client.reading.clear()
    sending = asyncio.ensure_future(transport.send(text("1")))
    await asyncio.sleep(0)
    flushing = [asyncio.ensure_future(transport.flush()) for _ in range(3)]
    await asyncio.sleep(0)
    assert transport.pending == 3 * ENTRY_BYTES
    for flush in flushing[:2]:
        flush.cancel()
    await asyncio.wait(flushing[:2])
    assert transport.pending == ENTRY_BYTES
    client.reading.set()
    await sending
    assert await flushing[2]
    assert client.received == ["1"]


async def test_two_sends_never_reach_the_server_at_once(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even if all that the writing task was made for is taken back before it starts."""
    deliver, under_way = client.send, list[str]()

    async def send(message: Any) -> None:
        under_way.append(message["text"])
        assert len(under_way) == 1
        await deliver(message)
        if message["text"] == "3":
            await asyncio.sleep(0)
        under_way.clear()

    transport = await transport_to(client)
    monkeypatch.setattr(transport._websocket, "send", send)
    client.reading.clear()
    first = asyncio.ensure_future(transport.send(text("1")))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(transport.send(text("2")))
    await asyncio.sleep(0)
    client.reading.set()  # the first ends in the next turn, and starts a task to write the second
    second.cancel()  # which is gone when that task starts
    third = asyncio.ensure_future(transport.send(text("3")))
    asyncio.get_running_loop().call_soon(transport.write, text("4"))
    await asyncio.gather(first, third)
    await transport.flush()
    assert client.received == ["1", "3", "4"]


async def test_volatile_messages_skip_a_client_that_does_not_read(client: Client) -> None:
    transport = await transport_to(client)
    transport.write_volatile(text("1"))
    transport.write_volatile(text("2"))
    await transport.flush()
    client.reading.clear()
    transport.write(text("3"))
    await asyncio.sleep(0)
    transport.write_volatile(Batch([text("4"), text("5")]))
    client.reading.set()
    await transport.flush()
    assert client.received == ["1", "2", "3"]
    assert transport.dropped == 2


async def test_a_client_that_leaves_too_much_unread_overflows_once(client: Client) -> None:
    transport = await transport_to(client, OutboxPolicy(max_bytes=10))
    client.reading.clear()
    transport.write(text("on its way"))
    await asyncio.sleep(0)
    sending = asyncio.ensure_future(transport.send(text("pinned")))
    await asyncio.sleep(0)
    transport.write(text("too much"))
    transport.write(text("after"))
    with pytest.raises(WebSocketDisconnect):
        await sending
    assert client.overflows == 1
    assert transport.pending == 0
    with pytest.raises(WebSocketDisconnect):
        await transport.send(text("after"))
    await transport.flush()
    assert client.received == []


async def test_a_client_that_is_gone_ends_what_waits_for_it(client: Client) -> None:
    transport = await transport_to(client)
    client.reading.clear()
    transport.write(text("1"))
    await asyncio.sleep(0)
    sending = asyncio.ensure_future(transport.send(text("2")))
    await asyncio.sleep(0)
    client.gone = True
    client.reading.set()
    with pytest.raises(WebSocketDisconnect):
        await sending
    await transport.flush()
    assert client.overflows == 0


async def test_a_send_to_a_client_that_is_gone_says_so(client: Client) -> None:
    transport = await transport_to(client)
    client.gone = True
    with pytest.raises(WebSocketDisconnect):
        await transport.send(text("1"))


async def test_stopping_in_the_middle_of_a_send_fails_it(client: Client) -> None:
    transport = await transport_to(client)
    client.reading.clear()
    transport.write(text("0"))
    await asyncio.sleep(0)
    first, second = (asyncio.ensure_future(transport.send(text(t))) for t in "12")
    await asyncio.sleep(0)
    client.reading.set()
    await eventually(lambda: first.done() or bool(client.received))
    transport.stop()
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert all(r is None or isinstance(r, WebSocketDisconnect) for r in results)


async def test_asgi_cannot_cut_a_connection(client: Client) -> None:
    assert (await transport_to(client)).abort() is False


async def test_stopping_fails_the_send_that_is_under_way(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver = client.send

    async def send_one(message: Any) -> None:
        await deliver(message)
        if client.received:
            client.reading.clear()

    monkeypatch.setattr(client, "send", send_one)
    transport = await transport_to(client)
    client.reading.clear()
    transport.write(text("0"))
    await asyncio.sleep(0)
    sending = asyncio.ensure_future(transport.send(text("1")))
    await asyncio.sleep(0)
    client.reading.set()
    await eventually(lambda: client.received == ["0"] and transport.pending == 0)
    assert not sending.done()
    transport.stop()
    with pytest.raises(WebSocketDisconnect):
        await sending
    assert client.received == ["0"]
