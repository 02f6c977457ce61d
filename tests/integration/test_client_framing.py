"""Clients that speak the framing, on real servers: written to directly, by ASGI, by an edge."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from fastapi_rooms import OutboxPolicy, RoomManager, Socket
from fastapi_rooms.servers.uvicorn.inbox import MAX_MESSAGES
from fastapi_rooms.testing import RedisServer, eventually
from tests.behind_edge import BehindEdge
from tests.framed_client import Framing, Message
from tests.integration.raw import Frame, RawClient, serving
from tests.integration.servers import DIRECT_WEBSOCKETS

TEXT = 1
SIZE = 50
WAYS = [(ws, direct, False) for ws in DIRECT_WEBSOCKETS for direct in (True, False)]
WAYS += [(DIRECT_WEBSOCKETS[0], direct, True) for direct in (True, False)]

Serve = Callable[..., Any]


class Client:
    """One connection of a framed client, from when it has joined the room."""

    def __init__(self, port: int, framing: Framing) -> None:
        self._connecting = connect(
            f"ws://127.0.0.1:{port}/ws?fastapi_rooms=1",
            compression=None,
            proxy=None,
            max_queue=2,
            close_timeout=0.1,
        )
        self._websocket: ClientConnection
        self.framing = framing

    def receive(self) -> Message:
        """The next message. Raises `ConnectionClosed`."""
        while not (messages := self.framing.read(self._websocket.recv(timeout=10))):
            pass
        return messages[0]

    def until(self, last: Message) -> list[Message]:
        """Every message before one."""
        messages: list[Message] = []
        while (message := self.receive()) != last:
            messages.append(message)
        return messages

    def read_to_close(self, numbers: list[int]) -> int:
        """Read numbers until the server closes, and return its code."""
        try:
            while True:
                numbers.append(_number(self.receive()))
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else 1006

    def send(self, text: str) -> None:
        self._websocket.send(text)

    def __enter__(self) -> Self:
        self._websocket = self._connecting.__enter__()
        self._websocket.send(self.framing.greet(self._websocket.recv(timeout=10)))
        joins = len(self.framing.joins)
        while len(self.framing.joins) == joins:
            assert self.framing.read(self._websocket.recv(timeout=10)) == []
        return self

    def __exit__(self, *_: object) -> None:
        self._connecting.__exit__(None, None, None)


async def _says_what_it_hears(rooms: RoomManager, socket: Socket) -> None:
    """The endpoint: it knows nothing of the framing. Who sends is left out."""
    async for text in socket.iter_text():
        await socket.to("room").send_text(text)
        await socket.send_text(f"said {text}")


@pytest.fixture(
    params=WAYS,
    ids=lambda way: f"{way[0]}-{'direct' if way[1] else 'asgi'}{'-edge' if way[2] else ''}",
)
def serve(request: pytest.FixtureRequest, redis: RedisServer) -> Serve:
    """Start a worker, whose room `room` remembers; or an edge with its backend."""
    ws, direct, is_edge = request.param

    def remembering(**settings: Any) -> RoomManager:
        rooms = RoomManager(redis.url, direct_writes=direct, linger=0, **settings)
        rooms.history("room", size=SIZE)
        return rooms

    @contextmanager
    def serve(endpoint: Any = _says_what_it_hears, **settings: Any) -> Iterator[int]:
        rooms = remembering(**settings)

        def wrap(app: Any) -> Any:
            return BehindEdge(app, rooms, remembering(**settings)) if is_edge else app

        with serving(endpoint, rooms, ws=ws, wrap=wrap) as port:
            yield port

    redis.command("FLUSHALL")
    return serve


def test_a_client_that_moves_to_another_worker_gets_exactly_what_it_missed(serve: Serve) -> None:
    with serve() as one, serve() as two, Client(two, Framing()) as bob:
        ann, heard = Framing(), list[Message]()
        with Client(one, ann) as client:
            client.send("ann is here")
            assert client.receive() == "said ann is here"
            assert bob.receive() == "ann is here"
        for number, port in enumerate((two, one, two)):
            for n in range(3):
                bob.send(f"{number} {n}")
            assert bob.until(f"said {number} 2")[-1:] == [f"said {number} 1"]
            with Client(port, ann) as client:
                bob.send("end")
                heard += client.until("end")
                assert ann.joins[-1] == ("room", True)
        assert heard == [f"{number} {n}" for number in range(3) for n in range(3)]


def test_a_plain_client_sees_no_byte_of_framing(serve: Serve) -> None:
    """What it reads beside framed clients is what it reads without them."""

    def frames_of(framed: int) -> list[Frame]:
        with ExitStack() as stack:
            port = stack.enter_context(serve())
            others = [stack.enter_context(Client(port, Framing())) for _ in range(framed)]
            plain = stack.enter_context(RawClient(port))
            sender = stack.enter_context(Client(port, Framing()))
            for n in range(5):
                sender.send(f"{n}")
            sender.until("said 4")
            for other in others:
                assert other.until("3") == ["0", "1", "2"]
            plain.send(1, b"end")
            frames = [plain.read_frame()]
            while frames[-1].data != b"said end":
                frames.append(plain.read_frame())
            return frames

    alone, beside = frames_of(0), frames_of(2)
    assert (
        alone
        == beside
        == [Frame(0x81, f"{n}".encode()) for n in range(5)] + [Frame(0x81, b"said end")]
    )


def test_a_client_that_asks_is_told_at_once_that_it_is_connected(serve: Serve) -> None:
    """Even while its endpoint does not read, where hello says so."""

    came: list[Socket] = []

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        came.append(socket)
        async for text in socket.iter_text():
            assert text == "the first message"
            await eventually(lambda: len(came) == 2)

    with serve(endpoint) as port, RawClient(port, query="?fastapi_rooms=1") as client:
        hello = json.loads(client.read_frame().data[2:])
        for text in (b"\0r{}", b"the first message"):
            client.send(TEXT, text)
        frames = [client.read_frame().data[:2] for _ in range(2)]
        assert frames == [b"\0j", b"\0p"]
        for _ in range(MAX_MESSAGES * 2 if hello["answers"] else 1):
            client.send(TEXT, b"\0b")
            if hello["answers"]:
                assert client.read_frame().data == b"\0b"
        with RawClient(port):
            client.send(TEXT, b"\0b")
            assert client.read_frame().data == b"\0b"


def test_a_slow_client_is_closed_and_resumes_without_a_hole(serve: Serve) -> None:
    """What it gets then is far more than its outbox takes."""
    filler = "x" * 40_000

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        async for text in socket.iter_text():
            for n in range(SIZE):
                await socket.to("room").send_text(f"{n} {filler}")
            await socket.send_text(text)

    policy = OutboxPolicy(max_bytes=500_000, overflow="drop_oldest", close_code=4000)
    with (
        serve(endpoint, outbox=policy) as one,
        serve(endpoint, outbox=policy) as two,
        Client(two, Framing()) as bob,
    ):
        ann, numbers = Framing(), list[int]()
        with Client(one, ann) as client:
            bob.send("all are sent")
            assert bob.receive() == "all are sent"
            code = client.read_to_close(numbers)
        assert code == 1013
        assert len(numbers) < SIZE
        with Client(two, ann) as client:
            while len(numbers) < SIZE:
                numbers.append(_number(client.receive()))
            bob.send("once more")
            assert _number(client.receive()) == 0
        assert numbers == list(range(SIZE))
        assert ann.joins == [("room", None), ("room", True)]


def _number(message: Message) -> int:
    return int(message.split()[0])
