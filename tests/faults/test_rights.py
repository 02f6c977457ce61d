"""Redis lets us in, and not everywhere: at the start, and when rights are withdrawn later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastapi_rooms import (
    AdapterUnavailable,
    Gap,
    Joined,
    RedisAdapter,
    RoomManager,
)
from fastapi_rooms.adapters import retries
from fastapi_rooms.testing import Member, Proxy, RedisServer, eventually
from tests.faults.support import ready

ALLOWED = (
    "&rooms#[0-9a-f]*",
    "&rooms#workers#",
    "&rooms#moved#",
    "&rooms#probe*",
    "&rooms#/#",
    "&rooms#/#a*",
)
"""What the library needs for itself, and rooms that begin with an a."""

Mend = Callable[[], object]


def url_of_user(server: RedisServer, name: str, *rules: str) -> str:
    server.command("ACL", "SETUSER", name, "on", ">secret", *rules)
    return f"redis://{name}:secret@{server.host}:{server.port}"


async def test_a_user_limited_to_our_prefix_is_enough(own_redis: RedisServer) -> None:
    url = url_of_user(
        own_redis,
        "rooms",
        "resetkeys",
        "resetchannels",
        "&rooms#*",
        "-@all",
        "+publish",
        "+subscribe",
        "+unsubscribe",
        "+hello",
    )
    near, far = RoomManager(url), RoomManager(f"{url}?protocol=2")
    async with near, far, Member(near, "lobby") as here, Member(far, "lobby") as there:
        await near.to("lobby").send_text("from near")
        assert await there.receive() == await here.receive() == "from near"
        await far.to("lobby").send_text("from far")
        assert await there.receive() == await here.receive() == "from far"


async def test_a_user_who_may_not_subscribe_to_our_channels_is_told_at_the_start(
    own_redis: RedisServer,
) -> None:
    url = url_of_user(own_redis, "stranger", "resetchannels", "&other#*", "+@all")
    rooms = RoomManager(url)
    with pytest.raises(AdapterUnavailable, match="permission"):
        async with rooms:
            pytest.fail("it started")
    await eventually(lambda: not own_redis.connections())


async def test_a_channel_that_is_forbidden_fails_the_join_with_redis_words(
    own_redis: RedisServer,
) -> None:
    url = url_of_user(own_redis, "some", "resetchannels", *ALLOWED, "+@all")
    rooms = RoomManager(url, linger=0.01)
    async with rooms, Member(rooms, "allowed") as here:
        with pytest.raises(AdapterUnavailable, match=r"refused to subscribe.*permission"):
            await here.socket.join("forbidden")
        with pytest.raises(AdapterUnavailable, match=r"refused to publish.*permission"):
            await rooms.to("forbidden").send_text("hello")
        assert here.socket.rooms == {"allowed", here.sid}
        await here.socket.join("allowed too")
        await rooms.to("allowed too").send_text("hello")
        assert await here.receive() == "hello"
        assert rooms.health.ready


async def test_a_right_withdrawn_and_given_again_is_survived(own_redis: RedisServer) -> None:
    url = url_of_user(own_redis, "rooms", "resetchannels", "&rooms#*", "+@all")
    near, far = RoomManager(RedisAdapter(url, probe_interval=0.1)), RoomManager(own_redis.url)
    async with near, far, Member(near, "lobby") as here:
        own_redis.command("ACL", "SETUSER", "rooms", "resetchannels", "&rooms#probe*")
        await eventually(own_redis.admin.acl_log, what="Redis has refused something")
        assert not near.health.ready
        own_redis.command("ACL", "SETUSER", "rooms", "&rooms#*")
        await ready(near, far)
        await far.to("lobby").send_text("hello again")
        assert await here.receive() == "hello again"


async def test_one_forbidden_channel_fails_no_other_join(own_redis: RedisServer) -> None:
    url = url_of_user(own_redis, "some", "resetchannels", *ALLOWED, "+@all")
    near, far = RoomManager(url, linger=0.01), RoomManager(own_redis.url)
    names = [f"a{number}" for number in range(40)]
    async with near, far:
        members = [Member(near) for _ in (*names, "forbidden")]
        for member in members:
            await member.open()
        # All in one turn of the event loop, so that they are asked for by one command.
        results = await asyncio.gather(
            *(
                member.socket.join(name)
                for member, name in zip(
                    members, (*names[:20], "forbidden", *names[20:]), strict=True
                )
            ),
            return_exceptions=True,
        )
        refused = results.pop(20)
        assert isinstance(refused, AdapterUnavailable)
        assert [type(result) for result in results] == [Joined] * 40
        for name in names:
            assert own_redis.numsub(f"rooms#/#{name}#") == 1
        await far.to("a0").send_text("first")
        await far.to("a39").send_text("last")
        assert await members[0].receive() == "first"
        assert await members[-1].receive() == "last"
        for member in members:
            await member.close()


async def test_a_redis_that_forbids_a_room_is_not_away(
    own_redis: RedisServer, wire: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    url = url_of_user(own_redis, "some", "resetchannels", *ALLOWED, "+@all")
    url = url.replace(str(own_redis.port), str(wire.port))
    near = RoomManager(url, linger=0.01, when_unavailable="admit")
    async with near, Member(near) as here:
        with pytest.raises(AdapterUnavailable, match="refused to subscribe"):
            await here.socket.join("forbidden")
        wire.refuse()
        await eventually(lambda: not near.health.connected)
        await here.socket.join("forbidden too")
        assert here.socket.rooms == {here.sid, "forbidden too"}
        await wire.accept()
        await eventually(lambda: near.health.connected)
        assert near.health.forbidden == 1
        assert (logging.ERROR, True) in lines(caplog)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is forbidden is asked for again soon."""
    monkeypatch.setattr(retries, "FORBIDDEN_DELAY", 0.05)


def refusals(server: RedisServer) -> int:
    """How often Redis has refused something."""
    entries: list[Any] = server.admin.acl_log()
    return sum(entry["count"] for entry in entries)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, bool]]:
    """The levels of our lines in the log, and whether they are about what is forbidden."""
    ours = (record for record in caplog.records if record.name == "fastapi_rooms")
    return [(record.levelno, "forbids" in record.getMessage()) for record in ours]


@pytest.mark.usefixtures("soon")
async def test_a_room_whose_right_is_withdrawn_takes_no_other_along_and_comes_back_with_a_gap(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = url_of_user(own_redis, "some", "resetchannels", *ALLOWED, "&rooms#/#bar#", "+@all")
    near, far = RoomManager(url, linger=0.01), RoomManager(own_redis.url)
    gaps: list[Gap] = []
    near.on("gap")(gaps.append)
    async with near, far, Member(near, "allowed") as here, Member(near, "bar") as there:
        own_redis.command("ACL", "SETUSER", "some", "resetchannels", *ALLOWED)
        await ready(near, after=1)
        await eventually(lambda: gaps)
        assert gaps[0].rooms == ("allowed",)
        assert near.health.forbidden == 1
        await far.to("allowed", "bar").send_text("to each in its rooms")
        await far.to("allowed").send_text("to some")
        await far.to("bar").send_text("this is lost")
        assert [await here.receive() for _ in range(2)] == ["to each in its rooms", "to some"]
        assert await there.receive() == "to each in its rooms"
        with pytest.raises(AdapterUnavailable, match="permission"):
            await here.socket.join("bar")
        asked = refusals(own_redis)
        await eventually(lambda: refusals(own_redis) > asked + 2, what="it is asked for again")
        assert near.health.ready
        assert lines(caplog) == [
            (logging.ERROR, False),
            (logging.ERROR, True),
            (logging.WARNING, False),
        ], "each is told once"

        own_redis.command("ACL", "SETUSER", "some", "&rooms#/#bar#")
        await eventually(lambda: len(gaps) == 2)
        assert gaps[1].rooms == ("bar",)
        assert gaps[1].since == gaps[0].since, "it was lost when all were"
        assert near.health.forbidden == 0
        await far.to("bar").send_text("back again")
        assert await there.receive() == "back again"
        assert lines(caplog)[3:] == [(logging.WARNING, True)]


@pytest.mark.usefixtures("soon")
async def test_a_forbidden_room_that_nobody_is_in_any_more_is_forgotten(
    own_redis: RedisServer,
) -> None:
    url = url_of_user(own_redis, "some", "resetchannels", *ALLOWED, "&rooms#/#b*", "+@all")
    near = RoomManager(url, linger=0.01)
    async with near, Member(near, "bar", "bowl") as here:
        own_redis.command("ACL", "SETUSER", "some", "resetchannels", *ALLOWED)
        await ready(near, after=1)
        assert near.health.forbidden == 2
        await here.socket.leave("bar")
        await eventually(lambda: near.health.forbidden == 1)
        asked = refusals(own_redis)
        await eventually(lambda: refusals(own_redis) > asked + 2)
        assert near.health.forbidden == 1
        await here.socket.leave("bowl")
        await eventually(lambda: near.health.forbidden == 0)


@pytest.mark.usefixtures("soon")
async def test_a_user_who_may_not_unsubscribe_is_told_of_once(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    rights = ("resetchannels", "&rooms#*", "-@all", "+publish", "+subscribe")
    near = RoomManager(url_of_user(own_redis, "some", *rights), linger=0.01)
    async with near, Member(near, "bar", "bowl") as here:
        await here.socket.leave("bar", "bowl")
        await eventually(lambda: refusals(own_redis) > 2, what="it is asked for again")
        assert lines(caplog) == [(logging.ERROR, True)]
        own_redis.command("ACL", "SETUSER", "some", "+unsubscribe")
        await eventually(lambda: b"rooms#/#bar#" not in own_redis.channels(), what="it is left")
        assert near.health.ready


async def outage_and_recovery(near: RoomManager, far: RoomManager, here: Member, mend: Mend) -> str:
    """Wait for red, mend it, wait for green; return what was wrong."""
    await eventually(lambda: not near.health.ready and near.health.reason)
    reason = near.health.reason
    mend()
    await ready(near)
    await far.to("lobby").send_text("hello again")
    assert await here.receive() == "hello again"
    return reason


async def test_a_user_who_is_deleted_and_made_again_is_let_in_again(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    rules = ("resetchannels", "&rooms#*", "+@all")
    near, far = (
        RoomManager(url_of_user(own_redis, "rooms", *rules)),
        RoomManager(own_redis.url),
    )
    async with near, far, Member(near, "lobby") as here:
        own_redis.command("ACL", "DELUSER", "rooms")
        await eventually(
            lambda: "WRONGPASS" in near.health.reason or "invalid" in near.health.reason
        )
        await outage_and_recovery(near, far, here, lambda: url_of_user(own_redis, "rooms", *rules))
    levels = [r.levelno for r in caplog.records if r.name == "fastapi_rooms"]
    assert levels == [logging.ERROR, logging.WARNING]


async def test_a_password_changed_is_noticed_with_the_next_connection(
    own_redis: RedisServer,
) -> None:
    rules = ("resetchannels", "&rooms#*", "+@all")
    near, far = (
        RoomManager(url_of_user(own_redis, "rooms", *rules)),
        RoomManager(own_redis.url),
    )
    async with near, far, Member(near, "lobby") as here:
        own_redis.command("ACL", "SETUSER", "rooms", "resetpass", ">another")
        await far.to("lobby").send_text("who is in stays in")
        assert await here.receive() == "who is in stays in"
        own_redis.kill_connections()
        await outage_and_recovery(
            near, far, here, lambda: own_redis.command("ACL", "SETUSER", "rooms", ">secret")
        )


async def test_the_right_to_publish_withdrawn_is_noticed_though_every_connection_is_kept(
    own_redis: RedisServer,
) -> None:
    url = url_of_user(own_redis, "rooms", "resetchannels", "&rooms#*", "+@all")
    near, far = RoomManager(RedisAdapter(url, probe_interval=0.1)), RoomManager(own_redis.url)
    async with near, far, Member(near, "lobby") as here:
        connections = {client["id"] for client in own_redis.connections()}
        own_redis.command("ACL", "SETUSER", "rooms", "-publish")
        reason = await outage_and_recovery(
            near, far, here, lambda: own_redis.command("ACL", "SETUSER", "rooms", "+publish")
        )
        assert "refused to publish" in reason
        assert "NOPERM" in reason or "permission" in reason
        assert {client["id"] for client in own_redis.connections()} == connections


async def test_a_user_who_may_not_publish_is_told_at_the_start(own_redis: RedisServer) -> None:
    url = url_of_user(own_redis, "mute", "resetchannels", "&rooms#*", "+@all", "-publish")
    with pytest.raises(AdapterUnavailable, match=r"refused to publish.*permission"):
        async with RoomManager(url):
            pytest.fail("it started")
    await eventually(lambda: not own_redis.connections())


class Full(logging.Handler):
    """A handler of the log that raises, as one may that writes to a disk."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("no space left on device")


@pytest.fixture
def full_disk() -> Iterator[None]:
    handler = Full()
    logger = logging.getLogger("fastapi_rooms")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


@pytest.mark.usefixtures("full_disk")
async def test_a_log_that_cannot_be_written_ends_no_watch(own_redis: RedisServer) -> None:
    url = url_of_user(own_redis, "rooms", "resetchannels", "&rooms#*", "+@all")
    near, far = RoomManager(RedisAdapter(url, probe_interval=0.1)), RoomManager(own_redis.url)
    async with near, far, Member(near, "lobby") as here:
        for _ in range(2):
            own_redis.command("ACL", "SETUSER", "rooms", "-publish")
            await outage_and_recovery(
                near, far, here, lambda: own_redis.command("ACL", "SETUSER", "rooms", "+publish")
            )
