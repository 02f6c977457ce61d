"""What must make no difference: names that look like something, and bytes that nobody meant."""

# ruff: noqa: S311 -- the names are sentences; chance is seeded and guards no secret

from __future__ import annotations

import random

import pytest

from fastapi_rooms import InvalidNamespace, InvalidRoomName, MessageTooLarge, RoomManager
from fastapi_rooms.testing.client import Rejected
from fastapi_rooms.testing.cluster import Cluster, Member
from fastapi_rooms.testing.suite.backplane import (
    Backplane,
    ManagerBench,
    Station,
    channel_of,
    stations,
)
from fastapi_rooms.testing.waiting import eventually

ODD_ROOMS = [
    "room",
    "Room",
    "ROOM",
    "roo*",
    "*",
    "roo?",
    "[a-z]oom",
    "\\*",
    "#",
    "##",
    "room#",
    "a#b",
    "/",
    "/chat",
    "\x00",
    "room\x00",
    " ",
    "\r\n",
    "🎉",
    "é",
    "e\u0301",
    "{room}",
    "None",
    "x" * 255,
    "ü" * 127,
    "0123456789abcdef",
    "0123456789abcdef.",
    "0123456789abcdef.AAAAAAAAAAAAAAAA",
]
BAD_ROOMS = ["", "x" * 256, "ü" * 128, "\ud800", None, 7, b"room", ["room"]]
BAD_NAMESPACES = ["", "a#b", "x" * 300, "\ud800", None, 7]


@pytest.mark.asyncio
class StrictnessSuite(ManagerBench):
    """Names are opaque, and what comes from the backplane is believed in nothing."""

    # Names.

    async def test_room_names_are_opaque(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        members = [await cluster.member(two, room) for room in ODD_ROOMS]
        for room in ODD_ROOMS:
            await one.to(room).send_json(room)
        for room, member in zip(ODD_ROOMS, members, strict=True):
            await one.to(member.sid).send_text("last")
            assert await member.receive_json() == room
            assert await member.receive_until("last") == []
        assert two.rooms.keys() == {*ODD_ROOMS, *(member.sid for member in members)}

    async def test_rooms_are_told_apart_when_several_are_addressed(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        members = [await cluster.member(two, room) for room in ODD_ROOMS]
        addressed = ODD_ROOMS[::2]
        await one.to(*addressed).send_text("to half of them")
        await one.except_(*addressed).send_text("to the others")
        for room, member in zip(ODD_ROOMS, members, strict=True):
            expected = "to half of them" if room in addressed else "to the others"
            assert await member.receive_text() == expected
            await one.to(member.sid).send_text("last")
            assert await member.receive_until("last") == []

    @pytest.mark.parametrize("name", BAD_ROOMS, ids=repr)
    async def test_a_bad_room_name_is_refused_before_anything_happens(
        self, cluster: Cluster, name: str
    ) -> None:
        one, two, _ = cluster
        member = await cluster.member(two, "good")
        with pytest.raises(InvalidRoomName):
            await member.socket.join("fine", name)
        with pytest.raises(InvalidRoomName):
            await member.socket.leave("good", name)
        for operator in (one, one.local, member.socket.broadcast):
            with pytest.raises(InvalidRoomName):
                operator.to("good", name)
            with pytest.raises(InvalidRoomName):
                operator.except_("good", name)
        with pytest.raises(InvalidRoomName):
            async with two.listen("fine", name):
                pytest.fail("listened to a bad name")
        if name is not None:
            with pytest.raises((InvalidRoomName, Rejected)) as refused:
                await Member(one, sid=name).open()
            if isinstance(refused.value, Rejected):  # a string: it may be the client's
                assert refused.value.status == 400
        assert member.socket.rooms == {"good", member.sid}
        assert two.rooms.keys() == {"good", member.sid}
        assert not one.sids

    @pytest.mark.parametrize("name", BAD_NAMESPACES, ids=repr)
    async def test_a_bad_namespace_is_refused(self, cluster: Cluster, name: str) -> None:
        with pytest.raises(InvalidNamespace):
            cluster[0].of(name)

    async def test_namespaces_know_nothing_of_each_other(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        names = ["/", "/chat", "/Chat", "/chat/", "/chat/#"[:-1] + "x", "/🎉"]
        members = [await cluster.member(two.of(name), "lobby") for name in names]
        for name in names:
            await one.of(name).to("lobby").send_text(f"the lobby of {name}")
            await one.of(name).send_text(f"everyone in {name}")
            await one.of(name).to("lobby", "bar").send_text(f"rooms of {name}")
        for name, member in zip(names, members, strict=True):
            await one.of(name).to(member.sid).send_text("last")
            assert await member.receive_until("last") == [
                f"the lobby of {name}",
                f"everyone in {name}",
                f"rooms of {name}",
            ]
        assert one.of("chat") is one.of("/chat")
        assert one.of("/") is one

    async def test_a_namespace_that_a_worker_does_not_have_is_no_trouble(
        self, cluster: Cluster
    ) -> None:
        one, two, _ = cluster
        member = await cluster.member(two, "lobby")
        await one.of("/unknown").to(member.sid).send_text("from another world")
        await one.to(member.sid).send_text("last")
        assert await member.receive_until("last") == []

    async def test_a_message_over_the_limit_is_refused_before_anything_happens(
        self, backplane: Backplane
    ) -> None:
        async with Cluster(2, adapter=backplane.adapter, max_message_bytes=1000) as cluster:
            one = cluster[0]
            members = [await cluster.member(worker, "lobby") for worker in cluster]
            with pytest.raises(MessageTooLarge) as refused:
                await one.to("lobby").send_bytes(b"x" * 1001)
            assert (refused.value.size, refused.value.limit) == (1001, 1000)
            with pytest.raises(MessageTooLarge):
                await one.to("lobby").send_text("ä" * 501)
            await one.to("lobby").send_bytes(b"x" * 1000)
            assert [await m.receive_bytes() for m in members] == [b"x" * 1000] * 2

    async def test_what_json_cannot_say_is_refused_before_anything_happens(
        self, cluster: Cluster
    ) -> None:
        one, two, _ = cluster
        member = await cluster.member(two, "lobby")
        with pytest.raises(TypeError):
            await one.to("lobby").send_json({"an object": object()})
        with pytest.raises(UnicodeEncodeError):
            await one.to("lobby").send_text("\ud800")
        with pytest.raises(TypeError):
            await one.to("lobby").send_text(b"bytes")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            await one.to("lobby").send_bytes("text")  # type: ignore[arg-type]
        await one.to(member.sid).send_text("last")
        assert await member.receive_until("last") == []

    # Bytes.

    async def test_what_is_no_envelope_is_dropped_and_counted(
        self, cluster: Cluster, backplane: Backplane
    ) -> None:
        one, two, _ = cluster
        member = await cluster.member(two, "lobby")
        channel = channel_of(backplane, "lobby")
        async with stations(backplane, 1) as (stranger,):
            envelope = await _one_envelope(stranger, one, channel)
            await member.receive_text()
            junk = [*_junk(), *_broken(envelope)]
            before = two.health.dropped
            await stranger.publish(channel, *junk)
            await eventually(lambda: two.health.dropped == before + len(junk))
            await one.to("lobby").send_text("last")
            assert await member.receive_until("last") == []
            assert one.health.dropped == 0
            assert two.health.ready

    async def test_an_envelope_that_comes_again_is_delivered_once(
        self, cluster: Cluster, backplane: Backplane
    ) -> None:
        one, two, _ = cluster
        member = await cluster.member(two, "lobby")
        channel = channel_of(backplane, "lobby")
        async with stations(backplane, 1) as (stranger,):
            envelope = await _one_envelope(stranger, one, channel)
            await stranger.publish(channel, envelope, envelope, envelope)
            await one.to("lobby").send_text("last")
            assert await member.receive_until("last") == ["a message to take apart"]

    async def test_whatever_is_made_of_an_envelope_harms_nothing_that_follows(
        self, cluster: Cluster, backplane: Backplane
    ) -> None:
        one, two, three = cluster
        member = await cluster.member(two, "lobby")
        channel = channel_of(backplane, "lobby")
        chance = random.Random(11)
        async with stations(backplane, 1) as (stranger,):
            envelope = await _one_envelope(stranger, three, channel)
            mutants = [_mutated(envelope, chance) for _ in range(500)]
            await stranger.publish(channel, *mutants)
            for number in range(20):
                await one.to("lobby").send_text(f"genuine {number}")
            await stranger.publish(channel, *mutants[::7])
            await one.to(member.sid).send_text("last")
            received = await member.receive_until("last")
            assert [m for m in received if str(m).startswith("genuine")] == [
                f"genuine {number}" for number in range(20)
            ]
            assert two.health.ready


async def _one_envelope(stranger: Station, sender: RoomManager, channel: bytes) -> bytes:
    """A real one, as it travels."""
    await stranger.subscribe(channel)
    await sender.to("lobby").send_text("a message to take apart")
    await eventually(lambda: stranger.heard(channel))
    return stranger.heard(channel)[0]


def _junk() -> list[bytes]:
    chance = random.Random(3)
    # An envelope starts with its version, 1.
    random_bytes = [bytes([2]) + chance.randbytes(chance.randrange(200)) for _ in range(200)]
    return [
        b"",
        b"\x00",
        b"\x01",
        b"\xff" * 300,
        b"hello",
        b'{"room": "lobby"}',
        b"\x80\x04\x95pickle",
        b"\x00" * 1000,
        *random_bytes,
    ]


def _broken(envelope: bytes) -> list[bytes]:
    """Envelopes that break the format, each in one place."""
    payload = len(b"a message to take apart")
    truncated = [envelope[:length] for length in range(len(envelope) - payload)]
    unknown_version = bytes([99]) + envelope[1:]
    unknown_kind = envelope[:1] + bytes([99]) + envelope[2:]
    unknown_flag = envelope[:2] + bytes([envelope[2] | 0x80]) + envelope[3:]
    long_namespace = envelope[:19] + b"\xff" + envelope[20:]
    many_rooms = envelope[:20] + b"\xff\xff" + envelope[22:]
    many_left_out = envelope[:22] + b"\xff\xff" + envelope[24:]
    no_text = envelope[:-1] + b"\xff"
    return [
        *truncated,
        unknown_version,
        unknown_kind,
        unknown_flag,
        long_namespace,
        many_rooms,
        many_left_out,
        no_text,
    ]


def _mutated(envelope: bytes, chance: random.Random) -> bytes:
    mutant = bytearray(envelope)
    for _ in range(chance.randrange(1, 8)):
        match chance.randrange(4):
            case 0 if mutant:
                mutant[chance.randrange(len(mutant))] ^= 1 << chance.randrange(8)
            case 1 if mutant:
                del mutant[chance.randrange(len(mutant))]
            case 2:
                mutant.insert(chance.randrange(len(mutant) + 1), chance.randrange(256))
            case _:
                cut = chance.randrange(len(mutant) + 1)
                mutant[cut:] = chance.randbytes(chance.randrange(20))
    return bytes(mutant)
