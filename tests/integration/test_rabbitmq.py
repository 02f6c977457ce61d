"""RabbitMQ in the ways it is reached, what its tools say of it, and what is not to be had there."""

from __future__ import annotations

import asyncio
import logging
import socket
from functools import partial
from typing import Any

import pytest

from fastapi_rooms import (
    AdapterUnavailable,
    AsyncEmitter,
    ConfigurationError,
    Emitter,
    RabbitMQAdapter,
    RoomManager,
    UsageError,
)
from fastapi_rooms.testing import (
    Cluster,
    Member,
    RabbitMQProxy,
    RabbitMQServer,
    eventually,
)
from fastapi_rooms.testing.suite import Station
from tests.emitters import AnyEmitter, done
from tests.faults.support import ready
from tests.integration.terminal import findings, run


@pytest.fixture
def url(rabbitmq_server: RabbitMQServer, rabbitmq_vhost: str) -> str:
    server = rabbitmq_server
    return server.url_of(server.host, server.port, vhost=rabbitmq_vhost)


REMEMBERS = r"RabbitMQAdapter does not\. In memory and on Redis it can be had"


async def send(emitter: AnyEmitter) -> None:
    """Send to the lobby; what blocks, in a thread: the wire is in this event loop."""
    operator: Any = emitter.to("lobby")
    await done(await asyncio.to_thread(operator.send_text, "hello"))


async def hears(rooms: RoomManager, *emitters: AnyEmitter) -> None:
    """What each of them sends to a room reaches a member."""
    async with rooms, Member(rooms, "lobby") as member:
        for emitter in emitters:
            await done(emitter.to("lobby").send_text("hello"))
            assert await member.receive_text() == "hello"
            await done(emitter.close())


# How it is reached.


async def test_it_is_reached_with_tls_by_who_trusts_its_certificate(
    rabbitmq_server: RabbitMQServer,
) -> None:
    secure = rabbitmq_server.tls_url
    for url in (secure, f"{secure.partition('?')[0]}?verify=none"):
        emitters = (Emitter(url, prefix="tls"), AsyncEmitter(url, prefix="tls"))
        await hears(RoomManager(url, prefix="tls"), *emitters)
    untrusted = secure.partition("?")[0]
    rooms = RoomManager(untrusted)
    await rooms.start()
    assert "cafile" in rooms.health.reason
    await rooms.stop()
    with pytest.raises(AdapterUnavailable, match="cafile"):
        Emitter(untrusted).send_text("hello")


async def test_of_several_hosts_the_first_that_answers_is_used(
    rabbitmq_server: RabbitMQServer, url: str
) -> None:
    with socket.socket() as nobody, socket.socket() as deaf:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()  # and does not answer
        others = ",".join(f"127.0.0.1:{s.getsockname()[1]}" for s in (nobody, deaf))
        several = url.replace("127.0.0.1:", f"{others},127.0.0.1:")
        await hears(
            RoomManager(RabbitMQAdapter(several, connect_timeout=0.5)),
            Emitter(several, timeout=1),
            AsyncEmitter(several, timeout=1),
        )


async def test_any_prefix_can_be_used_and_keeps_applications_apart(url: str) -> None:
    odd = "app*[1] ü"
    async with RoomManager(url, prefix="app") as other, Member(other, "lobby") as stranger:
        await hears(RoomManager(url, prefix=odd), Emitter(url, prefix=odd))
        await other.to("lobby").send_text("here")
        assert await stranger.receive_until("here") == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("guest:guest", "guest:wr%2Fong"), "ACCESS_REFUSED.*percent-encoded"),
        (("/v", "/nowhere-v"), "vhost.*path of the URL"),
    ],
)
async def test_who_is_not_let_in_is_told_why_and_no_password(
    url: str, change: tuple[str, str], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = url.replace(*change)
    with pytest.raises(AdapterUnavailable, match=why) as raised:
        await RoomManager(wrong).start()
    said = [str(raised.value)]
    for emitter in (Emitter(wrong), AsyncEmitter(wrong)):
        with pytest.raises(AdapterUnavailable, match=why) as raised:
            await done(emitter.send_text("hello"))
        said.append(str(raised.value))
    code, found = await findings(wrong, "--timeout", "2")
    assert code == 1
    said += [*found["connection"].values(), caplog.text]
    assert not [text for text in said if "wr/ong" in text or "wr%2Fong" in text]


async def test_what_is_no_rabbitmq_is_said_to_be_none() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = "amqp://{}:{}".format(*server.sockets[0].getsockname())
        async with RoomManager(url) as rooms:
            assert "is not AMQP 0-9-1: HTTP is spoken there" in rooms.health.reason
        with pytest.raises(AdapterUnavailable, match="HTTP is spoken there"):
            await AsyncEmitter(url).send_text("hello")


async def test_an_exchange_of_another_kind_is_not_taken(
    rabbitmq_server: RabbitMQServer, rabbitmq_vhost: str, url: str
) -> None:
    name = "<<" + ",".join(map(str, rabbitmq_vhost.encode())) + ">>"
    rabbitmq_server.evaluate(
        f'rabbit_exchange:declare({{resource,{name},exchange,<<"rooms">>}}, fanout, '
        'true, false, false, [], <<"test">>)'
    )
    async with RoomManager(url) as rooms:
        assert "PRECONDITION_FAILED" in rooms.health.reason
        assert "choose another prefix" in rooms.health.reason


# What is there, and what is not.


async def test_an_exchange_that_is_deleted_is_a_gap_and_made_again(
    rabbitmq_server: RabbitMQServer, rabbitmq_vhost: str, url: str
) -> None:
    station = Station(RabbitMQAdapter(url, probe_interval=0.2))
    await station.start(b"news")
    try:
        exchange = f'{{resource,<<"{rabbitmq_vhost}">>,exchange,<<"rooms">>}}'
        rabbitmq_server.evaluate(f'rabbit_exchange:delete({exchange}, false, <<"test">>)')
        await eventually(lambda: len(station.gaps) == 1)
        assert await station.adapter.publish(b"news", b"again") is None
    finally:
        await station.adapter.close()


async def test_history_and_presence_are_refused_at_the_start(url: str) -> None:
    rooms = RoomManager(url)
    rooms.history("chat-*")
    with pytest.raises(ConfigurationError, match=REMEMBERS):
        await rooms.start()
    rooms = RoomManager(url)
    rooms.presence("chat-*")
    with pytest.raises(ConfigurationError, match=REMEMBERS):
        await rooms.start()
    for emitter in (Emitter(url), AsyncEmitter(url)):
        with pytest.raises(UsageError, match=r"RabbitMQ does not know who is present.*on Redis"):
            await done(emitter.presence.count("lobby"))  # type: ignore[arg-type]


async def test_one_exchange_is_left_and_two_queues_a_worker(
    rabbitmq_server: RabbitMQServer, rabbitmq_vhost: str, url: str
) -> None:
    async with Cluster(2, adapter=partial(RabbitMQAdapter, url)) as cluster:
        for worker in cluster:
            await cluster.member(worker, "lobby")
        assert len(rabbitmq_server.queues(rabbitmq_vhost)) == 4
        assert rabbitmq_server.bindings(b"rooms#/#lobby#", "rooms", rabbitmq_vhost) == 2
        assert rabbitmq_server.connections(rabbitmq_vhost) == 4
    await eventually(lambda: rabbitmq_server.queues(rabbitmq_vhost) == [])
    assert rabbitmq_server.connections(rabbitmq_vhost) == 0


async def test_an_emitter_outlives_the_connection_that_it_had(
    rabbitmq_server: RabbitMQServer, rabbitmq_vhost: str, url: str
) -> None:
    async with RoomManager(url) as rooms, Member(rooms, "lobby") as member:
        for emitter in (Emitter(url), AsyncEmitter(url)):
            await done(emitter.to("lobby").send_text("one"))
            assert await member.receive_text() == "one"
            before = rooms.health.reconnects
            assert rabbitmq_server.close_connections(rabbitmq_vhost) == 3
            await ready(rooms, after=before + 1)
            await done(emitter.to("lobby").send_text("two"))
            assert await member.receive_text() == "two"
            await done(emitter.close())


async def test_an_emitter_gives_up_on_a_dead_network_in_its_time(
    rabbitmq_server: RabbitMQServer, rabbitmq_vhost: str
) -> None:
    async with RabbitMQProxy(rabbitmq_server, rabbitmq_vhost) as wire:
        for emitter in (Emitter(wire.url, timeout=0.5), AsyncEmitter(wire.url, timeout=0.5)):
            await send(emitter)
            wire.stall()
            with pytest.raises(AdapterUnavailable, match="did not accept it"):
                await send(emitter)
            wire.resume()
            closed: Any = await asyncio.to_thread(emitter.close)
            await done(closed)


# The command line.


async def test_doctor_finds_nothing_wrong_where_nothing_is(url: str) -> None:
    async with RoomManager(url) as rooms, Member(rooms, "lobby"):
        code, found = await findings(url)
        assert code == 0
        assert list(found) == [
            *("connection", "encryption", "server", "permissions", "alarms", "limits"),
            *("round trip", "workers", "versions"),
        ]
        assert {finding["grade"] for finding in found.values()} == {"ok"}
        assert "RabbitMQ 3" in found["server"]["text"] or "RabbitMQ 4" in found["server"]["text"]
        rows = (await run("rooms", url=url)).json
        assert "lobby" in str(rows)
        assert (await run("emit", "lobby", "hello", url=url)).code == 0


async def test_doctor_says_what_to_do_about_missing_permissions(
    rabbitmq_server: RabbitMQServer, rabbitmq_vhost: str
) -> None:
    server, user = rabbitmq_server, f"u{rabbitmq_vhost}"
    server.add_user(user)
    server.permit(rabbitmq_vhost, user=user, write="^nothing$")
    url = server.url_of(server.host, server.port, vhost=rabbitmq_vhost, user=user)
    code, found = await findings(url, "--timeout", "2")
    assert (code, list(found)) == (1, ["connection"])
    assert "set_permissions" in found["connection"]["advice"]
    code, found = await findings("amqp://127.0.0.1:1", "--timeout", "1")
    assert "Check that RabbitMQ runs" in found["connection"]["advice"]


@pytest.fixture(autouse=True)
def nothing_is_logged_by_clients(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "fastapi_rooms")
