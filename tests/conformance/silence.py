"""What becomes of a request when a worker does not answer it, or answers nonsense.

Workers that behave so are played by the tests, with the library's own envelopes; so this is no part
of the suite that is shipped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest

from fastapi_rooms import RequestRefused, RequestTimeout, RoomManager
from fastapi_rooms.core.names import Channels, new_node_id
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import Cluster, eventually
from fastapi_rooms.testing.suite import Backplane, Station
from fastapi_rooms.testing.suite.backplane import ManagerBench
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Heartbeat, HeartbeatKind, Reply, Request

SOON = 0.3
"""Seconds; what is waited for in vain is not waited for longer."""


class Mute(Station):
    """A worker that lives, and takes requests, but is in the hands of a test."""

    def __init__(self, backplane: Backplane) -> None:
        super().__init__(backplane.adapter())
        self.node = new_node_id()
        self.names = Channels(self.adapter.prefix)
        self._sequence = 0

    def is_known_by(self, worker: RoomManager) -> bool:
        """Whether a worker takes this one for another."""
        return self.node in worker.nodes()

    async def say(self, sign: HeartbeatKind, interval: float = 60) -> None:
        """Let the others hear of it."""
        beat = Heartbeat(self.node, self._next(), sign, interval)
        await self.publish(self.names.of_workers(), codec.encode(beat))

    async def ask(self, verb: str, **arguments: Any) -> None:
        """Send every worker a request."""
        request = Request(self.node, self._next(), "/", Target(), 77, verb, arguments)
        await self.publish(self.names.of_workers(), codec.encode(request))

    async def answer(self, node: str, request: int, data: bytes, *, refused: bool = False) -> None:
        """Answer a worker's request."""
        reply = Reply(self.node, self._next(), request, 0, last=True, refused=refused, data=data)
        await self.publish(self.names.of_node(node), codec.encode(reply))

    async def request(self) -> Request:
        """The first request that it was sent."""
        await eventually(lambda: any(self._of(Request)), what="a request")
        request: Request = self._of(Request)[0]
        return request

    def replies(self) -> list[Reply]:
        """The replies that it was sent."""
        return self._of(Reply)

    def _of(self, kind: type[Any]) -> list[Any]:
        messages = [codec.decode(data) for _, data in self.received_messages]
        return [message for message in messages if isinstance(message, kind)]

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence


@asynccontextmanager
async def mute_worker(backplane: Backplane, *known_by: RoomManager) -> AsyncIterator[Mute]:
    """A mute worker that some workers know of; without any, it has not said that it is there."""
    mute = Mute(backplane)
    await mute.start(mute.names.of_node(mute.node), mute.names.of_workers())
    try:
        if known_by:
            await mute.say(HeartbeatKind.ALIVE)
        for worker in known_by:
            await eventually(partial(mute.is_known_by, worker), what="it is known")
        yield mute
    finally:
        await mute.adapter.close()


class SilenceSuite(ManagerBench):
    """Workers that do not answer."""

    async def test_a_worker_that_does_not_answer_is_named_with_what_the_others_said(
        self, cluster: Cluster, backplane: Backplane
    ) -> None:
        one, two, _ = cluster
        member = await cluster.member(two, "lobby")
        async with mute_worker(backplane, one) as mute:
            with pytest.raises(RequestTimeout, match=mute.node) as caught:
                await one.fetch_sockets(timeout=SOON)
            assert caught.value.silent == {mute.node}
            assert [socket.sid for socket in caught.value.partial] == [member.sid]
            assert isinstance(caught.value, TimeoutError)
            with pytest.raises(RequestTimeout) as caught:
                await one.to("lobby").count(timeout=SOON)
            assert caught.value.partial == 1
            with pytest.raises(RequestTimeout) as caught:
                await one.server_side_emit_with_ack("x", timeout=SOON)
            assert len(caught.value.partial) == 2
            assert await two.local.count() == 1

    async def test_one_that_leaves_or_dies_meanwhile_is_not_waited_for(
        self, cluster: Cluster, backplane: Backplane
    ) -> None:
        one, two, _ = cluster
        member = await cluster.member(two)
        async with mute_worker(backplane, one) as leaver:
            asked = asyncio.ensure_future(one.fetch_sockets(timeout=60))
            await leaver.request()
            await leaver.say(HeartbeatKind.BYE)
            assert [socket.sid for socket in await asked] == [member.sid]
        async with mute_worker(backplane, one) as dead:
            asked = asyncio.ensure_future(one.fetch_sockets(timeout=60))
            await dead.request()
            await dead.adapter.close()  # without a word
            assert [socket.sid for socket in await asked] == [member.sid]
            assert dead.node not in one.nodes()

    async def test_one_that_died_without_a_word_before_is_not_waited_for(
        self, cluster: Cluster, backplane: Backplane
    ) -> None:
        one, *_ = cluster
        async with mute_worker(backplane, one) as dead:
            await dead.adapter.close()
            assert dead.node in one.nodes()
            assert await one.count(timeout=60) == 0
            assert dead.node not in one.nodes()

    async def test_one_that_never_said_that_it_is_there_is_waited_for(
        self, cluster: Cluster, backplane: Backplane
    ) -> None:
        one, two, _ = cluster
        await cluster.member(two)
        async with mute_worker(backplane) as mute:
            asked = asyncio.ensure_future(one.count(timeout=60))
            request = await mute.request()
            await mute.answer(request.origin, request.id, b"5")
            assert await asked == 6
            assert mute.node in one.nodes()
        async with mute_worker(backplane):
            with pytest.raises(RequestTimeout, match="1 unidentified") as caught:
                await two.count(timeout=SOON)
            assert caught.value.partial == 1

    async def test_one_that_comes_in_mid_request_is_not_waited_for(
        self, cluster: Cluster, backplane: Backplane
    ) -> None:
        one, *_ = cluster
        async with mute_worker(backplane, one) as mute:
            asked = asyncio.ensure_future(one.count(timeout=60))
            request = await mute.request()
            async with mute_worker(backplane, one):
                await mute.answer(request.origin, request.id, b"5")
                assert await asked == 5
                assert len(one.nodes()) == 5

    async def test_an_answer_that_makes_no_sense_is_a_refusal(
        self, cluster: Cluster, backplane: Backplane
    ) -> None:
        one, *_ = cluster
        async with mute_worker(backplane, one) as mute:
            for data in (b"-1", b"true", b'"5"', b"{", b"[]", b"\xff"):
                mute.received_messages.clear()
                asked = asyncio.ensure_future(one.count(timeout=60))
                request = await mute.request()
                await mute.answer(request.origin, request.id + 1, b"7")  # of no request
                await mute.answer(request.origin, request.id, data)
                with pytest.raises(RequestRefused, match="no sense") as caught:
                    await asked
                assert caught.value.partial == 0
                assert set(caught.value.refusals) == {mute.node}

    async def test_a_verb_that_is_not_known_is_refused_clearly(
        self, cluster: Cluster, backplane: Backplane
    ) -> None:
        async with mute_worker(backplane, *cluster) as mute:
            await mute.ask("teleport", to="mars")
            await eventually(lambda: len(mute.replies()) == 3, what="three refusals")
            for reply in mute.replies():
                assert reply.refused
                assert b"'teleport' is unknown" in reply.data

    @pytest.mark.parametrize(
        ("verb", "arguments"),
        [
            ("join", {}),
            ("join", {"rooms": "lobby"}),
            ("join", {"rooms": [5]}),
            ("leave", {"rooms": [""]}),
            ("disconnect", {}),
            ("disconnect", {"code": 1000, "reason": "x" * 200}),
            ("disconnect", {"code": "1000", "reason": ""}),
            ("fetch", {"sid": 5}),
            ("emit", {"event": 5, "args": []}),
            ("emit", {"event": "x"}),
        ],
    )
    async def test_a_request_that_makes_no_sense_is_refused_and_does_nothing(
        self, cluster: Cluster, backplane: Backplane, verb: str, arguments: dict[str, Any]
    ) -> None:
        member = await cluster.member(cluster[0], "lobby")
        async with mute_worker(backplane, *cluster) as mute:
            await mute.ask(verb, **arguments)
            await eventually(lambda: len(mute.replies()) == 3, what="three refusals")
            assert all(reply.refused for reply in mute.replies())
        assert member.socket.rooms == {member.sid, "lobby"}
        await cluster[0].send_text("still here")
        assert await member.receive_text() == "still here"

    async def test_who_stops_waiting_leaves_nothing(self, backplane: Backplane) -> None:
        async with (
            Cluster(2, adapter=backplane.adapter) as (one, _),
            mute_worker(backplane, one) as mute,
        ):
            asked = asyncio.ensure_future(one.count(timeout=60))
            await mute.request()
            asked.cancel()
            with suppress(asyncio.CancelledError):
                await asked
            assert await one.local.count() == 0
