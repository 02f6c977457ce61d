"""Errors that leave a block: those about its own client close it, all others are the endpoint's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from fastapi import HTTPException
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import (
    AdapterUnavailable,
    ClientError,
    InvalidMessage,
    JoinRefused,
    RoomManager,
    ShuttingDown,
    Socket,
    SocketClosed,
    TooManyRooms,
)
from fastapi_rooms.testing import Member, WebSocketClient
from tests.unit.support import FakeAdapter, all_is_over, app_of
from tests.unit.worker.support import nothing_is_left, until_gone

Act = Callable[[Socket, Socket], Awaitable[object]]


def raises(error: Exception) -> Act:
    async def act(mine: Socket, theirs: Socket) -> None:
        raise error

    return act


async def sends(mine: Socket, theirs: Socket) -> None:
    await theirs.send_text("are you there?")


async def reads(mine: Socket, theirs: Socket) -> None:
    await theirs.receive_text()


async def joins_too_many(mine: Socket, theirs: Socket) -> None:
    await theirs.join(*map(str, range(100_000)))


async def joins_what_it_may_not(mine: Socket, theirs: Socket) -> None:
    await theirs.join("secret")


class Acting:
    """An endpoint that does something with its own socket and another's."""

    def __init__(self, rooms: RoomManager, theirs: Socket | None, act: Act) -> None:
        self.app = app_of(self._endpoint)
        self.quietly = False
        self._rooms = rooms
        self._theirs = theirs
        self._act = act

    async def _endpoint(self, websocket: WebSocket) -> None:
        async with self._rooms.connect(websocket, sid="mine") as mine:
            await mine.receive_text()
            await self._act(mine, self._theirs or mine)
        self.quietly = True

    async def run(self) -> WebSocketClient:
        """Have it done, and return the client when the endpoint has ended; raise what it did."""
        async with WebSocketClient(self.app) as client:
            await client.send_text("go")
            await client.wait_ended()
        return client


@pytest.mark.parametrize(("act", "code"), [(joins_too_many, 1008), (joins_what_it_may_not, 1008)])
async def test_a_refused_join_says_whose_it_is_and_closes_the_client_of_its_own_block_only(
    rooms: RoomManager, act: Act, code: int
) -> None:
    rooms.authorize("secret")(lambda socket, room: False)
    own = Acting(rooms, None, act)
    assert (await own.run()).close_code == code
    assert own.quietly
    async with Member(rooms, "lobby") as ann:
        others = Acting(rooms, ann.socket, act)
        with pytest.raises((TooManyRooms, JoinRefused)) as refused:
            await others.run()
        assert refused.value.socket is ann.socket
        assert ann.close_code is None
    await all_is_over(rooms)


async def test_what_an_authorize_handler_raises_is_about_the_socket_that_would_join(
    rooms: RoomManager,
) -> None:
    @rooms.authorize("secret")
    def refuse(socket: Socket, room: str) -> bool:
        raise ClientError("not you", code=4003)

    async with Member(rooms) as ann:
        with pytest.raises(ClientError, match="not you") as refused:
            await Acting(rooms, ann.socket, joins_what_it_may_not).run()
        assert refused.value.socket is ann.socket
    assert (await Acting(rooms, None, joins_what_it_may_not).run()).close_code == 4003


@pytest.mark.parametrize("act", [sends, reads])
async def test_somebody_elses_end_is_an_error_of_the_endpoint_that_did_not_expect_it(
    rooms: RoomManager, act: Act
) -> None:
    async with Member(rooms) as ann:
        pass
    with pytest.raises(WebSocketDisconnect) as gone:
        await Acting(rooms, ann.socket, act).run()
    assert gone.value.socket is ann.socket  # type: ignore[attr-defined]


async def test_a_disconnect_of_nobody_in_particular_is_mine_if_i_am_gone(
    rooms: RoomManager,
) -> None:
    with pytest.raises(WebSocketDisconnect):
        await Acting(rooms, None, raises(WebSocketDisconnect(1001))).run()

    async def is_gone(mine: Socket, theirs: Socket) -> None:
        await until_gone(mine)
        raise WebSocketDisconnect(1001)

    acting = Acting(rooms, None, is_gone)
    async with WebSocketClient(acting.app) as client:
        await client.send_text("go")
        client.leave()
        await client.wait_ended()
    assert acting.quietly


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ClientError("no", code=4000), 4000),
        (InvalidMessage("no", code=1003), 1003),
        (HTTPException(404, "no"), 4404),
        (HTTPException(401), 4401),
    ],
)
@pytest.mark.parametrize("grouped", [False, True])
async def test_what_is_raised_about_the_client_closes_it(
    rooms: RoomManager, error: Exception, code: int, grouped: bool
) -> None:
    if grouped:
        error = ExceptionGroup("in a task group", [ExceptionGroup("in another", [error])])
    acting = Acting(rooms, None, raises(error))
    client = await acting.run()
    assert client.close_code == code
    assert client.close_reason == ("Unauthorized" if code == 4401 else "no")
    assert acting.quietly
    assert not rooms.sids


async def test_a_group_with_an_error_of_the_endpoints_own_is_raised_whole(
    rooms: RoomManager,
) -> None:
    errors = [HTTPException(404, "no"), ZeroDivisionError()]
    with pytest.raises(ExceptionGroup) as failed:
        await Acting(rooms, None, raises(ExceptionGroup("both", errors))).run()
    assert failed.value.exceptions == (*errors,)
    assert not rooms.sids


async def test_a_status_for_a_client_that_is_gone_ends_quietly(
    rooms: RoomManager, caplog: pytest.LogCaptureFixture
) -> None:
    may_end = asyncio.Event()

    async def refuses(mine: Socket, theirs: Socket) -> None:
        await may_end.wait()
        raise HTTPException(404)

    acting = Acting(rooms, None, refuses)
    async with WebSocketClient(acting.app) as client:
        await client.send_text("go")
        client.leave(1006)
        may_end.set()
        await client.wait_ended()
    assert acting.quietly
    assert not caplog.records


async def _of_another_manager(
    kind: type[AdapterUnavailable | ShuttingDown],
) -> Exception:
    adapter = FakeAdapter()
    async with RoomManager(adapter, linger=0) as other:
        if kind is ShuttingDown:
            await other.drain()
        else:
            adapter.subscribe_error = AdapterUnavailable("away")
        with pytest.raises(kind) as raised:
            async with other.listen("lobby"):
                pass
        assert vars(raised.value)["manager"] is other
        return raised.value


@pytest.mark.parametrize("kind", [AdapterUnavailable, ShuttingDown])
async def test_what_another_manager_cannot_do_is_an_exception_like_any_other(
    rooms: RoomManager, kind: type[AdapterUnavailable | ShuttingDown]
) -> None:
    error = await _of_another_manager(kind)
    with pytest.raises(kind):
        await Acting(rooms, None, raises(error)).run()


async def test_what_an_emitter_cannot_do_is_an_exception_like_any_other(
    rooms: RoomManager,
) -> None:
    with pytest.raises(AdapterUnavailable):
        await Acting(rooms, None, raises(AdapterUnavailable("an emitter's"))).run()


@pytest.mark.parametrize(
    "verb",
    [
        lambda rooms: rooms.to("lobby").send_text("x"),
        lambda rooms: rooms.of("/chat").send_text("x"),
        lambda rooms: rooms.server_side_emit("news"),
    ],
    ids=["a broadcast", "one in another namespace", "an emit"],
)
async def test_whatever_its_own_manager_cannot_do_turns_the_client_away(
    rooms: RoomManager,
    adapter: FakeAdapter,
    monkeypatch: pytest.MonkeyPatch,
    verb: Callable[[RoomManager], Awaitable[object]],
) -> None:
    async def fail(channel: bytes, data: bytes) -> int:
        raise AdapterUnavailable("Redis is away")

    async def asks(mine: Socket, theirs: Socket) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(adapter, "publish", fail)
            await verb(rooms)

    acting = Acting(rooms, None, asks)
    assert (await acting.run()).close_code == 1013
    assert acting.quietly
    await nothing_is_left(rooms, adapter)


async def test_an_error_about_an_outer_block_ends_both(rooms: RoomManager) -> None:
    ended: list[str] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as outer:
            async with rooms.of("/chat").connect(websocket):
                await outer.receive_json()
            ended.append("inner")
        ended.append("outer")

    async with WebSocketClient(app_of(endpoint)) as client:
        await client.send_text("{")
        assert await client.wait_closed() == 1007
        await client.wait_ended()
    async with WebSocketClient(app_of(endpoint)) as client:
        client.leave()
        await client.wait_ended()
    assert ended == ["outer", "outer"]
    await all_is_over(rooms)


async def test_a_block_that_ends_before_its_disconnect_has_begun_closes_with_its_code(
    rooms: RoomManager,
) -> None:
    async def joins(mine: Socket, theirs: Socket) -> None:
        rooms._here.disconnect_all((mine,), 4001, "out").close()  # type: ignore[attr-defined]
        await mine.join("lobby")

    acting = Acting(rooms, None, joins)
    assert (await acting.run()).close_code == 4001
    assert acting.quietly


async def test_a_socket_that_has_left_says_which_it_is(rooms: RoomManager) -> None:
    sockets: list[Socket] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            sockets.append(socket)

    async with WebSocketClient(app_of(endpoint)) as client:
        await client.wait_ended()
    with pytest.raises(SocketClosed) as closed:
        await sockets[0].join("lobby")
    assert closed.value.socket is sockets[0]
    with pytest.raises(SocketClosed):
        await Acting(rooms, sockets[0], lambda _, theirs: theirs.join("lobby")).run()
