"""What is asked by Node servers when there is more of it than can be answered, or it fails."""

from __future__ import annotations

import asyncio
import logging
from unittest.mock import Mock

import pytest

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.socketio import responder as module
from fastapi_rooms.socketio.responder import Responder
from fastapi_rooms.wire.socketio.requests import Kind, Request


class Server:
    """Asks, and gets answers once it lets them through."""

    def __init__(self, error: Exception | None = None) -> None:
        self.answers: list[bytes] = []
        self.dropped = 0
        self.error = error
        self.lets = asyncio.Event()
        self.responder = Responder({}, self._answer, self._drop)

    async def _answer(self, namespace: str, uid: str | None, answer: bytes) -> None:
        await self.lets.wait()
        if self.error is not None:
            raise self.error
        self.answers.append(answer)

    def _drop(self) -> None:
        self.dropped += 1

    def asks(self, kind: Kind, number: int = 0) -> None:
        self.responder.requested("/", Request(kind, "uid", f"{number}"))


async def test_no_more_is_answered_than_may_be_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RUNNING", 3)
    server = Server()
    for number in range(2):
        server.asks(Kind.ALL_ROOMS, number)
    for number in range(2):
        server.responder.count_clients("/", Request(Kind.BROADCAST, "uid", f"count {number}"))
    server.asks(Kind.ALL_ROOMS, 2)
    assert server.dropped == 2
    server.lets.set()
    await server.responder.wait(10)
    assert len(server.answers) == 3
    server.asks(Kind.ALL_ROOMS, 3)
    await server.responder.wait(10)
    assert len(server.answers) == 4


@pytest.mark.parametrize("kind", [Kind.BROADCAST, Kind.CLIENT_COUNT])
async def test_what_is_no_question_to_this_worker_is_dropped(kind: Kind) -> None:
    server = Server()
    server.asks(kind)
    assert server.dropped == 1
    assert not server.responder._tasks


@pytest.mark.parametrize("error", [ValueError, SystemExit])
async def test_a_handler_that_fails_is_in_the_log_and_answers_null(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    namespace = Mock()
    namespace.handle.side_effect = error("on purpose")
    server = Server()
    server.lets.set()
    server.responder = Responder({"/": namespace}, server._answer, server._drop)
    server.responder.requested("/", Request(Kind.SERVER_SIDE_EMIT, "uid", "1", data=["event"]))
    await server.responder.wait(10)
    assert len(server.answers) == 1
    assert "on purpose" in caplog.text


@pytest.mark.parametrize("error", [AdapterUnavailable("away"), RuntimeError("a bug")])
async def test_an_answer_that_cannot_be_sent_is_the_end_of_it_and_a_bug_is_in_the_log(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(error)
    server.lets.set()
    server.responder.reply("/", "uid", b"answer")
    await server.responder.wait(10)
    errors = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert bool(errors) is isinstance(error, RuntimeError)
