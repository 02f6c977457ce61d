"""The blocks that are not whole files: run, checked against what they show, or at least parsed."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import shlex
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import redis as redis_py
import yaml

import fastapi_rooms
from fastapi_rooms import AdapterUnavailable, RedisAdapter, RedisClusterAdapter, RoomManager
from fastapi_rooms.core.names import node_of
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.position import Position, tag_of
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import (
    Cluster,
    Member,
    RedisCluster,
    RedisServer,
)
from fastapi_rooms.wire import client_framing, codec, kept
from fastapi_rooms.wire.envelope import Broadcast
from fastapi_rooms.worker.hello import RESUME_TIMEOUT
from fastapi_rooms.worker.replay import MAX_REPLAY_BYTES
from tests.docs.conftest import CLUSTER, REDIS, AllowOnCluster, as_user, with_rabbitmq
from tests.docs.pages import ROOT, Block, blocks
from tests.emitters import declare_presence

FRAGMENTS = [block for block in blocks("python") if not block.title]
ENDLESS = [block for block in FRAGMENTS if block.code.startswith("async with rooms.listen")]


@pytest.mark.parametrize("fragment", [b for b in FRAGMENTS if b not in ENDLESS], ids=str)
async def test_python_fragments_run(
    fragment: Block, redis_server: RedisServer, request: pytest.FixtureRequest
) -> None:
    """In an endpoint whose `socket` is in the room `tea`."""
    if CLUSTER in fragment.code:
        servers: RedisCluster = request.getfixturevalue("redis_cluster")
        fragment = replace(fragment, code=fragment.code.replace(CLUSTER, servers.url))
    declare_presence(redis_server, "tea")  # for emitters that ask
    fragment = replace(fragment, code=with_rabbitmq(fragment.code, request))
    async with RoomManager() as rooms, Member(rooms, "tea") as member:
        names = await run(fragment, redis_server, rooms=rooms, socket=member.socket)
    for made in names.values():
        if isinstance(made, RoomManager):
            async with made:
                assert made.health.ready


async def run(fragment: Block, redis: RedisServer | None = None, **given: Any) -> dict[str, Any]:
    """Run it as the body of a function; return the names it has at its end."""
    names = {name: getattr(fastapi_rooms, name) for name in fastapi_rooms.__all__}
    names |= {"asyncio": asyncio, "AsyncIterator": AsyncIterator} | given
    code = fragment.code
    if redis is not None:
        code = code.replace(REDIS, redis.url).replace("port=6379", f"port={redis.port}")
    running = eval(
        compile(code, str(fragment), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names
    )
    if running is not None:
        await running
    return names


def the_fragment_with(text: str) -> Block:
    (fragment,) = [block for block in FRAGMENTS if text in block.code]
    return fragment


async def test_a_listener_with_a_policy_of_its_own() -> None:
    (fragment,) = ENDLESS
    printed: asyncio.Queue[Any] = asyncio.Queue()
    async with RoomManager() as rooms:
        running = asyncio.ensure_future(
            run(fragment, rooms=rooms, print=lambda *values: printed.put_nowait(values))
        )
        async with Member(rooms, "prices"):  # the fragment has begun to listen by then
            await rooms.to("prices").send_json({"price": 1})
        async with asyncio.timeout(10):
            assert await printed.get() == ({"price": 1}, 0)
        running.cancel()
        await asyncio.wait((running,))


# What is shown as text.


def text_of(page: str, words: str) -> str:
    """The one block of text on a page that has these words."""
    (block,) = [b for b in blocks("text", page=page) if words in b.code]
    return block.code


def test_the_envelope_shown_is_what_is_sent() -> None:
    shown = text_of("docs/reference/wire-format.md", "01 01").splitlines()[0]
    message = Broadcast(
        "0a0657e0d0001936", 1, "/", Target(("tea",)), Payload.of_text("hi"), volatile=False
    )
    assert bytes.fromhex(shown) == codec.encode(message)


def test_the_kept_message_shown_is_that_one_in_its_place() -> None:
    shown = text_of("docs/reference/wire-format.md", "01 05").splitlines()[0]
    version_and_kind, place, _ = shown.split('"')
    envelope = codec.encode(
        Broadcast("0a0657e0d0001936", 1, "/", Target(("tea",)), Payload.of_text("hi"))
    )
    data = bytes.fromhex(version_and_kind) + place.replace("\\n", "\n").encode()
    position = Position("0ecb7a5cfc996a34", 1, tag_of("0a0657e0d0001936", 1))
    assert data + envelope == kept.encode(position, 0, envelope)


def test_the_framed_message_shown_is_what_a_client_gets() -> None:
    shown = text_of("docs/reference/client-framing.md", "00 6d").splitlines()[0]
    position = "5f1d7a84db1c3a90.7.00000000000000ff"
    frame = client_framing.in_place("tea", position, Payload.of_text("hi"))
    assert bytes.fromhex(shown) == frame.data
    prose = (ROOT / "docs/reference/client-framing.md").read_text(encoding="utf-8")
    assert f"{RESUME_TIMEOUT:g} s" in prose
    assert f"{client_framing.MAX_RESUME_BYTES // 1024} KiB" in prose
    assert f"{MAX_REPLAY_BYTES >> 20} MiB" in prose


async def test_the_json_shown_is_what_is_sent(redis_server: RedisServer) -> None:
    (shown,) = blocks("json", page="docs/howto/json.md")
    async with RoomManager() as rooms, Member(rooms, "tea") as member:
        await run(the_fragment_with("class Placed"), redis_server, rooms=rooms)
        assert await member.receive_json() == json.loads(shown.code)
        with pytest.raises(TypeError) as error:
            await rooms.send_json(timedelta())
    assert str(error.value) == text_of("docs/howto/json.md", "cannot be sent").strip()


def test_the_sid_shown_carries_its_worker() -> None:
    sid = text_of("docs/explanation/how-a-broadcast-travels.md", "0a06").split()[0]
    assert node_of(sid) == "0a0657e0d0001936"


def test_the_output_buffer_limit_shown_is_redis_own(redis_server: RedisServer) -> None:
    shown = text_of("docs/howto/deployment/redis.md", "client-output-buffer-limit")
    kind, hard, soft, seconds = shown.split()[1:]
    assert kind == "pubsub"
    limits: dict[str, str] = redis_server.admin.config_get("client-output-buffer-limit")  # type: ignore[assignment]
    expected = f"pubsub {megabytes(hard)} {megabytes(soft)} {seconds}"
    assert expected in limits["client-output-buffer-limit"]


def megabytes(size: str) -> int:
    return int(size.removesuffix("mb")) * 1024 * 1024


async def test_the_acl_rule_shown_is_enough_and_no_more() -> None:
    rule = shlex.split(text_of("docs/howto/deployment/redis.md", " +publish"))
    async with RedisServer() as server:
        server.command(*rule)
        url = server.url.replace("redis://", "redis://rooms:a-long-password@")
        async with Cluster(2, adapter=lambda: RedisAdapter(url)) as cluster:
            one, two = cluster
            assert one.health.ready
            await cluster.member(one, "tea")
            bob = await cluster.member(two.of("/chat"), "tea")
            await one.of("/chat").to("tea").send_text("hello")
            await one.of("/chat").send_text("everyone")
            assert [await bob.receive_text() for _ in "12"] == ["hello", "everyone"]
        with redis_py.Redis.from_url(url) as client:
            for command in ("GET rooms", "PUBLISH other hello", "SUBSCRIBE other", "CLIENT LIST"):
                with pytest.raises(redis_py.exceptions.NoPermissionError):
                    client.execute_command(*command.split())


async def test_the_acl_rule_shown_for_history_is_enough_and_no_more() -> None:
    page = "docs/howto/deployment/redis.md"
    rule, more = (shlex.split(text_of(page, words)) for words in (" +publish", " +xadd"))
    async with RedisServer() as server:
        server.command(*rule)
        url = as_user(server.url, "rooms")
        for right in ("", *more[3:]):  # each is taken away once
            server.command("ACL", "DELUSER", "rooms")
            server.command(*rule, *more[3:])
            if right.startswith("+"):
                server.command("ACL", "SETUSER", "rooms", f"-{right[1:]}")
            elif right:
                server.command("ACL", "SETUSER", "rooms", "resetkeys")
            rooms = RoomManager(url)
            rooms.history("chat-*")
            async with rooms:
                if right:
                    with pytest.raises(AdapterUnavailable, match=re.escape(right)):
                        await rooms.to("chat-tea").send_text("hello")
                    continue
                async with Member(rooms) as ann:
                    await rooms.to("chat-tea").send_text("hello")
                    assert (await ann.socket.join("chat-tea", recent=5)).replayed == 1
                    assert await ann.receive() == "hello"
                await rooms.clear_history("chat-tea")
                assert await rooms.recent("chat-tea") == []


async def test_the_acl_rule_shown_for_a_cluster_is_enough_and_no_more(
    redis_cluster: RedisCluster, allow_on_cluster: AllowOnCluster
) -> None:
    url = allow_on_cluster(shlex.split(text_of("docs/howto/deployment/failovers.md", "+spublish")))
    async with Cluster(2, adapter=lambda: RedisClusterAdapter(url)) as cluster:
        one, two = cluster
        assert one.health.ready
        bob = await cluster.member(two, "tea", "coffee", "water")
        for room in ("tea", "coffee", "water"):
            await one.to(room).send_text(room)
        await one.send_text("everyone")
        heard = {await bob.receive_text() for _ in "1234"}
        assert heard == {"tea", "coffee", "water", "everyone"}
    with redis_py.Redis.from_url(as_user(redis_cluster.nodes[0].url, "rooms")) as client:
        for command in ("GET rooms", "PUBLISH rooms#a hello", "CLUSTER NODES", "CLIENT LIST"):
            with pytest.raises(redis_py.exceptions.NoPermissionError):
                client.execute_command(*command.split())


# Shell, YAML, nginx, Dockerfile.


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_shell_blocks_parse(block: Block) -> None:
    subprocess.run(["bash", "-n"], input=block.code, text=True, check=True)


def test_make_targets_exist() -> None:
    shell = "".join(block.code for block in blocks("sh"))
    shown = set(re.findall(r"^make (\S+)", shell, re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= shown <= targets


async def test_redis_cli_lines_run(redis_server: RedisServer) -> None:
    lines = [
        line.split("#  ")[0]
        for block in blocks("sh")
        for line in block.code.splitlines()
        if line.startswith("redis-cli pubsub")
    ]
    async with Cluster(2, adapter=lambda: RedisAdapter(redis_server.url)) as cluster:
        for worker in cluster:
            await cluster.member(worker, "tea")
        answers = [redis_server.command(*shlex.split(line)[1:]) for line in lines]
    channels, counts = answers
    assert b"rooms#/#tea#" in channels
    assert counts == [b"rooms#/#tea#", 2]


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_blocks_parse(block: Block) -> None:
    assert isinstance(yaml.safe_load(block.code), dict)


def test_a_deployments_probes_ask_the_routes_of_the_page_on_health() -> None:
    page = "docs/howto/deployment/containers.md"
    shown = [yaml.safe_load(block.code) for block in blocks("yaml", page=page)]
    (deployment,) = [manifest for manifest in shown if manifest.get("kind") == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    probes = {probe: container[probe]["httpGet"]["path"] for probe in container if "Probe" in probe}
    assert probes == {"readinessProbe": "/health/ready", "livenessProbe": "/health/live"}


@pytest.mark.parametrize("block", blocks("nginx"), ids=str)
def test_nginx_blocks_parse(block: Block) -> None:
    directives = dict(nginx_directives(block.code))
    assert directives["Connection"] in ("$connection_upgrade", '""')
    assert directives["Upgrade"] == "$http_upgrade"


@pytest.mark.parametrize("block", blocks("nginx"), ids=str)
def test_nginx_passes_on_the_host_with_its_port_in_every_location(block: Block) -> None:
    """A location that sets any header inherits none."""
    locations = re.findall(r"location [^{]*\{([^}]*)\}", block.code)
    assert locations
    for location in locations:
        assert dict(nginx_directives(location))["Host"] == "$http_host"


def nginx_directives(code: str) -> Iterator[tuple[str, str]]:
    """Every `proxy_set_header NAME VALUE;`. Fails unless all is statements and balanced braces."""
    depth = 0
    for line in filter(None, map(str.strip, code.splitlines())):
        assert re.fullmatch(r'("[^"]*"|[^";{}])+[;{]|\}', line), line
        depth += line.count("{") - line.count("}")
        assert depth >= 0
        if line.startswith("proxy_set_header "):
            name, value = line.rstrip(";").split(maxsplit=2)[1:]
            yield name, value
    assert depth == 0


@pytest.mark.parametrize("block", blocks("dockerfile"), ids=str)
def test_dockerfiles_parse(block: Block) -> None:
    instructions = dict(line.split(maxsplit=1) for line in block.code.splitlines())
    assert set(instructions) <= {"FROM", "WORKDIR", "COPY", "RUN", "CMD"}
    assert json.loads(instructions["CMD"])[0] == "uvicorn"
