"""What `fastapi-rooms doctor` finds where it cannot measure, or does not like what it measures."""

from __future__ import annotations

from typing import Any, cast

import pytest
from redis.exceptions import ResponseError

from fastapi_rooms import RoomManager, Worker, __version__
from fastapi_rooms.cli import doctor
from fastapi_rooms.cli.advice import settings_of
from fastapi_rooms.cli.findings import Grade
from fastapi_rooms.cli.session import Session

WORKER = Worker("node", __version__, "host", 1, 1.0, 0)


class Client:
    """Has one reply to everything."""

    def __init__(self, reply: Any) -> None:
        self._reply = reply

    async def execute_command(self, *_: str, **__: Any) -> Any:
        if isinstance(self._reply, Exception):
            raise self._reply
        return self._reply


@pytest.mark.parametrize(
    ("reply", "grade"),
    [
        ({b"version": b"7.2.0"}, Grade.OK),
        ([b"version", b"7.2.0", b"proto", 3], Grade.OK),
        ({b"server": b"redis"}, Grade.UNKNOWN),
        ([b"version"], Grade.UNKNOWN),
        (None, Grade.UNKNOWN),
        ({b"version": None}, Grade.UNKNOWN),
        (ResponseError("NOPERM"), Grade.UNKNOWN),
    ],
    ids=repr,
)
async def test_a_server_that_does_not_say_what_it_is_is_of_an_unknown_version(
    reply: Any, grade: Grade
) -> None:
    finding = await doctor._version(Client(reply))
    assert finding.grade is grade
    assert ("7.2.0" in finding.text) is (grade is Grade.OK)


@pytest.mark.parametrize("reply", [{b"a": b"1", "b": "2"}, [b"a", b"1", "b", "2"]])
async def test_settings_are_read_in_either_form(reply: Any) -> None:
    assert await settings_of(Client(reply), "*") == {"a": "1", "b": "2"}


class InMemory(Session):
    """A session whose emitter is a manager in memory, which may keep what it is given."""

    rooms_in_memory: RoomManager

    def emitter(self) -> Any:
        return self.rooms_in_memory


@pytest.mark.parametrize(
    ("slow", "arrives", "grade"),
    [(60.0, True, Grade.OK), (-1.0, True, Grade.NOTE), (60.0, False, Grade.WRONG)],
)
async def test_how_long_a_message_takes_has_a_grade(
    monkeypatch: pytest.MonkeyPatch, slow: float, arrives: bool, grade: Grade
) -> None:
    monkeypatch.setattr(doctor, "SLOW", slow)
    sender, listener = RoomManager("memory://one"), RoomManager("memory://one")
    session = InMemory("redis://127.0.0.1:1", "rooms", "/", 10.0 if arrives else 0.01)
    if not arrives:
        sender = RoomManager("memory://another")
    object.__setattr__(session, "rooms_in_memory", sender)
    async with listener:
        finding = await doctor._round_trip(session, listener)
    assert finding.grade is grade
    assert bool(finding.advice) is (grade is not Grade.OK)


@pytest.mark.parametrize(
    ("versions", "unsupported", "grade"),
    [
        ([__version__, __version__], 0, Grade.OK),
        (["0.0.1", "0.0.1"], 0, Grade.NOTE),
        (["0.0.1", __version__], 0, Grade.NOTE),
        ([__version__], 1, Grade.NOTE),
    ],
)
def test_workers_of_another_version_than_the_command_are_noted(
    versions: list[str], unsupported: int, grade: Grade
) -> None:
    workers = [cast("Worker", type("W", (), {"version": each})) for each in versions]
    (finding,) = doctor._versions(workers, unsupported)
    assert finding.grade is grade
    assert all(version in finding.text for version in versions)
