"""What is read of a client, held, and handed on to its endpoints."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from fastapi_rooms.gateway.conversation import Conversation
from fastapi_rooms.gateway.outbound import Kept
from fastapi_rooms.gateway.reader import Reader
from fastapi_rooms.testing import eventually
from fastapi_rooms.wire.gateway import FrameKind

ONE = FrameKind.TEXT, b"one"


class Endpoint:
    """A conversation: has room when it is told so, and may end."""

    def __init__(self) -> None:
        self.got: list[Kept] = []
        self.asked = 0
        self._room: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def let(self, *, has_room: bool) -> None:
        self._room.set_result(has_room)

    async def has_room(self) -> bool:
        self.asked += 1
        return await asyncio.shield(self._room)

    async def send(self, message: Kept) -> None:
        self.got.append(message)


class Line:
    """What a client says, one after the other; an exception is raised."""

    def __init__(self, *said: Any) -> None:
        self.said = list(said)
        self.gone: list[tuple[int, str]] = []
        self.reader = Reader(self._receive, self._gone, self._close, 10)

    async def _receive(self) -> Any:
        await eventually(lambda: self.said)
        said = self.said.pop(0)
        if isinstance(said, Exception):
            raise said
        return {"type": "websocket.receive", "text": said}

    def _gone(self, code: int, reason: str) -> None:
        self.gone.append((code, reason))

    async def _close(self, code: int, reason: str) -> None:
        raise AssertionError(code)

    def attach(self, endpoint: Endpoint) -> None:
        self.reader.attach(cast("Conversation", endpoint))


async def test_what_was_read_before_a_pause_is_not_read_again_and_not_lost() -> None:
    line = Line("one", "two")
    line.reader.start()
    await eventually(lambda: line.said == ["two"])
    await line.reader.pause()
    assert line.said == ["two"]
    endpoint = Endpoint()
    endpoint.let(has_room=True)
    line.attach(endpoint)
    line.reader.start()
    await eventually(lambda: endpoint.got == [ONE, (FrameKind.TEXT, b"two")])
    line.reader.stop()


@pytest.mark.parametrize("attaches", ["before it ends", "after it has ended"])
async def test_what_an_endpoint_had_no_room_for_is_for_the_next(attaches: str) -> None:
    line, first, second = Line("one"), Endpoint(), Endpoint()
    second.let(has_room=True)
    line.attach(first)
    line.reader.start()
    await eventually(lambda: first.asked)
    if attaches == "before it ends":
        line.attach(second)
        first.let(has_room=False)
    else:
        first.let(has_room=False)
        await eventually(lambda: not line.reader._attached.is_set())
        line.attach(second)
    await eventually(lambda: second.got == [ONE])
    assert first.got == []
    line.reader.stop()


async def test_a_client_that_cannot_be_read_from_is_gone() -> None:
    line = Line(ValueError("what a server raises"))
    line.reader.start()
    await eventually(lambda: line.gone == [(1006, "")])
    line.reader.start()
    assert line.reader.gone == (1006, "")
    assert line.gone == [(1006, "")]


async def test_one_that_is_paused_while_it_sends_has_sent_it_whole() -> None:
    """What is called back by then would be a hole."""
    accepted, sent = asyncio.Event(), list[str]()

    class Slow(Endpoint):
        async def send(self, message: Kept) -> None:
            sent.append("begun")
            await accepted.wait()
            sent.append("accepted")

    line, endpoint = Line("one", "two"), Slow()
    endpoint.let(has_room=True)
    line.attach(endpoint)
    line.reader.start()
    await eventually(lambda: sent)
    pausing = asyncio.create_task(line.reader.pause())
    await asyncio.sleep(0)
    accepted.set()
    await pausing
    assert sent == ["begun", "accepted"]
    line.reader.start()
    await eventually(lambda: len(sent) == 4)
    line.reader.stop()
