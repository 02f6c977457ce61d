"""Who gets a message, and what of it: on three workers, with members on each."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from fastapi_rooms import ListenerOverflow, OutboxPolicy, RoomManager
from fastapi_rooms.testing.cluster import Cluster, Member
from fastapi_rooms.testing.suite.backplane import ManagerBench
from fastapi_rooms.testing.waiting import eventually

EVERY_BYTE = bytes(range(256))
LAST = "that is all"

FIVE = 5 * (20 + 256)
"""Room for five messages of 20 bytes, as `OutboxPolicy.max_bytes` counts them."""


async def heard(*members: Member, worker: RoomManager) -> list[list[str | bytes]]:
    """What each member has been sent so far: `worker`, the sender, tells them that this is all."""
    for member in members:
        await worker.to(member.sid).send_text(LAST)
    return [await member.receive_until(LAST) for member in members]


@pytest.mark.asyncio
class DeliverySuite(ManagerBench):
    """Broadcasts, from any worker to any other."""

    async def test_everyone_is_everyone_on_every_worker(self, cluster: Cluster) -> None:
        members = [await cluster.member(worker) for worker in cluster for _ in range(2)]
        await cluster[0].send_text("hello")
        assert await heard(*members, worker=cluster[0]) == [["hello"]] * 6

    async def test_a_room_is_its_members_on_every_worker_and_nobody_else(
        self, cluster: Cluster
    ) -> None:
        inside = [await cluster.member(worker, "lobby") for worker in cluster]
        outside = [await cluster.member(worker, "bar") for worker in cluster]
        await cluster[1].to("lobby").send_text("hello")
        assert await heard(*inside, *outside, worker=cluster[1]) == [["hello"]] * 3 + [[]] * 3

    async def test_a_member_of_several_addressed_rooms_gets_it_once(self, cluster: Cluster) -> None:
        one, two, three = cluster
        both = await cluster.member(two, "a", "b")
        first = await cluster.member(two, "a")
        second = await cluster.member(three, "b")
        here = await cluster.member(one, "b", "a")
        none = await cluster.member(three, "c")
        everybody = (both, first, second, here, none)
        await one.to("a", "b").send_text("both")
        await one.to("a").to("b", both.sid, both.sid).to("a").send_text("named again")
        result = await heard(*everybody, worker=one)
        assert result == [["both", "named again"]] * 4 + [[]]

    async def test_rooms_and_sids_can_be_left_out(self, cluster: Cluster) -> None:
        one, two, three = cluster
        plain = await cluster.member(two, "lobby")
        muted = await cluster.member(two, "lobby", "muted")
        muted_too = await cluster.member(three, "lobby", "muted")
        by_sid = await cluster.member(three, "lobby")
        here = await cluster.member(one, "muted")
        everybody = (plain, muted, muted_too, by_sid, here)
        await one.to("lobby").except_("muted").send_text("to a room")
        await one.except_("muted", by_sid.sid).send_text("to everyone")
        await one.to("lobby").except_("muted").except_(by_sid.sid, plain.sid).send_text("to nobody")
        assert await heard(*everybody, worker=one) == [
            ["to a room", "to everyone"],
            [],
            [],
            ["to a room"],
            [],
        ]

    async def test_a_socket_addresses_the_others_in_a_room(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        sender = await cluster.member(one, "lobby")
        near, far = await cluster.member(one, "lobby"), await cluster.member(two, "lobby")
        elsewhere = await cluster.member(two)
        await sender.socket.to("lobby").send_text("to the room")
        await sender.socket.broadcast.send_text("to all")
        assert await heard(sender, near, far, elsewhere, worker=one) == [
            [],
            ["to the room", "to all"],
            ["to the room", "to all"],
            ["to all"],
        ]

    async def test_a_manager_s_message_reaches_its_own_members_once(self, cluster: Cluster) -> None:
        member = await cluster.member(cluster[0], "lobby")
        for number in range(20):
            await cluster[0].to("lobby").send_text(str(number))
        assert await heard(member, worker=cluster[0]) == [[str(n) for n in range(20)]]

    async def test_local_stays_on_this_worker(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        near, far = await cluster.member(one, "lobby"), await cluster.member(two, "lobby")
        await one.local.send_text("everyone here")
        await one.local.to("lobby").send_text("the room here")
        await one.to("lobby").local.volatile.send_text("the room here, now")
        assert await heard(near, far, worker=one) == [
            ["everyone here", "the room here", "the room here, now"],
            [],
        ]

    async def test_addressing_no_names_reaches_nobody(self, cluster: Cluster) -> None:
        members = [await cluster.member(worker, "lobby") for worker in cluster]
        await cluster[0].to(*[]).send_text("to an empty list")
        await cluster[0].to("nobody is here").send_text("to an empty room")
        assert await heard(*members, worker=cluster[0]) == [[]] * 3

    # Sids.

    async def test_one_socket_is_reached_by_its_sid_from_any_worker(self, cluster: Cluster) -> None:
        one, two, three = cluster
        member, other = await cluster.member(two), await cluster.member(two)
        for worker in cluster:
            await worker.to(member.sid).send_text("psst")
            await worker.to(member.sid, "nobody is here").send_text("psst, by two names")
        assert [await member.receive_text() for _ in range(6)].count("psst") == 3
        assert await heard(member, other, worker=three) == [[], []]
        assert one.sids.keys() == three.sids.keys() == set()

    async def test_a_sid_of_the_users_choice_is_reached_like_any_other(
        self, cluster: Cluster
    ) -> None:
        one, two, three = cluster
        ann = await cluster.member(one, sid="user:ann")
        ann_too = await cluster.member(two, sid="user:ann")  # her other tab, on another worker
        await three.to("user:ann").send_text("hello")
        assert await ann.receive_text() == await ann_too.receive_text() == "hello"
        await three.to("user:ann").send_text(LAST)
        assert await ann.receive_until(LAST) == await ann_too.receive_until(LAST) == []

    async def test_a_room_named_by_a_sid_can_have_others_in_it(self, cluster: Cluster) -> None:
        _, two, three = cluster
        watched = await cluster.member(cluster[0])
        watcher = await cluster.member(two, watched.sid)
        near = await cluster.member(cluster[0], watched.sid)
        for worker in cluster:
            await worker.to(watched.sid).send_text("for you, and who watches you")
            for member in (watched, watcher, near):
                assert await member.receive_text() == "for you, and who watches you"
        await watcher.socket.leave(watched.sid)
        await three.to(watched.sid).send_text("for the two")
        result = await heard(watched, near, watcher, worker=three)
        assert [message for message in result[0] if message != LAST] == ["for the two"]
        assert result[2] == []

    # What is sent.

    async def test_text_bytes_and_json_arrive_as_they_were_sent(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        members = [await cluster.member(one, "lobby"), await cluster.member(two, "lobby")]
        await one.to("lobby").send_text("Grüße 🎉 \x00 \u2028")
        await one.to("lobby").send_text("")
        await one.to("lobby").send_bytes(EVERY_BYTE)
        await one.to("lobby").send_bytes(b"")
        await one.to("lobby").send_json({"a": [1, None, "ü"], "b": {"c": 0.5}})
        for member in members:
            assert await member.receive_text() == "Grüße 🎉 \x00 \u2028"
            assert await member.receive_text() == ""
            assert await member.receive_bytes() == EVERY_BYTE
            assert await member.receive_bytes() == b""
            assert await member.receive_json() == {"a": [1, None, "ü"], "b": {"c": 0.5}}

    async def test_a_mebibyte_arrives_whole(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        members = [await cluster.member(one, "lobby"), await cluster.member(two, "lobby")]
        data, text = EVERY_BYTE * 4096, "ä" * 512 * 1024
        await one.to("lobby").send_bytes(data)
        for member in members:
            assert await member.receive_bytes() == data
        await one.to("lobby").send_text(text)
        for member in members:
            assert await member.receive_text() == text

    async def test_what_changes_after_it_was_sent_changes_nothing(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        members = [await cluster.member(one, "lobby"), await cluster.member(two, "lobby")]
        buffer = bytearray(b"before")
        await one.to("lobby").send_bytes(cast("bytes", buffer))
        buffer[:] = b"after!"
        assert [await member.receive_bytes() for member in members] == [b"before"] * 2

    # Order.

    async def test_one_senders_messages_keep_their_order(self, cluster: Cluster) -> None:
        members = [await cluster.member(worker, "lobby") for worker in cluster]
        sent = [str(number) for number in range(2000)]
        for number in sent:
            await cluster[1].to("lobby").send_text(number)
        for member in members:
            assert [await member.receive_text() for _ in sent] == sent

    async def test_messages_sent_at_once_keep_the_order_of_the_calls(
        self, cluster: Cluster
    ) -> None:
        one, two, _ = cluster
        near, far = await cluster.member(one, "lobby"), await cluster.member(two, "lobby")
        sent = [str(number) for number in range(500)]
        await asyncio.gather(*(one.to("lobby").send_text(number) for number in sent))
        for member in (near, far):
            assert [await member.receive_text() for _ in sent] == sent

    async def test_workers_that_all_talk_at_once_are_all_heard_once(self, cluster: Cluster) -> None:
        members = [await cluster.member(worker, "lobby") for worker in cluster]
        sent = [[f"{number} from {w}" for number in range(200)] for w in range(3)]

        async def talk(worker: RoomManager, messages: list[str]) -> None:
            for message in messages:
                await worker.to("lobby").send_text(message)

        await asyncio.gather(*map(talk, cluster, sent))
        for member in members:
            got = [await member.receive_text() for _ in range(600)]
            for messages in sent:
                assert [message for message in got if message in set(messages)] == messages

    # Those that do not read.

    async def test_one_that_does_not_read_delays_nobody(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        near, far = await cluster.member(one, "lobby"), await cluster.member(two, "lobby")
        mute = [await cluster.member(worker, "lobby") for worker in (one, two)]
        for member in mute:
            member.stall()
        for number in range(200):
            await one.to("lobby").send_text(str(number))
        for member in (near, far):
            assert [await member.receive_text() for _ in range(200)] == [str(n) for n in range(200)]
        for member in mute:
            member.resume()
            assert [await member.receive_text() for _ in range(200)] == [str(n) for n in range(200)]

    async def test_volatile_reaches_those_who_keep_up_and_skips_the_others(
        self, cluster: Cluster
    ) -> None:
        one, two, _ = cluster
        near, far = await cluster.member(one, "lobby"), await cluster.member(two, "lobby")
        mute = await cluster.member(two, "lobby")
        mute.stall()
        await one.to("lobby").send_text("held up")
        assert await far.receive_text() == await near.receive_text() == "held up"
        await one.to("lobby").volatile.send_text("typing…")
        assert await far.receive_text() == await near.receive_text() == "typing…"
        assert mute.socket.dropped == 1
        mute.resume()
        assert await heard(mute, worker=one) == [["held up"]]

    # Listeners.

    async def test_a_listener_hears_its_rooms_from_every_worker(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        async with two.listen("news", "weather") as messages:
            await one.to("news").send_text("far")
            await one.to("news", "weather").send_json({"to": "both"})
            await one.to("sports").send_text("not asked for")
            await one.send_text("to everyone, which is not heard")
            await one.to("weather").send_bytes(EVERY_BYTE)
            first, second, third = [await anext(messages) for _ in range(3)]
            await two.to("news").send_text("near")
            fourth = await anext(messages)
        assert (first.room, first.text, first.binary) == ("news", "far", False)
        assert (second.room, second.json()) == ("news", {"to": "both"})
        assert (third.room, third.bytes, third.binary) == ("weather", EVERY_BYTE, True)
        assert (fourth.room, fourth.text) == ("news", "near")
        assert [message async for message in messages] == []
        assert not two.rooms

    async def test_a_listener_misses_nothing_from_its_first_line_on(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        for number in range(30):
            async with two.listen(f"fresh {number}") as messages:
                await one.to(f"fresh {number}").send_text("at once")
                assert (await anext(messages)).text == "at once"

    async def test_a_listener_that_does_not_read_is_told_so_after_what_fitted(
        self, cluster: Cluster
    ) -> None:
        one, two, _ = cluster
        member = await cluster.member(two, "news")
        sent = [f"{number:020}" for number in range(20)]
        async with two.listen("news", outbox=OutboxPolicy(max_bytes=FIVE)) as messages:
            for text in sent:
                await one.to("news").send_text(text)
            assert await heard(member, worker=one) == [sent]
            assert [(await anext(messages)).text for _ in range(5)] == sent[:5]
            with pytest.raises(ListenerOverflow):
                await anext(messages)

    async def test_a_listener_may_rather_miss_the_oldest(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        policy = OutboxPolicy(max_bytes=FIVE, overflow="drop_oldest")
        async with two.listen("news", outbox=policy) as messages:
            for number in range(20):
                await one.to("news").send_text(f"{number:020}")
            await eventually(lambda: messages.dropped == 15)
            got = [(await anext(messages)).text for _ in range(5)]
        assert got == [f"{number:020}" for number in range(15, 20)]

    # Whoever goes.

    async def test_one_whose_client_is_lost_harms_no_other(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        lost = [await cluster.member(worker, "lobby") for worker in (one, two)]
        members = [await cluster.member(worker, "lobby") for worker in (one, two)]
        for member in lost:
            member.leave(1006)
        await one.to("lobby").send_text("still there?")
        assert await heard(*members, worker=one) == [["still there?"]] * 2
        await eventually(lambda: len(one.rooms["lobby"]) == len(two.rooms["lobby"]) == 1)

    async def test_who_left_gets_nothing_more(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        gone, here = await cluster.member(two, "lobby", "bar"), await cluster.member(two, "lobby")
        await gone.socket.leave("lobby", "never joined")
        await one.to("lobby").send_text("without you")
        await one.to("lobby", "bar").send_text("with you")
        assert await heard(gone, here, worker=one) == [["with you"], ["without you", "with you"]]
        assert gone.socket.rooms == {"bar", gone.sid}

    async def test_an_operator_is_kept_and_used_again(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        member, muted = await cluster.member(two, "lobby"), await cluster.member(two, "lobby", "m")
        lobby = one.to("lobby")
        quietly = lobby.except_("m")
        await lobby.send_text("all")
        await quietly.send_text("some")
        await lobby.send_text("all again")
        assert await heard(member, muted, worker=one) == [
            ["all", "some", "all again"],
            ["all", "all again"],
        ]
