"""The contract of `fastapi_rooms.adapters.base`, checked on adapters without a manager."""

# ruff: noqa: S311 -- the names are sentences; chance is seeded and guards no secret

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from fastapi_rooms.adapters import SupportsIsLive
from fastapi_rooms.testing.suite.backplane import (
    Backplane,
    Station,
    settle,
    stations,
    subscribers_become,
)
from fastapi_rooms.testing.waiting import eventually

EVERY_BYTE = bytes(range(256))
MEBIBYTE = 1024 * 1024

ODD_CHANNELS = [
    b"plain",
    b"PLAIN",
    b"*",
    b"p*",
    b"plai?",
    b"[a-z]",
    b"[plain]",
    b"\\*",
    b"#",
    b"a#b",
    b"##",
    b"with space",
    b"line\r\nbreak",
    b"\x00",
    b"plain\x00",
    b"\xff\xfe not UTF-8",
    "Grüße 🎉".encode(),
    b"{tag}",
    b"x" * 600,
    EVERY_BYTE,
]
ODD_MESSAGES = [b"", b"\x00", b"\r\n", b"$-1\r\n", EVERY_BYTE, EVERY_BYTE * 300, b"x" * MEBIBYTE]

Pair = tuple[Station, Station]


@pytest.mark.asyncio
class AdapterSuite:
    """Subclass it where a fixture `backplane` is; see the head of this package."""

    @pytest_asyncio.fixture
    async def pair(self, backplane: Backplane) -> AsyncIterator[Pair]:
        """Two workers on one backplane."""
        async with stations(backplane, 2) as (one, two):
            yield one, two

    # Interest.

    async def test_a_message_reaches_every_other_subscriber(self, backplane: Backplane) -> None:
        async with stations(backplane, 4) as (sender, *others):
            for station in others:
                await station.subscribe(b"news")
            await sender.publish(b"news", b"hello")
            await settle(sender, others)
            assert [station.heard(b"news") for station in others] == [[b"hello"]] * 3

    async def test_a_worker_hears_only_what_it_subscribes_to(self, pair: Pair) -> None:
        one, two = pair
        await two.subscribe(b"mine")
        await one.publish(b"other", b"not for you")
        await one.publish(b"mine", b"for you")
        await settle(one, [two])
        assert two.received_messages == [(b"mine", b"for you")]

    async def test_channels_wanted_at_the_start_are_confirmed_by_it(
        self, backplane: Backplane, pair: Pair
    ) -> None:
        one, _ = pair
        three = Station(backplane.adapter())
        await three.start(b"from the start")
        try:
            await one.publish(b"from the start", b"hello")
            await settle(one, [three])
            assert three.heard(b"from the start") == [b"hello"]
        finally:
            await three.adapter.close()

    async def test_an_own_message_comes_back_once_or_not_at_all(self, pair: Pair) -> None:
        one, two = pair
        await one.subscribe(b"news")
        await one.publish(b"news", b"mine")
        await settle(one, [two])
        await settle(two, [one])
        assert one.heard(b"news") in ([], [b"mine"])

    async def test_unsubscribing_stops_what_comes(self, backplane: Backplane, pair: Pair) -> None:
        one, two = pair
        await two.subscribe(b"news", b"kept")
        two.unsubscribe(b"news")
        await subscribers_become(0, backplane, b"news")
        await one.publish(b"news", b"too late")
        await one.publish(b"kept", b"in time")
        await settle(one, [two])
        assert two.received_messages == [(b"kept", b"in time")]

    async def test_subscribing_twice_is_subscribing_once(
        self, backplane: Backplane, pair: Pair
    ) -> None:
        one, two = pair
        await two.subscribe(b"news", b"news")
        await two.subscribe(b"news")
        await one.publish(b"news", b"once")
        await settle(one, [two])
        assert two.heard(b"news") == [b"once"]
        two.unsubscribe(b"news")
        await subscribers_become(0, backplane, b"news")

    async def test_unsubscribing_from_what_was_never_wanted_is_harmless(self, pair: Pair) -> None:
        one, two = pair
        two.unsubscribe(b"never")
        await two.subscribe(b"never")
        await one.publish(b"never", b"say never")
        await settle(one, [two])
        assert two.heard(b"never") == [b"say never"]

    # Confirmed.

    async def test_nothing_is_missed_after_subscribe_returned(self, pair: Pair) -> None:
        one, two = pair
        channels = [f"fresh {number}".encode() for number in range(150)]
        for channel in channels:
            await two.subscribe(channel)
            await one.publish(channel, b"at once")
        await settle(one, [two])
        sent = [(channel, b"at once") for channel in channels]
        assert two.in_promised_order(two.received_messages) == two.in_promised_order(sent)

    async def test_many_subscriptions_at_once_are_all_confirmed(self, pair: Pair) -> None:
        one, two = pair
        together = [f"together {number}".encode() for number in range(2000)]
        apart = [f"apart {number}".encode() for number in range(500)]
        await asyncio.gather(two.subscribe(*together), *(two.subscribe(c) for c in apart))
        await asyncio.gather(*(one.publish(channel, b"hello") for channel in together + apart))
        await settle(one, [two])
        assert sorted(c for c, _ in two.received_messages) == sorted(together + apart)

    async def test_a_channel_left_and_wanted_again_is_confirmed_anew(self, pair: Pair) -> None:
        one, two = pair
        await two.subscribe(b"news")
        numbers = [str(number).encode() for number in range(100)]
        for number in numbers:
            two.unsubscribe(b"news")
            if int(number) % 3 == 0:
                await asyncio.sleep(0)  # so that the command is sometimes on its way already
            await two.subscribe(b"news")
            await one.publish(b"news", number)
            await settle(one, [two])
        assert two.heard(b"news") == numbers

    async def test_whichever_order_wishes_cross_in_the_last_one_wins(
        self, backplane: Backplane, pair: Pair
    ) -> None:
        one, two = pair
        chance = random.Random(7)
        channels = [f"crossing {number}".encode() for number in range(20)]
        wanted = set()

        async def wish(channel: bytes) -> None:
            for _ in range(chance.randrange(1, 12)):
                if chance.random() < 0.5:
                    await two.subscribe(channel)
                    wanted.add(channel)
                else:
                    two.unsubscribe(channel)
                    wanted.discard(channel)
                for _ in range(chance.randrange(3)):
                    await asyncio.sleep(0)

        await asyncio.gather(*(wish(channel) for channel in channels))
        for channel in set(channels) - wanted:
            await subscribers_become(0, backplane, channel)
        for channel in channels:
            await one.publish(channel, b"who is there?")
        await settle(one, [two])
        assert {channel for channel, _ in two.received_messages} == wanted

    async def test_a_subscribe_given_up_stays_wanted_until_it_is_taken_back(
        self, backplane: Backplane, pair: Pair
    ) -> None:
        _, two = pair
        waiting = asyncio.create_task(two.subscribe(b"given up"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await two.subscribe(b"given up")
        assert await backplane.subscribers(b"given up") == 1
        two.unsubscribe(b"given up")
        await subscribers_become(0, backplane, b"given up")

    # Wanted without waiting.

    async def test_what_is_wanted_without_waiting_is_received_or_told_to_be_missed(
        self, pair: Pair
    ) -> None:
        one, two = pair
        two.want(b"news", b"other")
        called = time.time()
        is_live = isinstance(two.adapter, SupportsIsLive) and two.adapter.is_live(b"news")
        await one.publish(b"news", b"at once")
        await two.subscribe(b"news", b"other")
        await one.publish(b"news", b"later")
        await settle(one, [two])
        if is_live:
            assert two.heard(b"news") == [b"at once", b"later"]
            assert two.gaps == []
        else:
            assert two.heard(b"news")[-1] == b"later"
            told = {c for gap in two.gaps if gap.since <= called <= gap.until for c in gap.channels}
            assert told == {b"news", b"other"}

    async def test_what_was_confirmed_before_it_is_wanted_without_waiting_misses_nothing(
        self, pair: Pair
    ) -> None:
        one, two = pair
        await two.subscribe(b"news")
        two.want(b"news")
        await one.publish(b"news", b"hello")
        await two.subscribe(b"other")
        await settle(one, [two])
        assert two.heard(b"news") == [b"hello"]
        assert two.gaps == []

    async def test_what_is_wanted_without_waiting_and_no_more_is_in_no_gap(
        self, backplane: Backplane, pair: Pair
    ) -> None:
        one, two = pair
        two.want(b"news")
        two.unsubscribe(b"news")
        await subscribers_become(0, backplane, b"news")
        await two.subscribe(b"other")
        await settle(one, [two])
        assert two.gaps == []

    # Order, at most once, opaque.

    async def test_messages_of_one_worker_arrive_in_order_across_channels(self, pair: Pair) -> None:
        one, two = pair
        channels = [b"a", b"b", b"c"]
        await two.subscribe(*channels)
        sent = [(channels[n % 3], str(n).encode()) for n in range(2000)]
        await asyncio.gather(*(one.publish(channel, data) for channel, data in sent))
        await settle(one, [two])
        assert two.in_promised_order(two.received_messages) == two.in_promised_order(sent)

    async def test_two_workers_messages_all_arrive_each_in_its_order(
        self, backplane: Backplane
    ) -> None:
        async with stations(backplane, 3) as (one, two, three):
            await three.subscribe(b"news")
            ones = [f"one {number}".encode() for number in range(300)]
            twos = [f"two {number}".encode() for number in range(300)]
            await asyncio.gather(one.publish(b"news", *ones), two.publish(b"news", *twos))
            await settle(one, [three])
            await settle(two, [three])
            heard = three.heard(b"news")
            assert [data for data in heard if data.startswith(b"one")] == ones
            assert [data for data in heard if data.startswith(b"two")] == twos

    async def test_channels_are_any_bytes_and_compared_byte_for_byte(self, pair: Pair) -> None:
        one, two = pair
        for channel in ODD_CHANNELS[::2]:
            await two.subscribe(channel)
        for channel in ODD_CHANNELS:
            await one.publish(channel, channel)
        await settle(one, [two])
        sent = [(channel, channel) for channel in ODD_CHANNELS[::2]]
        assert two.in_promised_order(two.received_messages) == two.in_promised_order(sent)

    async def test_messages_are_any_bytes(self, pair: Pair) -> None:
        one, two = pair
        await two.subscribe(b"news")
        await one.publish(b"news", *ODD_MESSAGES)
        await settle(one, [two])
        assert two.heard(b"news") == ODD_MESSAGES

    async def test_a_volatile_message_is_sent_when_the_way_is_free(self, pair: Pair) -> None:
        one, two = pair
        await two.subscribe(b"news")
        one.publish_volatile(b"news", b"now or never")
        await settle(one, [two])
        assert two.heard(b"news") == [b"now or never"]

    async def test_a_volatile_message_keeps_its_place_among_the_others(self, pair: Pair) -> None:
        one, two = pair
        await two.subscribe(b"news")
        first = asyncio.create_task(one.publish(b"news", b"first"))
        await asyncio.sleep(0)
        one.publish_volatile(b"news", b"second")
        await asyncio.gather(first, one.publish(b"news", b"third"))
        await settle(one, [two])
        assert two.heard(b"news") == [b"first", b"second", b"third"]

    # From start to close.

    async def test_health_says_whether_it_is_connected(self, backplane: Backplane) -> None:
        adapter = backplane.adapter()
        assert not adapter.health.connected
        async with stations(backplane, 1) as (one,):
            await eventually(lambda: one.adapter.health.connected)
            health = one.adapter.health
            assert (health.buffered, health.dropped, health.reconnects) == (0, 0, 0)
        assert not one.adapter.health.connected
        assert one.adapter.health.since >= health.since

    async def test_closing_twice_or_before_the_start_is_harmless(
        self, backplane: Backplane
    ) -> None:
        adapter = backplane.adapter()
        await adapter.close()
        await adapter.start(Station(adapter), [b"news"])
        await adapter.close()
        await adapter.close()

    async def test_nothing_comes_and_nothing_is_subscribed_after_close(
        self, backplane: Backplane, pair: Pair
    ) -> None:
        one, two = pair
        await two.subscribe(b"news")
        await two.adapter.close()
        await subscribers_become(0, backplane, b"news")
        async with stations(backplane, 1) as (three,):
            await one.publish(b"news", b"too late")
            await settle(one, [three])
        assert two.received_messages == []

    async def test_it_can_be_started_again_and_remembers_no_channel(
        self, backplane: Backplane, pair: Pair
    ) -> None:
        one, two = pair
        await two.subscribe(b"before")
        await two.adapter.close()
        await two.start(b"after")
        await subscribers_become(0, backplane, b"before")
        await one.publish(b"before", b"forgotten")
        await one.publish(b"after", b"hello")
        await settle(one, [two])
        assert two.received_messages == [(b"after", b"hello")]

    async def test_it_can_be_started_in_another_event_loop(self, backplane: Backplane) -> None:
        one, two = (Station(backplane.adapter()) for _ in range(2))

        async def hear(word: bytes) -> None:
            await one.start()
            await two.start(b"news")
            await one.publish(b"news", word)
            await settle(one, [two])
            await one.adapter.close()
            await two.adapter.close()

        await asyncio.to_thread(asyncio.run, hear(b"in one loop"))
        await asyncio.to_thread(asyncio.run, hear(b"in another"))
        assert two.heard(b"news") == [b"in one loop", b"in another"]

    async def test_a_new_receiver_gets_everything_after_a_new_start(self, pair: Pair) -> None:
        one, two = pair
        await two.adapter.close()
        another = Station(two.adapter)
        await another.start(b"news")
        await one.publish(b"news", b"hello")
        await settle(one, [another])
        assert another.heard(b"news") == [b"hello"]
        assert two.received_messages == []

    async def test_no_gap_is_told_while_nothing_goes_wrong(self, pair: Pair) -> None:
        one, two = pair
        for round_ in range(5):
            await two.subscribe(b"news")
            await one.publish(b"news", str(round_).encode())
            two.unsubscribe(b"news")
        await settle(one, [two])
        assert one.gaps == two.gaps == []
