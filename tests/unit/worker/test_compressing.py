"""Long messages are compressed in steps, and nothing overtakes them meanwhile."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from fastapi_rooms.core.compression import MAX_AT_ONCE, Compression, deflate_for
from fastapi_rooms.core.membership import Membership
from fastapi_rooms.core.payload import Outgoing, Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.transports import Transport
from fastapi_rooms.wire.client_framing import in_place
from fastapi_rooms.worker import fanout as fanout_module
from fastapi_rooms.worker.fanout import IMMEDIATE_MAX, Fanout
from fastapi_rooms.worker.framed_transport import FramedTransport
from fastapi_rooms.worker.socket import Socket
from tests.unit.support import FakeTransport

LOBBY = Target(("lobby",))
TWELVE = deflate_for(Compression(), 12, keeps_window=True)
LONG = "a long one " * 100_000
STEPS = len(LONG) // (32 * 1024) + 1


class Client(FakeTransport):
    """Notes how long what it is written is, on the wire."""

    def __init__(self, *, compresses: bool = True) -> None:
        super().__init__()
        self.deflate = TWELVE if compresses else None
        self.sizes: list[int] = []

    def write(self, message: Outgoing, sent: int = 0) -> None:
        super().write(message, sent)
        self.sizes.append(len(message.frame_for(self.deflate)))

    async def send(self, payload: Payload) -> None:
        await super().send(payload)
        self.sizes.append(len(payload.frame_for(self.deflate)))


@pytest.fixture(autouse=True)
def a_turn_is_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout_module, "SLICE_SECONDS", 0)


def lobby(clients: list[Any]) -> Membership[Transport]:
    members: Membership[Transport] = Membership()
    for number, client in enumerate(clients):
        members.add(str(number), client)
        members.join(str(number), ["lobby"])
    return members


async def turns_until(done: Any) -> int:
    turns, task = 0, asyncio.ensure_future(done)
    while not task.done():
        turns += 1
        await asyncio.sleep(0)
    return turns


@pytest.mark.parametrize("size", [1, IMMEDIATE_MAX + 1])
async def test_others_have_the_loop_while_a_long_message_is_compressed(size: int) -> None:
    clients = [Client() for _ in range(size)]
    members, fanout = lobby(clients), Fanout(max_lag=1.0)
    for text in (LONG, "next"):
        assert fanout.send(members, LOBBY, Payload.of_text(text), volatile=False) is not None
    assert await turns_until(fanout.written()) > STEPS
    for client in clients:
        assert client.texts == [LONG, "next"]
        assert client.sizes[0] < len(LONG) / 50


@pytest.mark.parametrize("compresses", [True, False])
async def test_one_turn_compresses_only_so_much(compresses: bool) -> None:
    client = Client(compresses=compresses)
    members, fanout = lobby([client]), Fanout(max_lag=1.0)
    texts = [f"{number} " * 40_000 for number in range(16)]
    for text in texts:
        fanout.send(members, LOBBY, Payload.of_text(text), volatile=False)
    assert (len(client.texts) < len(texts)) is compresses
    await fanout.written()
    assert client.texts == texts


async def test_a_long_message_is_not_delayed_where_nobody_gets_it_compressed() -> None:
    client = Client(compresses=False)
    fanout = Fanout(max_lag=1.0)
    assert fanout.send(lobby([client]), LOBBY, Payload.of_text(LONG), volatile=False) is None
    assert client.texts == [LONG]


async def test_each_kind_of_client_gets_its_own_form() -> None:
    nine = deflate_for(Compression(), 9, keeps_window=True)
    payload = Payload.of_text(LONG)
    payload.framed = in_place("lobby", "1", payload)
    clients = [Client(), Client(compresses=False), Client(), Client()]
    clients[2].deflate = nine
    fanout = Fanout(max_lag=1.0)
    members = lobby([*clients[:3], FramedTransport(clients[3])])
    fanout.send(members, LOBBY, payload, volatile=False)
    await fanout.written()
    assert [client.sizes[0] < len(LONG) / 20 for client in clients] == [True, False, True, True]
    assert clients[3].texts[0].startswith("\0m")


async def test_what_does_not_become_shorter_is_found_out_soon() -> None:
    payload = Payload(random.Random(0).randbytes(16 * MAX_AT_ONCE), binary=True)
    assert list(payload.compressing(TWELVE)) == []
    assert payload.frame_for(TWELVE) is payload.frame
    assert list(payload.compressing(TWELVE)) == []


async def test_what_an_endpoint_sends_keeps_its_order_while_a_long_one_is_compressed() -> None:
    client = Client()
    socket = Socket(_Host(), None, client, "ann", {})  # type: ignore[arg-type]  # nothing is read
    sending = asyncio.gather(*map(socket.send_text, ("first", LONG, "second", LONG, "third")))
    assert await turns_until(sending) > 2 * STEPS
    assert [data.decode() for data, _ in client.sent] == ["first", LONG, "second", LONG, "third"]
    assert [size < len(LONG) / 50 for size in client.sizes] == [True] * 5


async def test_a_socket_that_leaves_meanwhile_is_sent_nothing() -> None:
    client, host = Client(), _Host()
    socket = Socket(host, None, client, "ann", {})  # type: ignore[arg-type]  # nothing is read
    sending = asyncio.ensure_future(socket.send_text(LONG))
    await asyncio.sleep(0)
    host.here = False
    with pytest.raises(WebSocketDisconnect):
        await sending
    assert client.sent == []


class _Host:
    name = "/"

    def __init__(self) -> None:
        self.here = True

    def is_in(self, socket: Socket) -> bool:
        return self.here
