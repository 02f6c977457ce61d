"""One channel by itself: what its application receives and sends."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.servers.mux.channel import MAX_WAITING, Channel
from fastapi_rooms.servers.mux.transport import ChannelTransport
from fastapi_rooms.wire import mux as wire


class FakeLine:
    """A connection that has room as long as it is told so."""

    def __init__(self) -> None:
        self.waiting = 0
        self.written: list[bytes] = []
        self.room = asyncio.Event()
        self.room.set()
        self.over: list[int] = []
        self.drained = 0
        self.running: asyncio.Task[None] | None = None

    def write(self, data: bytes, *, binary: bool = False) -> None:
        self.written.append(data)

    @property
    def is_flushed(self) -> bool:
        return self.room.is_set()

    async def flush(self) -> None:
        await self.room.wait()

    def owes_credit(self, channel: Channel) -> None:
        channel.give_credit()

    def is_over(self, channel: Channel) -> None:
        self.over.append(channel.number)

    async def drain(self, timeout: float) -> None:
        self.drained += 1

    def said(self) -> list[object]:
        """Control messages as JSON, and all else as it is; forgotten from now on."""
        written, self.written = self.written, []
        return [json.loads(one[2:]) if one[:2] == b"0:" else one for one in written]


async def opened(line: FakeLine, *, window: int = 1000) -> Channel:
    """A channel that is accepted, and whose application does nothing but wait."""
    channel = Channel(line, wire.Open(7, "/", (), window), {"type": "websocket"})

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.Event().wait()

    line.running = channel.start(application)
    await asyncio.sleep(0)
    assert line.said() == [{"opened": 7, "window": 65536}]
    return channel


def transport_of(channel: Channel, lost: list[str]) -> ChannelTransport:
    """A transport that writes down that its client is gone, or too slow."""
    websocket = WebSocket(channel.scope, channel.receive, channel.send)
    return ChannelTransport(
        websocket,
        channel,
        OutboxPolicy(max_bytes=2000),
        lambda: lost.append("slow"),
        lambda: lost.append("lost"),
    )


async def test_what_fits_is_written_at_once_and_all_else_when_there_is_room() -> None:
    line = FakeLine()
    channel = await opened(line)
    transport = transport_of(channel, [])
    transport.write(Payload.of_bytes(bytes(1000)))
    transport.write(Payload.of_text("later"))
    assert [len(one) for one in line.written] == [1001]
    channel.credited(1064)
    await transport.flush()
    assert line.written[1:] == [b"7:later"]
    line.room.clear()
    transport.write(Payload.of_text("not yet"))
    await asyncio.sleep(0)
    assert not transport.is_flushed
    line.room.set()
    await transport.flush()
    assert line.written[2:] == [b"7:not yet"]


async def test_who_gives_no_credit_is_too_slow_in_the_end() -> None:
    line, lost = FakeLine(), list[str]()
    transport = transport_of(await opened(line), lost)
    for _ in range(5):
        transport.write(Payload.of_bytes(bytes(900)))
        await asyncio.sleep(0)
    assert lost == ["slow"]
    assert len(line.written) == 2


async def test_a_socket_is_told_that_its_client_is_gone_though_nobody_reads() -> None:
    line, lost = FakeLine(), list[str]()
    channel = await opened(line)
    transport_of(channel, lost)
    channel.came("unread")
    channel.closed(4000, "bye")
    await asyncio.sleep(0)
    assert lost == ["lost"]
    assert line.said() == [{"closed": 7, "code": 4000, "reason": "bye"}]
    assert line.over == [7]
    transport_of(channel, lost)  # one that comes too late hears it too
    await asyncio.sleep(0)
    assert lost == ["lost", "lost"]
    assert (await channel.receive())["text"] == "unread"
    assert await channel.receive() == {
        "type": "websocket.disconnect",
        "code": 4000,
        "reason": "bye",
    }
    with pytest.raises(OSError, match="disconnected"):
        await channel.send({"type": "websocket.send", "text": "x"})


async def test_a_send_that_waits_for_credit_ends_when_the_client_goes() -> None:
    line = FakeLine()
    channel = await opened(line, window=1)
    await channel.send({"type": "websocket.send", "text": "x"})
    sending = asyncio.create_task(channel.send({"type": "websocket.send", "text": "y"}))
    await asyncio.sleep(0)
    channel.end(1001, "")
    with pytest.raises(OSError, match="disconnected"):
        await sending


async def test_a_receive_that_is_cancelled_takes_nothing() -> None:
    line = FakeLine()
    channel = await opened(line)
    receiving = asyncio.create_task(channel.receive())
    await asyncio.sleep(0)
    receiving.cancel()
    channel.came("x")
    await asyncio.wait((receiving,))
    assert receiving.cancelled()
    assert await channel.receive() == {"type": "websocket.receive", "text": "x"}


async def test_credit_is_given_for_what_was_taken_and_counted_in_bytes() -> None:
    line = FakeLine()
    channel = await opened(line)
    channel.came("ü" * 20_000)
    assert line.waiting == 40_064
    assert line.said() == []
    await channel.receive()
    assert line.waiting == 0
    assert line.said() == [{"credit": 7, "bytes": 40_064}]


async def test_what_is_intercepted_is_answered_and_not_received() -> None:
    line, answers = FakeLine(), list[str]()
    channel = await opened(line)
    transport = transport_of(channel, [])
    assert transport.intercept("ping", lambda: answers.append("pong"))
    for text in ("ping", "more", "ping"):
        channel.came(text)
    assert answers == ["pong", "pong"]
    assert (await channel.receive())["text"] == "more"
    for _ in range(1000):
        channel.came("ping")
    credits_given = [one for one in line.said() if isinstance(one, dict) and "credit" in one]
    assert len(credits_given) == 1000 * 68 // (65536 // 2)


async def test_very_long_messages_that_wait_on_all_channels_close_the_last_one() -> None:
    line = FakeLine()
    channel = await opened(line)
    line.waiting = MAX_WAITING
    channel.came("x")
    assert line.said() == [{"closed": 7, "code": 1013, "reason": "too much is waiting"}]


async def test_a_drain_closes_the_connection_though_the_client_takes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastapi_rooms.servers.mux.transport.FLUSH_TIMEOUT", 0.01)
    line = FakeLine()
    transport = transport_of(await opened(line, window=1), [])
    for _ in range(2):
        transport.write(Payload.of_text("x"))
    await transport.drain(3)
    assert line.drained == 1


async def test_an_application_that_fails_or_ends_without_a_word_has_its_client_told() -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("on purpose")

    async def exiting(scope: Scope, receive: Receive, send: Send) -> None:
        raise SystemExit(3)

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
        start: Message = {"type": "websocket.http.response.start", "status": 418}
        await send(start)
        for more in (True, False):
            await send({"type": "websocket.http.response.body", "more_body": more})

    told = []
    for application in (failing, exiting, silent, refusing):
        line = FakeLine()
        channel = Channel(line, wire.Open(7, "/"), {"type": "websocket"})
        await channel.start(application)
        told.append(line.said()[-1])
    assert told == [
        {"denied": 7, "status": 500},
        {"denied": 7, "status": 500},
        {"closed": 7, "code": 1011, "reason": ""},
        {"denied": 7, "status": 418},
    ]


async def test_what_an_application_has_not_received_in_the_end_waits_no_more() -> None:
    line = FakeLine()
    channel = await opened(line)
    channel.came("unread")
    assert line.waiting > 0
    assert line.running is not None
    line.running.cancel()
    await asyncio.wait((line.running,))
    assert line.waiting == 0


async def test_nothing_overtakes_what_is_queued() -> None:
    line = FakeLine()
    channel = await opened(line, window=1)
    transport = transport_of(channel, [])
    for text in "ab":
        transport.write(Payload.of_text(text))
    await asyncio.sleep(0)
    channel.credited(65)  # and in the same turn
    transport.write(Payload.of_text("c"))
    for _ in range(2):
        await asyncio.sleep(0)
        channel.credited(65)
    await transport.flush()
    assert line.written == [b"7:a", b"7:b", b"7:c"]


async def test_a_drain_lets_what_is_queued_out_before() -> None:
    line = FakeLine()
    channel = await opened(line, window=1)
    transport = transport_of(channel, [])
    for text in "ab":
        transport.write(Payload.of_text(text))
    draining = asyncio.create_task(transport.drain(3))
    await asyncio.sleep(0)
    assert line.drained == 0
    channel.credited(65)
    await draining
    assert (line.written, line.drained) == ([b"7:a", b"7:b"], 1)


async def test_an_application_that_sends_what_asgi_does_not_have_is_told_what_that_was() -> None:
    line = FakeLine()
    channel = await opened(line)
    with pytest.raises(RuntimeError, match=r"websocket\.accept"):
        await channel.send({"type": "websocket.accept"})
    assert line.said() == []
    await channel.send({"type": "websocket.close"})


async def test_how_a_channel_was_ended_first_is_how_it_has_ended() -> None:
    line = FakeLine()
    channel = await opened(line)
    channel.closed(4000, "first")
    channel.came("too late")
    channel.closed(4001, "second")
    await channel.reopened()
    assert line.said() == [{"closed": 7, "code": 4000, "reason": "first"}]
    assert line.over == [7]
    assert await channel.receive() == {
        "type": "websocket.disconnect",
        "code": 4000,
        "reason": "first",
    }


async def test_a_channel_that_has_ended_gives_no_credit_for_what_is_still_read() -> None:
    """Its number may be another's by then."""
    line = FakeLine()
    channel = await opened(line)
    for part in ("a", "b"):
        channel.came(part * 20_000)
        await channel.receive()  # the second is due for credit, which the line gives at once
    assert [said for said in line.said() if said != {"credit": 7, "bytes": 40_128}] == []
    channel.came("c" * 40_000)
    channel.closed(1000, "")
    line.said()
    assert (await channel.receive())["text"] == "c" * 40_000
    channel.give_credit()
    assert line.said() == []


async def test_who_is_aborted_is_told_nothing_that_was_queued_and_sent_nothing_more() -> None:
    line = FakeLine()
    channel = await opened(line)
    lost: list[str] = []
    transport = transport_of(channel, lost)
    line.room.clear()
    transport.write(Payload(b"queued", binary=False))
    assert transport.abort()
    await asyncio.sleep(0)
    assert lost == ["lost"]
    transport.write(Payload(b"late", binary=False))
    line.room.set()
    await transport.flush()
    assert line.said() == [{"closed": 7, "code": 1006, "reason": ""}]
