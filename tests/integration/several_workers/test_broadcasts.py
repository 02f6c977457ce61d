"""Whom a broadcast reaches, of sockets, of an HTTP route and of a listener across real workers."""

from __future__ import annotations

from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.clients import heard, http, server_sent_events
from tests.integration.several_workers.people import People
from tests.integration.workers import Connect, Workers


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
