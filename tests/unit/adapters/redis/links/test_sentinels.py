"""What nodes and sentinels say of themselves and each other, true or not."""

from __future__ import annotations

import asyncio
import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio.connection import ConnectionPool

from fastapi_rooms.adapters.redis.links.link import pack
from fastapi_rooms.adapters.redis.links.role import why_not_master
from fastapi_rooms.adapters.redis.links.sentinels import Answer, SentinelWatch, answer_of, newest
from fastapi_rooms.adapters.supervisor import supervise
from fastapi_rooms.testing import eventually

HELLO = {b"server": b"redis", b"proto": 3, b"mode": b"standalone", b"role": b"master"}


def flat(fields: dict[bytes, Any]) -> list[Any]:
    return [part for pair in fields.items() for part in pair]


@pytest.mark.parametrize("form", [dict, flat])
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ""),
        ({b"role": b"replica"}, "replica"),
        ({b"role": b"replica", b"mode": b"cluster"}, ""),
        ({b"role": b"active-replica"}, ""),
        ({b"role": None}, ""),
        ({b"mode": b"sentinel", b"role": None}, "sentinel"),
    ],
)
def test_hello_tells_the_role(form: Any, changes: dict[bytes, Any], told: str) -> None:
    assert told in why_not_master(form(HELLO | changes))
    assert bool(told) == bool(why_not_master(form(HELLO | changes)))


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ([b"master", 0, []], ""),
        ([b"slave", b"127.0.0.1", 6379, b"connected", 14], "replica"),
        ([b"sentinel", [b"mymaster"]], "sentinel"),
    ],
)
def test_role_tells_it_on_old_servers(reply: list[Any], told: str) -> None:
    assert told in why_not_master(reply)
    assert bool(told) == bool(why_not_master(reply))


@pytest.mark.parametrize("reply", [None, b"OK", 7, [], {}, [[], []], [b"role"], [{}, 1, 2]])
def test_nonsense_is_no_trouble(reply: Any) -> None:
    assert why_not_master(reply) == ""


SAID = {
    b"name": b"mymaster",
    b"ip": b"10.0.0.1",
    b"port": b"6379",
    b"flags": b"master",
    b"num-other-sentinels": b"2",
    b"config-epoch": b"7",
}


@pytest.mark.parametrize("form", [dict, flat])
def test_a_sentinels_answer_is_read(form: Any) -> None:
    assert answer_of(form(SAID)) == Answer(("10.0.0.1", 6379), 7, True, 2)


@pytest.mark.parametrize("flags", [b"master,s_down", b"s_down,master,o_down", b"slave", b""])
def test_a_master_that_is_down_is_not_up(flags: bytes) -> None:
    assert not answer_of(SAID | {b"flags": flags}).up


@pytest.mark.parametrize(
    "reply",
    [
        None,
        b"OK",
        3,
        [],
        [b"ip", b"10.0.0.1"],
        [[], {}],
        SAID | {b"port": b"0"},
        SAID | {b"port": b"65536"},
        SAID | {b"port": b"x"},
        SAID | {b"ip": b""},
        SAID | {b"ip": 3},
        SAID | {b"ip": b"\xff"},
        SAID | {b"config-epoch": None},
        SAID | {b"flags": None},
    ],
)
def test_what_no_sentinel_says_is_refused(reply: Any) -> None:
    with pytest.raises(ValueError, match=r"answer|address"):
        answer_of(reply)


def said(port: int, epoch: int, *, up: bool = True) -> Answer:
    return Answer(("h", port), epoch, up, 2)


@pytest.mark.parametrize(
    ("answers", "port"),
    [
        ([], None),
        ([said(1, 5)], 1),
        ([said(1, 5), said(2, 6), said(1, 5)], 2),
        ([said(1, 5, up=False), said(1, 5)], 1),
        ([said(1, 5), said(2, 6, up=False)], None),  # the old one may answer, and is no master
    ],
)
def test_the_highest_epoch_is_believed(answers: list[Answer], port: int | None) -> None:
    assert newest(answers) == (None if port is None else ("h", port))


async def test_nothing_holds_a_watch_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def close() -> None:
        lost.set_result("closed")

    async def open_link(watch: SentinelWatch) -> Any:
        return SimpleNamespace(write=written.append, lost=lost, close=close)

    monkeypatch.setattr(SentinelWatch, "open", open_link)
    pool = ConnectionPool.from_url("redis://nowhere.invalid")
    watch = SentinelWatch(pool, "mymaster", lambda: None, 3600)
    task = asyncio.create_task(supervise(watch))
    await eventually(lambda: pack(b"PING") in written)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    trace = weakref.ref(watch)
    del watch, task
    await eventually(lambda: gc.collect() >= 0 and trace() is None, what="it is gone")
