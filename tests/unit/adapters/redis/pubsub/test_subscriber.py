"""What a subscriber says was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import hiredis
import pytest
from redis.asyncio.connection import ConnectionPool

from fastapi_rooms import Outage
from fastapi_rooms.adapters.redis.links.source import NodeSource
from fastapi_rooms.adapters.redis.pubsub.dialect import PLAIN, Dialect
from fastapi_rooms.adapters.redis.pubsub.subscriber import FLUSH, Subscriber
from fastapi_rooms.adapters.redis.sharded.dialect import ShardedDialect
from fastapi_rooms.adapters.redis.sharded.slots import Node, slot_of
from fastapi_rooms.testing import eventually


class Receiver:
    def __init__(self) -> None:
        self.gaps: list[Outage] = []

    def received(self, channel: bytes, data: bytes) -> None: ...

    def gap(self, outage: Outage) -> None:
        self.gaps.append(outage)


def link(last_received: float) -> Any:
    return SimpleNamespace(write=lambda data: None, last_received=last_received)


async def test_what_was_live_between_two_losses_is_in_the_gap_and_what_was_asked_for_is_not() -> (
    None
):
    receiver = Receiver()
    source = NodeSource(ConnectionPool.from_url("redis://nowhere.invalid"))
    subscriber = Subscriber(source, receiver, lambda: None, connect_timeout=1)

    def confirm(*channels: bytes) -> None:
        for channel in channels:
            subscriber.reply([b"subscribe", channel, 1])

    subscriber.want((b"old",))
    subscriber.link_up(link(1.0))
    confirm(b"old")
    subscriber.link_down("lost")
    subscriber.want((b"new", b"newer"))
    subscriber.link_up(link(2.0))
    confirm(b"new")
    assert subscriber.is_live(b"new")
    subscriber.link_down("lost again, before it was whole")
    subscriber.link_up(link(3.0))
    confirm(b"old", b"new", b"newer")
    assert subscriber.connected
    assert [gap.channels for gap in receiver.gaps] == [{b"old", b"new"}]
    assert receiver.gaps[0].since == 1.0
    subscriber.close()


async def test_no_turn_of_the_event_loop_asks_for_more_than_a_part_of_many_channels() -> None:
    receiver = Receiver()
    source = NodeSource(ConnectionPool.from_url("redis://nowhere.invalid"))
    subscriber = Subscriber(source, receiver, lambda: None, connect_timeout=1)
    channels = [b"channel %d" % number for number in range(3 * FLUSH + 1)]
    subscriber.want(channels)
    written: list[int] = []

    def write(data: bytes) -> None:
        written.append(data.count(b"channel "))

    subscriber.link_up(SimpleNamespace(write=write, last_received=1.0))  # type: ignore[arg-type]
    await eventually(lambda: sum(written) == len(channels))
    assert written == [FLUSH] * 3 + [1]
    for channel in channels:
        assert not subscriber.connected
        subscriber.reply([b"subscribe", channel, 1])
    assert subscriber.connected
    subscriber.unsubscribe(channels)
    await eventually(lambda: sum(written) == 2 * len(channels))
    assert max(written) == FLUSH
    subscriber.close()


class Connected:
    """A subscriber that is connected, and what it has written."""

    def __init__(self, *, dialect: Dialect = PLAIN, patterns: Sequence[bytes] = ()) -> None:
        source = NodeSource(ConnectionPool.from_url("redis://nowhere.invalid"))
        self.receiver = Receiver()
        self.subscriber = Subscriber(
            source,
            self.receiver,
            lambda: None,
            connect_timeout=1,
            dialect=dialect,
            patterns=patterns,
        )
        self.written = b""
        self.subscriber.link_up(SimpleNamespace(write=self._write, last_received=1.0))  # type: ignore[arg-type]  # as much of one as is used

    def _write(self, data: bytes) -> None:
        self.written += data

    async def subscribed(self, *channels: bytes) -> None:
        self.subscriber.want(channels)
        await eventually(lambda: all(channel in self.written for channel in channels))
        for channel in channels:
            self.subscriber.reply([self.subscriber._words.subscribed, channel, 1])


async def test_channels_of_a_node_that_is_not_connected_are_free_at_once() -> None:
    here = Connected()
    await here.subscribed(b"one")
    assert here.subscriber.release([b"one"]) == []
    here.subscriber.link_down("lost")
    here.subscriber.want([b"two"])
    assert here.subscriber.release([b"two"]) == [b"two"]
    here.subscriber.close()


@pytest.mark.parametrize("reason", ["NOPERM no patterns", "ERR out of something"])
async def test_who_does_not_hear_its_patterns_is_not_connected_and_asks_again(
    monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setattr("fastapi_rooms.adapters.retries.RETRY_DELAY", 0.001)
    here = Connected(patterns=[b"socket.io*"])
    assert here.written.count(b"PSUBSCRIBE") == 1
    await here.subscribed(b"one")
    here.subscriber.reply(hiredis.ReplyError(reason))
    connected = [here.subscriber.connected]
    assert reason in here.subscriber.why_down
    assert here.subscriber.refused is reason.startswith("NOPERM")
    await eventually(lambda: here.written.count(b"PSUBSCRIBE") == 2)
    here.subscriber.reply([b"psubscribe", b"socket.io*", 2])
    connected.append(here.subscriber.connected)
    assert connected == [False, True]
    await here.subscribed(b"two")
    assert here.written.count(b"PSUBSCRIBE") == 2
    here.subscriber.close()


async def test_an_unsubscription_that_is_refused_leaves_what_was_wanted_again_meanwhile() -> None:
    here = Connected()
    await here.subscribed(b"one")
    here.subscriber.unsubscribe([b"one"])
    await eventually(lambda: b"UNSUBSCRIBE" in here.written)
    waiting = asyncio.ensure_future(here.subscriber.subscribe([b"one"]))
    here.subscriber.reply(hiredis.ReplyError("ERR out of something"))
    await waiting
    assert here.subscriber.is_live(b"one")
    here.subscriber.close()


class Moves:
    """What a node of a cluster has told of its channels."""

    def __init__(self) -> None:
        self.told: list[tuple[str, list[bytes]]] = []

    def released(self, node: Node, channels: list[bytes]) -> None:
        self.told.append(("released", channels))

    def withdrawn(self, node: Node, channels: list[bytes], live: list[bytes]) -> None:
        self.told.append(("withdrawn", channels))

    def link_lost(self, node: Node) -> None: ...


async def test_a_redirection_answers_the_oldest_command_of_its_slot_and_a_second_one_none() -> None:
    moves, one, two, other = Moves(), b"{a}one", b"{a}two", b"{b}other"
    here = Connected(dialect=ShardedDialect(Node("here", 7000), moves))
    await here.subscribed(one)
    here.subscriber.want([other])
    await eventually(lambda: other in here.written)
    here.subscriber.want([two])
    await eventually(lambda: two in here.written)
    here.subscriber.unsubscribe([one])
    await eventually(lambda: b"SUNSUBSCRIBE" in here.written)
    for _ in range(3):
        moved = f"MOVED {slot_of(one)} elsewhere:7000"
        here.subscriber.reply(hiredis.ReplyError(moved))
    assert moves.told == [("withdrawn", [two]), ("released", [one])]
    here.subscriber.reply([b"ssubscribe", other, 1])
    assert here.subscriber.is_live(other)
    here.subscriber.close()
