"""The verbs over every worker: each answers the same wherever it is asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from fastapi_rooms import (
    ConfigurationError,
    Namespace,
    RemoteSocket,
    RoomManager,
    UsageError,
)
from fastapi_rooms.testing.cluster import Cluster, Member
from fastapi_rooms.testing.suite.backplane import Backplane, ManagerBench
from fastapi_rooms.testing.waiting import eventually


def sids(sockets: list[RemoteSocket]) -> set[str]:
    """Which sockets they are."""
    return {socket.sid for socket in sockets}


async def end_of(member: Member) -> tuple[int, str, list[str | bytes]]:
    """How a member's connection ended, and what came before that."""
    came: list[str | bytes] = []
    try:
        while True:
            came.append(await member.receive_text())
    except WebSocketDisconnect as end:
        return end.code, end.reason, came


@pytest.mark.asyncio
class ClusterSuite(ManagerBench):
    """Asking every worker."""

    # Who is there.

    async def test_workers_know_each_other_from_the_start_and_until_they_leave(
        self, backplane: Backplane
    ) -> None:
        async with Cluster(2, adapter=backplane.adapter) as (one, two):
            assert one.nodes() == two.nodes() == {one.node, two.node}
            async with RoomManager(backplane.adapter()) as three:
                assert one.nodes() == two.nodes() == three.nodes()
                assert three.nodes() == {one.node, two.node, three.node}
                assert three.of("/chat").node == three.node
            await eventually(lambda: len(two.nodes()) == 2, what="it has said goodbye")
            await eventually(lambda: len(one.nodes()) == 2, what="it has said goodbye")

    async def test_an_observer_asks_and_is_not_counted(self, backplane: Backplane) -> None:
        async with (
            Cluster(2, adapter=backplane.adapter) as cluster,
            RoomManager(backplane.adapter(), observer=True) as observer,
        ):
            member = await cluster.member(cluster[1], "lobby")
            assert sids(await observer.to("lobby").fetch_sockets()) == {member.sid}
            assert observer.nodes() == cluster[0].nodes() == cluster[1].nodes()
            assert len(observer.nodes()) == 2
            assert observer.node not in observer.nodes()

    # Asking for sockets.

    async def test_every_verb_answers_the_same_from_any_worker(self, cluster: Cluster) -> None:
        one, two, three = cluster
        ann = await cluster.member(one, "lobby", "a")
        bob = await cluster.member(two, "lobby")
        cat = await cluster.member(three, "bar")
        dan = await cluster.member(three, "lobby", "bar", sid="dan")
        for worker in cluster:
            everyone = {ann.sid, bob.sid, cat.sid, "dan"}
            assert sids(await worker.fetch_sockets()) == everyone
            assert await worker.count() == 4
            assert await worker.all_rooms() == {*everyone, "lobby", "a", "bar"}
            assert sids(await worker.to("lobby").fetch_sockets()) == {ann.sid, bob.sid, dan.sid}
            assert await worker.to("lobby", "bar", "dan").count() == 4
            assert sids(await worker.except_("lobby").fetch_sockets()) == {cat.sid}
            assert sids(await worker.to("lobby").except_("bar", ann.sid).fetch_sockets()) == {
                bob.sid
            }
            assert sids(await worker.to("dan").fetch_sockets()) == {"dan"}
            assert sids(await worker.to(cat.sid).fetch_sockets()) == {cat.sid}
            assert await worker.to("nowhere").fetch_sockets() == []
            assert await worker.to(*[]).count() == 0

    async def test_a_remote_socket_tells_what_is_known_of_it(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        data = {"name": "Änn", "tags": [1, None, True], "deep": {"er": 0.5}}
        ann = await cluster.member(two, "lobby", "#*\0 é", data=data)
        [found] = await one.fetch_sockets()
        for worker in cluster:
            [found] = await worker.fetch_sockets()
            assert (found.sid, found.rooms, found.data) == (
                ann.sid,
                tuple(sorted((ann.sid, "lobby", "#*\0 é"))),
                data,
            )
            assert found.node == two.node
            assert found.node in worker.nodes()
        found.data["name"] = "changed"
        assert ann.socket.data == data  # what is fetched is a copy
        ann.socket.data["name"] = "Ann"
        [found] = await one.fetch_sockets()
        assert found.data["name"] == "Ann"

    async def test_local_asks_this_worker_only(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        ann, bob = await cluster.member(one, "lobby"), await cluster.member(two, "lobby")
        assert sids(await one.local.fetch_sockets()) == {ann.sid}
        assert await two.local.to("lobby").count() == 1
        await one.local.to("lobby").sockets_join("here")
        assert "here" in ann.socket.rooms
        assert "here" not in bob.socket.rooms

    async def test_a_socket_asks_for_the_others(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        ann, bob = await cluster.member(one, "lobby"), await cluster.member(two, "lobby")
        assert sids(await ann.socket.to("lobby").fetch_sockets()) == {bob.sid}
        assert await bob.socket.broadcast.count() == 1

    async def test_namespaces_are_apart_and_need_not_be_known_everywhere(
        self, cluster: Cluster
    ) -> None:
        one, two, three = cluster
        ann = await cluster.member(one.of("/chat"), "lobby")
        await cluster.member(two, "lobby")
        for worker in (one, two, three):
            chat: Namespace = worker.of("/chat")
            assert sids(await chat.to("lobby").fetch_sockets()) == {ann.sid}
            assert await chat.all_rooms() == {ann.sid, "lobby"}
        assert await three.of("/elsewhere").fetch_sockets() == []
        assert await three.of("/elsewhere").count() == 0
        assert await three.of("/elsewhere").all_rooms() == set()
        await three.of("/elsewhere").sockets_join("a")
        await three.of("/elsewhere").sockets_leave("a")
        await three.of("/elsewhere").disconnect_sockets()
        assert await one.count() == 1

    async def test_large_answers_arrive_whole(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        texts = {}
        for number in range(8):
            member = await cluster.member(two, data={"text": f"{number}é" * 50_000})
            texts[member.sid] = member.socket.data["text"]
        found = await one.fetch_sockets()
        assert {socket.sid: socket.data["text"] for socket in found} == texts

    async def test_data_that_is_no_json_is_left_out_and_logged(
        self, cluster: Cluster, caplog: pytest.LogCaptureFixture
    ) -> None:
        one, two, _ = cluster
        nested: dict[str, Any] = {}
        for _ in range(5000):
            nested = {"in": nested}
        bad = await cluster.member(two, "lobby", data={"what": object()})
        deep = await cluster.member(two, data=nested)
        good = await cluster.member(two, data={"name": "Ann"})
        await cluster.member(one)
        for worker in cluster:
            caplog.clear()
            found = {socket.sid: socket for socket in await worker.fetch_sockets()}
            assert len(found) == 4
            assert found[good.sid].data == {"name": "Ann"}
            assert found[deep.sid].data == found[bad.sid].data == {}
            assert set(found[bad.sid].rooms) == {bad.sid, "lobby"}
            assert f"of 2 sockets is no JSON, and was left out of an answer: {bad.sid}:" in (
                caplog.text
            )

    # Doing something with sockets.

    async def test_a_broadcast_right_after_a_join_by_another_worker_is_received(
        self, cluster: Cluster
    ) -> None:
        one, two, three = cluster
        far, near = await cluster.member(three, "group"), await cluster.member(one, "group")
        await cluster.member(two)
        for number in range(40):
            room = f"fresh {number}"
            await one.to("group").sockets_join(room, "group")
            await one.to(room).send_text(str(number))
        for member in (far, near):
            assert [await member.receive_text() for _ in range(40)] == [str(n) for n in range(40)]
            assert {"fresh 0", "fresh 39"} < member.socket.rooms

    async def test_a_broadcast_right_after_a_leave_by_another_worker_is_not_received(
        self, cluster: Cluster
    ) -> None:
        one, _, three = cluster
        far = await cluster.member(three, "lobby", "bar")
        await one.to(far.sid).sockets_leave("lobby", "never in", far.sid)
        assert far.socket.rooms == {far.sid, "bar"}
        await one.to("lobby").send_text("gone")
        await one.to("bar").send_text("here")
        assert await far.receive_text() == "here"

    async def test_what_was_sent_before_a_disconnect_arrives_and_nothing_after(
        self, cluster: Cluster
    ) -> None:
        one, two, three = cluster
        out = [await cluster.member(worker, "out") for worker in cluster for _ in range(20)]
        stays = await cluster.member(two, "in")
        for number in range(5):
            await one.to("out").send_text(str(number))
        await one.to("out").disconnect_sockets(4001, "that is äll")
        await one.to("out").send_text("too late")
        assert await three.to("out").count() == 0
        assert await three.count() == 1
        for member in out:
            assert await end_of(member) == (4001, "that is äll", ["0", "1", "2", "3", "4"])
        assert stays.socket.rooms == {stays.sid, "in"}

    async def test_an_endpoint_whose_socket_is_disconnected_ends(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        events: list[str] = []
        two.on("disconnect")(lambda socket: events.append(socket.sid))
        member = await cluster.member(two, "lobby")
        await one.disconnect_sockets()
        assert (await end_of(member))[0] == 1000
        assert events == [member.sid]
        await member.close()  # waits for the endpoint

    async def test_a_remote_socket_is_that_socket_alone(self, cluster: Cluster) -> None:
        one, two, three = cluster
        ann = await cluster.member(two, "lobby")
        fan = await cluster.member(three, ann.sid)  # in a room that is named as ann is
        [found] = [s for s in await one.fetch_sockets() if s.sid == ann.sid]
        await found.join("a", "b")
        await found.leave("a", "lobby")
        assert ann.socket.rooms == {ann.sid, "b"}
        assert fan.socket.rooms == {fan.sid, ann.sid}
        await found.send_text("text")
        await found.send_json([1])
        await found.send_bytes(b"bytes")
        assert await ann.receive_text() == "text"
        assert await ann.receive_json() == [1]
        assert await ann.receive_bytes() == b"bytes"
        await found.disconnect(4002, "out")
        assert (await end_of(ann))[:2] == (4002, "out")
        assert await one.count() == 1
        await found.join("c")  # it is gone, and that is no error
        await found.disconnect()

    async def test_what_cannot_be_done_is_refused_before_anyone_is_asked(
        self, cluster: Cluster
    ) -> None:
        one, two, _ = cluster
        member = await cluster.member(two)
        for code, reason in ((1005, ""), (999, ""), (1000, "x" * 124)):
            with pytest.raises(UsageError):
                await one.disconnect_sockets(code, reason)
        with pytest.raises(UsageError, match="empty"):
            await one.sockets_join("")
        with pytest.raises(UsageError, match="is of type int"):
            await one.sockets_leave(5)  # type: ignore[arg-type]
        assert member.socket.rooms == {member.sid}

    # Workers talking.

    async def test_a_server_side_event_reaches_the_other_workers(self, cluster: Cluster) -> None:
        heard: list[tuple[int, Any]] = []
        for number, worker in enumerate(cluster):

            def plain(*args: Any, number: int = number) -> None:
                heard.append((number, args))

            worker.on_server_side("drop-cache")(plain)
        await cluster[1].server_side_emit("drop-cache", "users", {"id": [1, None]})
        await eventually(lambda: len(heard) == 2, what="both have heard")
        assert sorted(heard, key=str) == [(n, ("users", {"id": [1, None]})) for n in (0, 2)]

    async def test_every_other_worker_replies_with_its_value_or_its_error(
        self, cluster: Cluster
    ) -> None:
        one, two, three = cluster

        @two.on_server_side("add")
        async def add(a: int, b: int) -> dict[str, int]:
            await asyncio.sleep(0)
            return {"sum": a + b}

        @three.on_server_side("add")
        def broken(a: int, b: int) -> None:
            raise ValueError(f"cannot add {a} and {b}")

        replies = await one.server_side_emit_with_ack("add", 1, 2)
        here = (await cluster.member(one)).sid.split(".")[0]
        assert {reply.node for reply in replies} == one.nodes() - {here}
        outcomes = sorted((reply.value, reply.error) for reply in replies if reply.error is None)
        assert outcomes == [({"sum": 3}, None)]
        assert [r.error for r in replies if r.value is None] == ["ValueError: cannot add 1 and 2"]
        none = await one.server_side_emit_with_ack("unheard of")
        assert len(none) == 2
        assert all("no handler of 'unheard of'" in str(reply.error) for reply in none)

    async def test_an_event_has_one_handler_and_json_arguments(self, cluster: Cluster) -> None:
        one = cluster[0]
        one.on_server_side("once")(print)
        with pytest.raises(ConfigurationError, match="'once'"):
            one.on_server_side("once")(print)
        for emit in (one.server_side_emit, one.server_side_emit_with_ack):
            with pytest.raises(TypeError):
                await emit("once", object())
            with pytest.raises(UsageError, match="named by a string; 123 is of type int"):
                await emit(123)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="named by a string"):
            one.on_server_side(print)  # type: ignore[arg-type]
