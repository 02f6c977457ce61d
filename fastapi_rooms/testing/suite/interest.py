"""Which rooms a worker asks the backplane for, and what is left of them: nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import RoomManager, SocketClosed
from fastapi_rooms.testing.client import Rejected, WebSocketClient
from fastapi_rooms.testing.cluster import Cluster, Member
from fastapi_rooms.testing.suite.backplane import (
    Backplane,
    ManagerBench,
    channel_of,
    nothing_but,
    subscribers_become,
)
from fastapi_rooms.testing.waiting import eventually


@pytest.mark.asyncio
class InterestSuite(ManagerBench):
    """Joining, leaving, and their traces on the backplane."""

    # Joining.

    async def test_nothing_is_missed_after_join_returned(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        member = await cluster.member(one)
        for number in range(150):
            await member.socket.join(f"fresh {number}")
            await two.to(f"fresh {number}").send_text(str(number))
        assert [await member.receive_text() for _ in range(150)] == [str(n) for n in range(150)]

    async def test_many_rooms_joined_at_once_are_all_heard(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        member = await cluster.member(one)
        rooms = [f"room {number}" for number in range(1000)]
        await member.socket.join(*rooms)
        await asyncio.gather(*(two.to(room).send_text(room) for room in rooms))
        assert [await member.receive_text() for _ in rooms] == rooms

    async def test_many_that_join_at_once_all_hear(self, cluster: Cluster) -> None:
        one, two, _ = cluster
        members = await asyncio.gather(
            *(cluster.member(one, "lobby", f"own {number}") for number in range(200))
        )
        await two.to("lobby").send_text("hello")
        for number, member in enumerate(members):
            await two.to(f"own {number}").send_text(str(number))
            assert await member.receive_text() == "hello"
            assert await member.receive_text() == str(number)

    async def test_storms_of_joins_and_leaves_lose_nothing(self, backplane: Backplane) -> None:
        async with Cluster(2, adapter=backplane.adapter, linger=0) as cluster:
            one, two = cluster

            async def come_and_go(member: Member, room: str) -> None:
                for number in range(15):
                    await member.socket.join(room)
                    await two.to(room).send_text(f"{number} for {member.sid}")
                    await member.receive_until(f"{number} for {member.sid}")
                    await member.socket.leave(room)

            members = [await cluster.member(one) for _ in range(12)]
            await asyncio.gather(
                *(come_and_go(member, f"room {n % 3}") for n, member in enumerate(members))
            )
            assert all(member.socket.rooms == {member.sid} for member in members)
            for number in range(3):
                channel = channel_of(backplane, f"room {number}")
                await subscribers_become(0, backplane, channel)

    async def test_one_socket_joined_and_left_by_several_tasks_ends_where_they_end(
        self, cluster: Cluster, backplane: Backplane
    ) -> None:
        one, two, _ = cluster
        member = await cluster.member(one)
        await asyncio.gather(*(member.socket.join("a", "b", f"c{n % 3}") for n in range(20)))
        assert one.rooms.keys() == {"a", "b", "c0", "c1", "c2", member.sid}
        await asyncio.gather(*(member.socket.leave("a", f"c{n}") for n in range(3)))
        await subscribers_become(0, backplane, channel_of(backplane, "a"))
        await two.to("a", "b").send_text("once")
        await two.to("b").send_text("last")
        assert await member.receive_until("last") == ["once"]

    async def test_a_room_left_and_joined_within_the_linger_is_still_heard(
        self, cluster: Cluster
    ) -> None:
        one, two, _ = cluster
        member = await cluster.member(one, "lobby")
        for number in range(50):
            await member.socket.leave("lobby")
            await member.socket.join("lobby")
            await two.to("lobby").send_text(str(number))
        assert [await member.receive_text() for _ in range(50)] == [str(n) for n in range(50)]

    # Interest only.

    async def test_only_workers_with_a_member_are_subscribed_to_a_room(
        self, cluster: Cluster, backplane: Backplane
    ) -> None:
        one, two, three = cluster
        channel = channel_of(backplane, "lobby")
        assert await backplane.subscribers(channel) == 0
        members = [await cluster.member(worker, "lobby") for worker in (one, one, two)]
        assert await backplane.subscribers(channel) == 2
        await three.to("lobby").send_text("who sends is no member")
        assert await backplane.subscribers(channel) == 2
        await members[0].close()
        await members[2].socket.leave("lobby")
        await subscribers_become(1, backplane, channel)

    async def test_the_last_to_leave_ends_the_subscription(
        self, cluster: Cluster, backplane: Backplane
    ) -> None:
        channel = channel_of(backplane, "lobby")
        leaver, goner = [await cluster.member(cluster[0], "lobby") for _ in range(2)]
        await leaver.socket.leave("lobby")
        await goner.close()
        assert not cluster[0].rooms.get("lobby")
        await subscribers_become(0, backplane, channel)

    async def test_a_listener_counts_as_a_member(
        self, cluster: Cluster, backplane: Backplane
    ) -> None:
        channel = channel_of(backplane, "news")
        async with cluster[0].listen("news"):
            async with cluster[0].listen("news"), cluster[1].listen("news"):
                assert await backplane.subscribers(channel) == 2
            await subscribers_become(1, backplane, channel)
        await subscribers_become(0, backplane, channel)
        assert cluster[0].rooms == cluster[0].sids == {}

    async def test_a_connection_alone_needs_no_subscription_of_its_own(
        self, cluster: Cluster, backplane: Backplane
    ) -> None:
        first = await cluster.member(cluster[0])
        assert await backplane.subscribers(channel_of(backplane)) == 1
        assert await backplane.subscribers(channel_of(backplane, first.sid)) == 0

    async def test_a_sid_of_the_users_choice_is_subscribed_to_while_it_is_in(
        self, cluster: Cluster, backplane: Backplane
    ) -> None:
        channel = channel_of(backplane, "user:ann")
        ann = await cluster.member(cluster[0], sid="user:ann")
        assert await backplane.subscribers(channel) == 1
        await ann.close()
        await subscribers_become(0, backplane, channel)

    # Nothing left behind.

    async def test_an_endpoint_that_raises_leaves_nothing(
        self, cluster: Cluster, backplane: Backplane
    ) -> None:
        one = cluster[0]

        async def endpoint(websocket: WebSocket) -> None:
            async with one.connect(websocket) as socket:
                await socket.join("lobby")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            async with WebSocketClient(_application(endpoint)) as client:
                await client.receive()
        assert one.rooms == one.sids == {}
        await subscribers_become(0, backplane, channel_of(backplane, "lobby"))

    async def test_a_cancelled_join_leaves_nothing(
        self, cluster: Cluster, backplane: Backplane
    ) -> None:
        one = cluster[0]
        member = await cluster.member(one)
        joins = [asyncio.create_task(member.socket.join("lobby", f"{n}")) for n in range(5)]
        await asyncio.sleep(0)
        for join in joins:
            join.cancel()
        await asyncio.gather(*joins, return_exceptions=True)
        await member.socket.leave("lobby", *(f"{n}" for n in range(5)))  # some were fast enough
        assert one.rooms.keys() == {member.sid}
        for room in ("lobby", "0", "4"):
            channel = channel_of(backplane, room)
            await subscribers_become(0, backplane, channel)

    async def test_a_client_lost_in_mid_join_leaves_nothing(
        self, cluster: Cluster, backplane: Backplane
    ) -> None:
        one = cluster[0]
        for number in range(20):
            member = Member(one, *(f"room {n}" for n in range(number)))
            opening = asyncio.create_task(member.open())
            for _ in range(number + 1):
                await asyncio.sleep(0)
            member.leave(1006)
            with suppress(WebSocketDisconnect):
                await opening
            await member.close()
        await eventually(lambda: not one.rooms and not one.sids)
        await subscribers_become(0, backplane, channel_of(backplane, "room 0"))

    async def test_a_socket_whose_block_is_over_can_join_nothing(self, cluster: Cluster) -> None:
        one = cluster[0]
        member = await cluster.member(one, "lobby")
        socket = member.socket
        await member.close()
        with pytest.raises(SocketClosed):
            await socket.join("bar")
        await socket.leave("lobby")
        assert not socket.rooms
        assert not one.rooms

    async def test_a_sid_in_use_is_refused_and_free_again_when_its_socket_has_gone(
        self, cluster: Cluster
    ) -> None:
        one, two, _ = cluster
        first = await cluster.member(one, "lobby", sid="ann")
        with pytest.raises(Rejected, match="409"):
            await Member(one, "lobby", sid="ann").open()
        await two.to("ann").send_text("still you")
        assert await first.receive_text() == "still you"
        await first.close()
        second = await cluster.member(one, "lobby", sid="ann")
        await two.to("ann").send_text("now you")
        assert await second.receive_text() == "now you"

    async def test_a_closed_manager_leaves_no_subscription_and_no_task(
        self, backplane: Backplane
    ) -> None:
        before = asyncio.all_tasks()
        manager = RoomManager(backplane.adapter())
        channels = [channel_of(backplane), channel_of(backplane, "lobby")]
        async with manager:
            member = Member(manager, "lobby")
            await member.open()
            heard = asyncio.Event()
            listening = asyncio.create_task(_listen_for_ever(manager, heard))
            while not heard.is_set():
                await manager.to("news").send_text("are you there?")
            assert await backplane.subscribers(channel_of(backplane, "news")) == 1
            assert [await backplane.subscribers(channel) for channel in channels] == [1, 1]
        await member.close()
        await listening
        await nothing_but(before)
        for channel in (*channels, channel_of(backplane, "news")):
            await subscribers_become(0, backplane, channel)
        assert manager.rooms == manager.sids == {}
        assert not manager.health.ready

    async def test_a_manager_can_be_started_again(self, backplane: Backplane) -> None:
        first, second = RoomManager(backplane.adapter()), RoomManager(backplane.adapter())
        for _ in range(3):
            async with first, second, Member(first, "lobby") as member:
                await second.to("lobby").send_text("hello")
                assert await member.receive_text() == "hello"


async def _listen_for_ever(manager: RoomManager, heard: asyncio.Event) -> None:
    async with manager.listen("news") as messages:
        async for _ in messages:
            heard.set()


def _application(endpoint: Callable[[WebSocket], Awaitable[None]]) -> Starlette:
    return Starlette(routes=[WebSocketRoute("/", endpoint)])
