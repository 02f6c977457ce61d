"""Redis is there, and does not let us in, or not everywhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

import pytest

from fastapi_rooms import AdapterUnavailable, RedisAdapter, RoomManager
from fastapi_rooms.testing import Member, RedisServer, eventually
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


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("login", ["", ":wrong@", "nobody:wrong@"])
async def test_a_wrong_password_is_told_at_the_start(
    locked_redis_server: RedisServer, login: str, protocol: int
) -> None:
    server = locked_redis_server
    rooms = RoomManager(f"redis://{login}{server.host}:{server.port}?protocol={protocol}")
    tasks = len(asyncio.all_tasks())
    with pytest.raises(AdapterUnavailable, match="Redis rejects the login"):
        async with rooms:
            pytest.fail("it started")
    assert not rooms.health.ready
    await eventually(lambda: len(asyncio.all_tasks()) == tasks)
    await eventually(lambda: not server.connections())


async def test_a_password_withdrawn_and_given_again_is_survived(own_redis: RedisServer) -> None:
    near, far = RoomManager(own_redis.url), RoomManager(own_redis.url)
    async with near, far, Member(near, "lobby") as here:
        own_redis.admin.config_set("requirepass", "secret")
        own_redis.kill_connections()
        await eventually(lambda: not near.health.ready and not far.health.ready)
        own_redis.admin.config_set("requirepass", "")
        await ready(near, far)
        await far.to("lobby").send_text("hello again")
        assert await here.receive() == "hello again"


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
        assert results == [None] * 40
        for name in names:
            assert own_redis.numsub(f"rooms#/#{name}#") == 1
        await far.to("a0").send_text("first")
        await far.to("a39").send_text("last")
        assert await members[0].receive() == "first"
        assert await members[-1].receive() == "last"
        for member in members:
            await member.close()


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
