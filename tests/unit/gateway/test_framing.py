"""Clients that speak the framing, behind an edge: what it says, and what their endpoints see."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import OutboxPolicy, RoomManager
from fastapi_rooms.gateway import sockets as edge_sockets
from fastapi_rooms.testing import WebSocketClient, eventually
from fastapi_rooms.worker.resume import Joined
from tests.framed_client import Framing, Message
from tests.unit.gateway.support import ASKING, FramedClient, Site


class Chat:
    """An endpoint, which joins a room and says what it hears to others; it keeps what it got."""

    def __init__(self, *, sid: str | None = None, says: str = "", **join: Any) -> None:
        self._sid = sid
        self._says = says
        self._join = join
        self.joins: list[Joined] = []

    async def __call__(self, rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket, sid=self._sid) as socket:
            if self._says:
                await rooms.to("chat-tea").send_text(self._says)
            self.joins.append(await socket.join("chat-tea", **self._join))
            await socket.send_text(f"in {socket.attempt}")
            async for text in socket.iter_text():
                await socket.to("chat-tea").send_text(text)
                await socket.send_text(f"said {text}")


async def until(client: FramedClient, last: Message) -> list[Message]:
    return await client.receive_until(last)


async def test_a_client_that_comes_to_another_edge_gets_what_it_missed_and_its_endpoint_knows(
    site: Site,
) -> None:
    edges, chat = [await site.edge(), await site.edge()], Chat()
    backend = await site.backend(chat)
    ann, say = Framing(), backend.manager.to("chat-tea").send_text
    async with FramedClient(edges[0], ann) as client:
        assert await until(client, "in 0") == []
        await say("one")
        assert await client.receive() == "one"
    await say("two")
    await say("three")
    async with FramedClient(edges[1], ann) as client:
        assert await until(client, "in 0") == ["two", "three"]
        await say("four")
        assert await client.receive() == "four"
    first, second = chat.joins
    assert (first.recovered, first.replayed) == (None, 0)
    assert (second.recovered, second.replayed) == (True, 2)
    assert second.positions.keys() == {"chat-tea"}
    assert [recovered for _, recovered in ann.joins] == [None, True]


async def test_what_a_client_has_said_itself_is_not_replayed_to_it(site: Site) -> None:
    edges = [await site.edge(), await site.edge()]
    await site.backend(Chat())
    ann = Framing()
    async with FramedClient(edges[0], ann) as client, FramedClient(edges[1], Framing()) as bob:
        assert await until(client, "in 0") == await until(bob, "in 0") == []
        before = dict(ann.positions)
        await client.send_text("mine")
        assert await bob.receive() == "mine"
        await bob.send_text("his")
        assert await client.receive_until("his") == ["said mine"]
    ann.positions = before
    async with FramedClient(edges[1], ann) as client:
        assert await until(client, "in 0") == ["his"]


async def test_what_an_endpoint_asks_for_outranks_what_the_client_brings(site: Site) -> None:
    edge = await site.edge()
    chat = Chat()
    backend = await site.backend(chat)
    ann, say = Framing(), backend.manager.to("chat-tea").send_text
    async with FramedClient(edge, ann) as client:
        await until(client, "in 0")
        start = chat.joins[0].positions["chat-tea"]
        await say("one")
        await say("two")
        assert await until(client, "two") == ["one"]
    await site.replace(backend, Chat(since=start))
    ann.positions.clear()
    async with FramedClient(edge, ann) as client:
        assert await until(client, "in 0") == ["one", "two"]


@pytest.mark.parametrize("join", [{}, {"recent": 50}, {"since": "gone"}], ids=str)
async def test_who_gets_another_backend_hears_nothing_of_it_and_misses_nothing(
    site: Site, join: dict[str, Any]
) -> None:
    edge = await site.edge()
    first = await site.backend(chat := Chat(**join))
    ann, say = Framing(), first.manager.to("chat-tea").send_text
    async with FramedClient(edge, ann) as client:
        await until(client, "in 0")
        await say("one")
        again = Chat(**join)
        await site.replace(first, again)
        await say("two")
        assert sorted([str(await client.receive()) for _ in range(3)]) == ["in 1", "one", "two"]
        assert len(ann.joins) == 1
        assert again.joins[0].positions.keys() == {"chat-tea"}
        assert again.joins[0].recovered is chat.joins[0].recovered
        assert again.joins[0].replayed == 0
    async with FramedClient(edge, ann) as client:
        assert await until(client, "in 0") == []
        assert len(ann.joins) == 2


async def test_an_endpoint_that_draws_another_sid_goes_on_where_the_client_is(site: Site) -> None:
    edge = await site.edge()
    first = await site.backend(Chat(sid="first"))
    ann, say = Framing(), first.manager.to("chat-tea").send_text
    async with FramedClient(edge, ann) as client:
        await until(client, "in 0")
        await say("one")
        assert await client.receive() == "one"
        again = Chat(sid="second", says="two")
        second = await site.replace(first, again)
        assert await until(client, "in 1") == ["two"]
        assert (again.joins[0].recovered, again.joins[0].replayed) == (True, 1)
        await second.manager.to("second").send_text("\0 it is framed still")
        assert await client.receive() == "\0 it is framed still"
        await client.send_text("\0.\0b")
        assert await client.receive() == "said \0b"
    assert ann.joins == [("chat-tea", None), ("chat-tea", True)]


async def test_there_is_no_hello_where_the_endpoint_accepts_by_itself(site: Site) -> None:
    async def accepts(rooms: RoomManager, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("first")
        async with rooms.connect(websocket) as socket:
            await socket.join("chat-tea")
            async for text in socket.iter_text():
                await socket.send_text(f"{text}!")

    edge = await site.edge()
    await site.backend(accepts)
    async with WebSocketClient(edge, ASKING) as client:
        await client.send_text("\0r{}")
        assert [await client.receive(), await client.receive()] == ["first", "\0r{}!"]


@pytest.mark.parametrize(
    "says", [["\0r", "hi"], ['\0r{"positions":{"":"x"}}', "hi"], ["hi", "\0r{}"], ["hi"]]
)
async def test_a_client_without_an_answer_that_can_be_read_comes_as_one_that_was_never_here(
    site: Site, says: list[str]
) -> None:
    edge, chat = await site.edge(), Chat()
    await site.backend(chat)
    async with FramedClient(edge, Framing(), greets=False) as client:
        await WebSocketClient.receive(client)
        for text in says:
            await client.send_text(text)
        assert await until(client, "said hi") == ["in 0"]
    assert chat.joins[0].recovered is None


async def test_a_client_that_answers_late_is_not_waited_for_and_its_answer_passed_over(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_rooms.worker.hello.RESUME_TIMEOUT", 0.01)
    edge, chat = await site.edge(), Chat()
    await site.backend(chat)
    async with FramedClient(edge, Framing(), greets=False) as client:
        await WebSocketClient.receive(client)
        assert await until(client, "in 0") == []
        await client.send_text('\0r{"positions":{"chat-tea":"x"}}')
        await client.send_text("hi")
        assert await client.receive() == "said hi"


async def test_a_client_that_goes_instead_of_answering_leaves_nothing(site: Site) -> None:
    edge, chat = await site.edge(), Chat()
    backend = await site.backend(chat)
    async with FramedClient(edge, Framing(), greets=False) as client:
        await WebSocketClient.receive(client)
        client.leave(1006)
        await client.wait_ended()
    await eventually(lambda: backend.clients == 0)
    assert edge.manager.sids == {}
    assert not backend.manager._here.recovery.framed._aliases


async def test_a_second_namespace_of_the_same_client_says_nothing_more(site: Site) -> None:
    async def both(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as one, rooms.of("/two").connect(websocket) as two:
            await one.send_text("one")
            await two.send_text("two")
            await one.wait_closed()

    edge = await site.edge()
    first = await site.backend(both)
    async with FramedClient(edge, Framing()) as client:
        assert [await client.receive(), await client.receive()] == ["one", "two"]
        await site.replace(first, both)
        assert [await client.receive(), await client.receive()] == ["one", "two"]
        assert client.framing.said == 0


async def test_a_client_that_asks_for_a_heartbeat_is_answered_by_the_edge(site: Site) -> None:
    edge = await site.edge()
    await site.backend(Chat())
    async with FramedClient(edge, Framing()) as client:
        await until(client, "in 0")
        await client.send_text("\0b")
        assert await WebSocketClient.receive(client) == "\0b"


async def test_a_socket_knows_its_position_as_of_what_its_client_has_said(site: Site) -> None:
    places: list[str | None] = []

    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            joined = await socket.join("chat-tea", "plain")
            assert socket.position("plain") is None
            assert socket.position("chat-tea") == joined.positions["chat-tea"]
            await socket.send_text("in")
            async for text in socket.iter_text():
                if text == "where":
                    places.append(socket.position("chat-tea"))
                elif text == "leave":
                    await socket.leave("chat-tea")
                    assert socket.position("chat-tea") is None
                await socket.send_text(text)

    edge = await site.edge()
    backend = await site.backend(endpoint)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "in"
        for number in range(3):
            await backend.manager.to("chat-tea").send_text(f"{number}")
            assert await client.receive() == f"{number}"
            await client.send_text("where")
            assert await client.receive() == "where"
        (sid,) = edge.manager.rooms["chat-tea"]
        at_edge = edge.manager._here.clients[sid].socket.position("chat-tea")
        assert places[-1] == at_edge
        assert len({*places}) == 3
        await client.send_text("leave")
        assert await client.receive() == "leave"


async def test_a_replay_may_take_as_long_as_its_client_reads(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing else of its endpoint waits for that."""
    monkeypatch.setattr(edge_sockets, "STILL", 0.02)
    edge = await site.edge(site.manager(outbox=OutboxPolicy(max_bytes=200_000)))
    left = asyncio.Event()

    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("other")
            joining = asyncio.create_task(socket.join("chat-tea", recent=50))
            await left.wait()
            await socket.leave("other")
            await eventually(lambda: "other" not in edge.manager.rooms)
            replaying.set()
            assert (await joining).replayed == 40
            await socket.send_text("in")
            await socket.wait_closed()

    replaying = asyncio.Event()
    rooms = site.manager(join_timeout=0.05)
    backend = await site.backend(endpoint, rooms)
    for number in range(40):
        await backend.manager.to("chat-tea").send_text(f"{number} {'x' * 20_000}")
    async with WebSocketClient(edge, "/") as client:
        client.stall()
        left.set()
        await replaying.wait()
        (call,) = next(iter(backend._connections.values()))._calls._pending.values()
        limit = call._limit
        assert limit is not None
        before = limit.when()
        await eventually(lambda: limit.when() != before)
        client.resume()
        assert len(await client.receive_until("in")) == 40


async def test_a_backend_that_goes_during_the_hello_costs_no_second_one(site: Site) -> None:
    edge = await site.edge()
    first = await site.backend(Chat())
    ann = Framing()
    async with FramedClient(edge, ann, greets=False) as client:
        hello = await WebSocketClient.receive(client)
        await site.backend(again := Chat())
        closing = asyncio.create_task(first.close())
        await eventually(lambda: not first.clients)
        await client.send_text(ann.greet(hello))
        assert await until(client, "in 1") == []
        assert ann.joins == [("chat-tea", None)]
        assert len(again.joins) == 1
        await closing


@pytest.mark.parametrize("is_framed", [True, False], ids=["framed", "plain"])
async def test_a_backend_that_goes_during_a_replay_doubles_nothing(
    site: Site, *, is_framed: bool
) -> None:
    edge = await site.edge(site.manager(outbox=OutboxPolicy(max_bytes=200_000)))
    chat = Chat()
    first = await site.backend(chat)
    ann, say = Framing(), first.manager.to("chat-tea").send_text
    async with FramedClient(edge, ann) as client:
        await until(client, "in 0")
    for number in range(40):
        await say(f"{number} {'x' * 20_000}")
    since = None if is_framed else chat.joins[0].positions["chat-tea"]
    again = Chat(since=since)
    second = await site.replace(first, again)
    path = ASKING if is_framed else "/"
    async with FramedClient(edge, ann, path, greets=is_framed) as client:
        client.stall()
        await eventually(lambda: second.clients)
        (virtual,) = second._connections.values()
        await eventually(lambda: virtual._calls._pending and edge._conversations)
        third = Chat(since=since)
        await site.replace(second, third)
        client.resume()
        heard = await until(client, "in 1")
    assert [int(str(text).split()[0]) for text in heard] == list(range(40))
    assert again.joins == []
    assert (third.joins[0].recovered, third.joins[0].replayed) == (True, 0)
