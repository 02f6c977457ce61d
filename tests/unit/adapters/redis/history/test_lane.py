"""One connection to Redis for history: what is asked when, where nothing goes as it should."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import hiredis
import pytest
from redis.asyncio.connection import ConnectionPool

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.adapters.command_queue import ByteBudget
from fastapi_rooms.adapters.declarations import HistoryDeclaration
from fastapi_rooms.adapters.history import Retention, RoomKey
from fastapi_rooms.adapters.redis.declared.form import MAX_DECLARATIONS
from fastapi_rooms.adapters.redis.history.declarer import Declarer
from fastapi_rooms.adapters.redis.history.history import History
from fastapi_rooms.adapters.redis.history.lane import Lane
from fastapi_rooms.adapters.redis.history.rights import HISTORY
from fastapi_rooms.adapters.redis.history.script import PLAIN
from fastapi_rooms.adapters.redis.links.link import Link
from fastapi_rooms.adapters.redis.links.source import NodeSource
from fastapi_rooms.adapters.redis.presence.rights import PRESENCE
from fastapi_rooms.testing import eventually

READONLY = hiredis.ReplyError("READONLY You can't write against a read only replica.")
NOPERM = hiredis.ReplyError("NOPERM this user has no permissions")
MASTER = [b"master", 0, []]


class Redis:
    """A lane, and the other end of its connection."""

    def __init__(self) -> None:
        source = NodeSource(ConnectionPool.from_url("redis://nowhere.invalid"))
        self.lane = Lane(
            source,
            "rooms",
            connect_timeout=1,
            timeout=60,
            patience=60,
            budget=ByteBudget(100_000),
        )
        self.lane._supervision = asyncio.create_task(asyncio.Event().wait())  # type: ignore[arg-type]  # it opens no links
        self.asked: list[bytes] = []
        self.aborted: list[str] = []

    def connect(self) -> None:
        link = SimpleNamespace(
            write=self._write,
            abort=self.aborted.append,
            writable=True,
            protocol=3,
            address="one:1",
            last_received=1.0,
        )
        self.lane.link_up(cast("Link", link))

    def _write(self, data: bytes) -> None:
        reader = hiredis.Reader()
        reader.feed(data)
        while (command := cast("Any", reader.gets())) is not False:
            self.asked.append(command[0])

    async def is_asked(self, *verbs: bytes) -> None:
        await eventually(lambda: self.asked == list(verbs))
        self.asked.clear()

    def says(self, *replies: Any) -> None:
        for reply in replies:
            self.lane.reply(reply)

    def tries(self, reply: Any = 0, needs: Any = HISTORY) -> None:
        """Answers the trial of the rights, each command alike."""
        _, names = needs.trial(b"rooms", PLAIN)
        assert len(self.asked) >= len(names)
        self.asked.clear()
        self.says(*[reply] * len(names))


@pytest.fixture
async def redis() -> AsyncIterator[Redis]:
    redis = Redis()
    yield redis
    await redis.lane.close()


async def test_a_lane_that_nobody_has_used_tries_no_rights(redis: Redis) -> None:
    redis.connect()
    assert redis.asked == []
    redis.lane.leave()
    assert len(redis.aborted) == 1


async def test_a_lane_without_a_connection_leaves_nothing(redis: Redis) -> None:
    redis.lane.leave()
    await redis.lane.ask_each([], HISTORY, lambda *_: None)
    assert redis.aborted == []


async def test_a_node_that_does_not_know_how_to_tell_its_role_is_asked_in_the_older_way(
    redis: Redis,
) -> None:
    asking = asyncio.create_task(redis.lane.ensure_master())
    await asyncio.sleep(0)
    redis.connect()
    redis.tries()
    await eventually(lambda: len(redis.asked) == 1)
    redis.says(hiredis.ReplyError("ERR unknown command"))
    await eventually(lambda: len(redis.asked) == 2)
    redis.says(MASTER if redis.asked[-1] == b"ROLE" else {b"role": b"master"})
    await asking
    assert len(set(redis.asked)) == 2
    assert redis.aborted == []


async def test_a_node_that_says_that_it_may_not_be_written_to_is_left(redis: Redis) -> None:
    asking = asyncio.create_task(redis.lane.ask(lambda: b"*1\r\n$4\r\nPING\r\n", 1))
    await asyncio.sleep(0)
    redis.connect()
    redis.tries(READONLY)
    assert len(redis.aborted) == 1
    assert redis.asked == []
    redis.lane.link_down("left")
    redis.connect()
    redis.tries()
    await redis.is_asked(b"PING")
    redis.says(b"PONG")
    assert await asking == [b"PONG"]


async def test_who_may_not_is_told_and_it_is_tried_anew_on_the_next_connection(
    redis: Redis,
) -> None:
    asking = asyncio.create_task(redis.lane.ask(lambda: b"*1\r\n$4\r\nPING\r\n", 1))
    await asyncio.sleep(0)
    redis.connect()
    redis.tries(NOPERM)
    with pytest.raises(AdapterUnavailable):
        await asking
    with pytest.raises(AdapterUnavailable):
        await redis.lane.ask(lambda: b"", 1)
    trial = redis.lane._next_trial
    assert trial is not None
    redis.lane.link_down("lost")
    assert trial.cancelled()
    redis.connect()
    redis.tries()
    assert not redis.lane.refused


async def test_where_more_is_needed_meanwhile_only_the_later_trial_counts(redis: Redis) -> None:
    def question() -> asyncio.Task[list[Any]]:
        return asyncio.create_task(redis.lane.ask(lambda: b"*1\r\n$4\r\nPING\r\n", 1, needs.pop(0)))

    needs = [HISTORY, PRESENCE]
    first = question()
    await asyncio.sleep(0)
    redis.connect()
    second = question()
    await asyncio.sleep(0)
    redis.tries(NOPERM)  # of history alone
    assert not first.done()
    redis.says(*[0] * len(HISTORY.trial(b"rooms", PLAIN)[1]))
    redis.says(*[0] * len(PRESENCE.trial(b"rooms", PLAIN)[1]))
    await redis.is_asked(b"PING", b"PING")
    redis.says(1, 2)
    assert [await first, await second] == [[1], [2]]


class Answers:
    """A lane that gives one answer after the other, and notes when it is left."""

    def __init__(self, *answers: Any) -> None:
        self.answers = [*answers]
        self.left = 0

    async def ask(self, encode: Callable[[], bytes], count: int, needs: object = None) -> list[Any]:
        assert encode()
        return [self.answers.pop(0)] * count

    async def ensure_master(self) -> None: ...

    def leave(self) -> None:
        self.left += 1


async def test_a_replica_that_refuses_to_forget_is_left_and_the_next_node_asked() -> None:
    lane = Answers(READONLY, 1)
    history = History(cast("Lane", lane), "rooms")
    await history.forget(RoomKey(b"/#tea", b"channel"))
    assert (lane.left, lane.answers) == (1, [])


async def test_where_a_room_ends_is_not_known_if_it_may_not_be_asked() -> None:
    history = History(cast("Lane", Answers(NOPERM)), "rooms")
    with pytest.raises(AdapterUnavailable, match="refused to read"):
        await history.tops([RoomKey(b"/#tea", b"channel")])


TOO_MANY = {b"%d" % number: b"" for number in range(MAX_DECLARATIONS + 1)}


@pytest.mark.parametrize(("reply", "why"), [(NOPERM, "refused"), (TOO_MANY, "makes no sense")])
async def test_declarations_that_cannot_be_read_are_an_error_that_says_why(
    reply: Any, why: str
) -> None:
    with pytest.raises(AdapterUnavailable, match=why):
        await Declarer(b"rooms").declared(Answers(reply).ask)


@pytest.mark.parametrize("reply", [[], {}, [b"odd"], {b"history /#tea": b"{"}, 5, None])
async def test_what_declares_nothing_is_passed_over(reply: Any) -> None:
    assert await Declarer(b"rooms").declared(Answers(reply).ask) == []


async def test_declarations_that_are_refused_are_an_error() -> None:
    some: Sequence[HistoryDeclaration] = [HistoryDeclaration("/", "tea-*", Retention(9, 60.0))]
    with pytest.raises(AdapterUnavailable, match="refused"):
        await Declarer(b"rooms").declare(some, Answers(NOPERM).ask)
