"""Rooms across real uvicorn workers on one real Redis."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Iterator

import pytest

from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.clients import Client, Refused, heard, http, server_sent_events
from tests.integration.servers import starter, uvicorn
from tests.integration.workers import Connect, Workers

People = Callable[..., Awaitable[list[Client]]]


@pytest.fixture(scope="module", params=["three servers", "one server with two workers"])
def workers(
    request: pytest.FixtureRequest, redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workers]:
    with starter(tmp_path_factory.mktemp("servers")) as start:
        if request.param == "three servers":
            servers = [start(uvicorn(), ROOMS_URL=redis.url) for _ in range(3)]
            workers = Workers.each_of(servers)
        else:
            servers = [start(uvicorn("--workers", "2"), ROOMS_URL=redis.url)]
            workers = Workers.of(servers[0], 2)
        yield workers
        assert [line for server in servers for line in server.complaints] == []


@pytest.fixture
def people(workers: Workers, connect: Connect) -> People:
    """Connect so many people, each on the next worker."""

    async def people(count: int, path: str = "/ws") -> list[Client]:
        return [await workers.connect(connect, number, path) for number in range(count)]

    return people


@pytest.fixture
def room() -> str:
    """A room that no other test uses."""
    return f"room-{secrets.token_hex(4)}"


# Whom a broadcast reaches.


async def test_what_is_sent_to_everyone_reaches_everyone_on_every_worker(people: People) -> None:
    ann, bob, cid = await people(3)
    await ann.rooms.send_text("hello")
    assert await heard(ann, ann, bob, cid) == [["hello"]] * 3


async def test_a_sockets_broadcast_reaches_everyone_but_itself(people: People) -> None:
    ann, bob, cid = await people(3)
    await ann.socket.broadcast.send_text("hello")
    assert await heard(ann, ann, bob, cid) == [[], ["hello"], ["hello"]]


async def test_a_room_reaches_its_members_on_every_worker_and_nobody_else(
    people: People, room: str
) -> None:
    ann, bob, cid, dan, eve = await people(5)
    for member in (ann, bob, cid, dan):
        await member.socket.join(room)
    await ann.socket.to(room).send_text("to the others")
    await ann.rooms.to(room).send_text("to all")
    assert await heard(ann, ann, bob, cid, dan, eve) == [
        ["to all"],
        *[["to the others", "to all"]] * 3,
        [],
    ]


async def test_a_socket_that_left_hears_the_room_no_more(people: People, room: str) -> None:
    ann, bob = await people(2)
    await bob.socket.join(room)
    await ann.rooms.to(room).send_text("one")
    assert await heard(ann, bob) == [["one"]]
    await bob.socket.leave(room)
    await ann.rooms.to(room).send_text("two")
    assert await heard(ann, bob) == [[]]


async def test_a_socket_in_several_of_the_rooms_hears_it_once(people: People, room: str) -> None:
    ann, bob, cid, dan = await people(4)
    a, b, c = (f"{room}-{letter}" for letter in "abc")
    await bob.socket.join(a, b, c)
    await cid.socket.join(b)
    await dan.socket.join(b, c)
    await ann.rooms.to(a, b, c).send_text("hello")
    await ann.rooms.to(a).to(b).send_text("again")
    await ann.rooms.to(c).send_text("only c")
    assert await heard(ann, ann, bob, cid, dan) == [
        [],
        ["hello", "again", "only c"],
        ["hello", "again"],
        ["hello", "again", "only c"],
    ]


async def test_except_leaves_out_rooms_and_sids_on_every_worker(people: People, room: str) -> None:
    ann, bob, cid, dan, eve = everybody = await people(5)
    quiet = f"{room}-quiet"
    for person in everybody:
        await person.socket.join(room)
    await bob.socket.join(quiet)
    await dan.socket.join(quiet)
    await ann.rooms.to(room).except_(quiet).send_text("not the quiet")
    await ann.rooms.to(room).except_(cid.sid, quiet).send_text("nor cid")
    await ann.rooms.except_(ann.sid, bob.sid, dan.sid, eve.sid).send_text("cid alone")
    await ann.socket.to(room).except_(quiet).send_text("nor ann")
    assert await heard(ann, *everybody) == [
        ["not the quiet", "nor cid"],
        [],
        ["not the quiet", "cid alone", "nor ann"],
        [],
        ["not the quiet", "nor cid", "nor ann"],
    ]


async def test_local_stays_on_the_worker(workers: Workers, people: People, room: str) -> None:
    ann, *_ = everybody = await people(len(workers) + 1)
    for person in everybody:
        await person.socket.join(room)
    await ann.rooms.to(room).local.send_text("here")
    await ann.rooms.local.send_text("anybody here")
    expected = ["here", "anybody here"]
    assert await heard(ann, *everybody) == [
        expected if person.worker == ann.worker else [] for person in everybody
    ]


async def test_one_sid_on_another_worker_is_reached(people: People, room: str) -> None:
    ann, bob, cid = await people(3)
    await ann.rooms.to(bob.sid).send_text("only you")
    await ann.socket.to(cid.sid, bob.sid).send_text("both of you")
    assert await heard(ann, ann, bob, cid) == [[], ["only you", "both of you"], ["both of you"]]


async def test_a_sid_of_ones_own_choice_is_reached_on_another_worker(
    workers: Workers, connect: Connect, people: People, room: str
) -> None:
    (ann,) = await people(1)
    bob = await workers.connect(connect, 1, f"/ws?sid=bob-{room}")
    assert bob.sid == f"bob-{room}"
    await ann.rooms.to(bob.sid).send_text("only you")
    assert await heard(ann, ann, bob) == [[], ["only you"]]


async def test_somebody_elses_sid_is_a_room_to_join(people: People) -> None:
    ann, bob, cid = await people(3)
    await cid.socket.join(bob.sid)
    await ann.rooms.to(bob.sid).send_text("to bob and who listens in")
    expected = ["to bob and who listens in"]
    assert await heard(ann, ann, bob, cid) == [[], expected, expected]


async def test_volatile_reaches_whoever_keeps_up(people: People, room: str) -> None:
    ann, bob, cid = await people(3)
    await bob.socket.join(room)
    await ann.rooms.to(room).volatile.send_text("typing")
    assert await heard(ann, ann, bob, cid) == [[], ["typing"], []]


async def test_namespaces_know_nothing_of_each_other(people: People, room: str) -> None:
    ann, bob = await people(2)
    cat, dog = await people(2, "/ws/animals")
    for someone in (ann, bob, cat, dog):
        await someone.socket.join(room)
    await ann.rooms.to(room).send_text("to people")
    await cat.rooms.to(room).send_text("to animals")
    await cat.rooms.send_text("to every animal")
    await ann.rooms.to(dog.sid).send_text("to a dog that no person is")
    assert await heard(ann, ann, bob) == [["to people"]] * 2
    assert await heard(cat, cat, dog) == [["to animals", "to every animal"]] * 2


# What arrives.


async def test_text_json_and_every_byte_arrive_as_they_were_sent(people: People, room: str) -> None:
    ann, bob, cid = await people(3)
    await bob.socket.join(room)
    await cid.socket.join(room)
    sending = ann.socket.to(room)
    await sending.send_text("Grüße 👋\n\0\u2028")
    await sending.send_text("")
    await sending.send_json({"a": [1, 2.5, None, True, "ü"]})
    await sending.send_bytes(bytes(range(256)))
    await sending.send_bytes(b"")
    expected = [
        "Grüße 👋\n\0\u2028",
        "",
        '{"a":[1,2.5,null,true,"ü"]}',
        bytes(range(256)),
        b"",
    ]
    assert await heard(ann, bob, cid) == [expected, expected]


async def test_a_mebibyte_arrives_whole(people: People, room: str) -> None:
    ann, bob, cid = await people(3)
    await bob.socket.join(room)
    await cid.socket.join(room)
    text = "".join(map(chr, range(0x20, 0x2020))) * 48
    text += "." * (1024 * 1024 - len(text.encode()))
    data = random.Random(1).randbytes(1024 * 1024)
    await ann.socket.to(room).send_text(text)
    await ann.socket.to(room).send_bytes(data)
    assert await heard(ann, bob, cid) == [[text, data], [text, data]]


async def test_two_thousand_messages_of_one_sender_arrive_in_order(
    people: People, room: str
) -> None:
    ann, bob, cid, dan = await people(4)
    for member in (bob, cid, dan):
        await member.socket.join(room)
    await asyncio.gather(*(ann.rooms.to(room).send_text(str(number)) for number in range(2000)))
    expected = [str(number) for number in range(2000)]
    assert await heard(ann, bob, cid, dan) == [expected] * 3


@pytest.mark.parametrize("way", ["burst", "burst_at_once"])
async def test_a_burst_of_one_endpoint_arrives_in_order(
    people: People, room: str, way: str
) -> None:
    ann, bob, cid, dan = await people(4)
    for member in (ann, bob, cid, dan):
        await member.socket.join(room)
    await getattr(ann.app, way)(room, 2000)
    expected = [str(number) for number in range(2000)]
    assert await heard(ann, ann, bob, cid, dan) == [[], *[expected] * 3]


# From when a room is heard.


async def test_150_fresh_rooms_are_heard_the_moment_join_returns(people: People, room: str) -> None:
    ann, bob = await people(2)
    for number in range(150):
        await bob.socket.join(f"{room}-{number}")
        await ann.rooms.to(f"{room}-{number}").send_text(str(number))
    assert await heard(ann, bob) == [[str(number) for number in range(150)]]


async def test_150_fresh_rooms_joined_by_many_at_once_are_heard_the_moment_join_returns(
    people: People, room: str
) -> None:
    ann, *members = await people(16)

    async def join_and_be_hailed(number: int) -> str:
        member = members[number % len(members)]
        await member.socket.join(f"{room}-{number}")
        await ann.rooms.to(f"{room}-{number}").send_text(str(number))
        return str(number)

    await asyncio.gather(*map(join_and_be_hailed, range(150)))
    messages = [message for hearing in await heard(ann, *members) for message in hearing]
    assert sorted(map(int, messages)) == list(range(150))


async def test_a_room_left_and_joined_again_at_once_misses_nothing(
    people: People, room: str
) -> None:
    ann, bob = await people(2)
    for number in range(50):
        await bob.socket.join(room)
        await ann.rooms.to(room).send_text(str(number))
        await heard_number(bob, str(number))
        await bob.socket.leave(room)


async def heard_number(client: Client, number: str) -> None:
    assert await client.next() == number


# Names.

ODD_NAMES = [
    "*",
    "#",
    "##",
    "rooms#/#",
    "?",
    "[a-z]",
    "a*",
    "a b",
    " ",
    "\0",
    "a\0b",
    "\r\n",
    "👩‍👩‍👧",
    "e\u0301",
    "é",
    "/",
    "Tea",
    "tea",
    "TEA",
    "None",
    "x" * 255,
    "é" * 127,
]


async def test_odd_room_names_are_opaque(people: People, room: str) -> None:
    ann, *others = await people(1 + len(ODD_NAMES))
    for person, name in zip(others, ODD_NAMES, strict=True):
        await person.socket.join(name)
    for name in ODD_NAMES:
        await ann.rooms.to(name).send_text(f"to {name!r}")
    assert await heard(ann, ann, *others) == [[], *([f"to {name!r}"] for name in ODD_NAMES)]


@pytest.mark.parametrize(
    "name",
    ["", "x" * 256, "é" * 128, "\ud800", None, 7, ["tea"], b"tea"],
    ids=["empty", "256 bytes", "256 bytes of é", "lone surrogate", "None", "int", "list", "bytes"],
)
async def test_a_name_no_room_can_have_is_refused_before_anything_happens(
    people: People, room: str, redis: RedisServer, name: object
) -> None:
    ann, bob = await people(2)
    await bob.socket.join(room)
    attempts = [
        ann.socket.join(f"{room}-new", name),
        ann.socket.leave(f"{room}-new", name),
        ann.rooms.to(room, name).send_text("refused"),
        ann.rooms.to(room).except_(name).send_text("refused"),
        ann.socket.to(name).send_text("refused"),
    ]
    for attempt in attempts:
        with pytest.raises(Refused) as refusal:
            await attempt
        assert refusal.value.error == "InvalidRoomName"
    assert await ann.socket.rooms == [ann.sid]
    assert redis.numsub(f"rooms#/#{room}-new#") == 0
    assert await heard(ann, ann, bob) == [[], []]


# Other ways in and out.


async def test_an_http_route_speaks_to_a_room_on_every_worker(
    workers: Workers, people: People, room: str
) -> None:
    ann, bob, cid = await people(3)
    await ann.socket.join(room)
    await bob.socket.join(room)
    answered: set[int] = set()
    while len(answered) < len(workers):
        for worker in range(len(workers)):
            answer = await http(workers.server(worker), f"/announce/{room}/hello", "POST")
            answered.add(answer["worker"])
            assert [await ann.next(), await bob.next()] == ["hello"] * 2
    assert await heard(ann, cid) == [[]]


async def test_a_server_sent_events_route_hears_a_room(
    workers: Workers, people: People, room: str, redis: RedisServer
) -> None:
    everybody = await people(len(workers))
    async with server_sent_events(workers.server(0), room) as events:
        assert redis.numsub(f"rooms#/#{room}#") == 1
        for person in everybody:  # one of them at least is on another worker
            await person.rooms.to(room).send_text(f"from {person.sid}")
            assert await anext(events) == f"from {person.sid}"

    await eventually(lambda: redis.numsub(f"rooms#/#{room}#") == 0, what="nobody listens")


# What Redis knows.


async def test_a_rooms_channel_has_as_many_subscribers_as_workers_with_a_member(
    workers: Workers, people: People, room: str, redis: RedisServer
) -> None:
    channel = f"rooms#/#{room}#"
    everybody = await people(2 * len(workers))
    counts = []
    for person in everybody:
        await person.socket.join(room)
        counts.append(redis.numsub(channel))
    everywhere = len(workers)
    assert counts == [*range(1, everywhere + 1), *[everywhere] * everywhere]

    for person in everybody[:everywhere]:
        await person.socket.leave(room)
    assert redis.numsub(channel) == everywhere  # a neighbour is still in
    await everybody[-1].socket.leave(room)
    await eventually(lambda: redis.numsub(channel) == everywhere - 1)
    for person in everybody:
        await person.close()
    await eventually(lambda: redis.numsub(channel) == 0)


async def test_redis_keeps_no_key(people: People, room: str, redis: RedisServer) -> None:
    redis.command("FLUSHALL")  # of rooms that remember, in other tests
    ann, bob = await people(2)
    await ann.socket.join(room)
    await bob.socket.join(room)
    await ann.rooms.to(room).send_text("hello")
    assert await bob.next() == "hello"
    assert redis.admin.keys("*") == []


async def test_a_new_socket_costs_redis_no_channel(
    workers: Workers, people: People, redis: RedisServer
) -> None:
    await people(len(workers))
    before = {*redis.channels()}
    await people(10)
    assert {*redis.channels()} <= before  # an earlier test's room may have gone meanwhile


async def test_junk_on_our_channels_changes_nothing(
    workers: Workers, people: People, room: str, redis: RedisServer
) -> None:
    everybody = await people(2 * len(workers))
    ann = everybody[0]
    for person in everybody:
        await person.socket.join(room)
    channels = [c for c in redis.channels() if b"room-" not in c]
    channels.append(f"rooms#/#{room}#".encode())
    with redis.admin.pubsub() as spy:  # type: ignore[no-untyped-call]
        spy.subscribe(f"rooms#/#{room}#")
        spy.get_message(timeout=5)
        await ann.rooms.to(room).send_text("real")
        genuine: bytes = spy.get_message(timeout=5)["data"]
    assert await heard(ann, *everybody) == [["real"]] * len(everybody)
    dropped = [(await workers.state(worker))["dropped"] for worker in range(len(workers))]

    for channel in channels:
        for junk in junk_like(genuine, b"real"):
            redis.admin.publish(channel, junk)
    await ann.rooms.to(room).send_text("still here")
    assert await heard(ann, *everybody) == [["still here"]] * len(everybody)
    for worker, before in enumerate(dropped):
        assert (await workers.state(worker))["dropped"] > before


def junk_like(genuine: bytes, payload: bytes) -> Iterator[bytes]:
    """Bytes that are no message: noise, and a message that was cut, changed, or sent already."""
    noise = random.Random(2)
    yield b""
    yield b'{"type": "message", "room": "tea"}'
    yield b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01x\x94."  # a pickle
    for size in (1, 23, 24, 25, 100, 10_000):
        yield b"\0" + noise.randbytes(size)
        yield b"\xff" * size
    yield from (genuine[:length] for length in range(len(genuine) - len(payload)))
    yield b"\x02" + genuine[1:]  # a version to come
    yield genuine[:1] + b"\x63" + genuine[2:]  # a kind to come
    yield genuine[:2] + b"\xf0" + genuine[3:]  # flags to come
    yield genuine[: -len(payload)] + b"\xff\xfe"  # text that is none
    yield genuine
