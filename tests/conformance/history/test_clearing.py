"""A history that is cleared."""

from __future__ import annotations

from fastapi_rooms.testing import Member, eventually
from tests.conformance.history.scene import ROOM, Pair, heard_by


async def test_what_is_cleared_is_forgotten_on_every_worker_and_the_numbering_goes_on(
    pair: Pair,
) -> None:
    one, two = pair
    async with Member(one, ROOM) as ann, Member(two, ROOM):
        await one.to(ROOM).send_text("a secret")
        assert await ann.receive() == "a secret"
        position = await one.position(ROOM)
        await one.clear_history(ROOM)

        async def is_forgotten() -> bool:
            async with Member(two) as cem:
                return (await cem.socket.join(ROOM, recent=10)).replayed == 0

        await eventually(is_forgotten)
        assert await two.recent(ROOM) == []
        assert await two.position(ROOM) == position
        await two.to(ROOM).send_text("goes on")
        assert await ann.receive() == "goes on"


async def test_who_had_everything_when_it_was_cleared_is_recovered_all_the_same(
    pair: Pair,
) -> None:
    one, two = pair
    async with Member(one, ROOM) as ann:
        for n in range(3):
            await one.to(ROOM).send_text(f"{n}")
        earlier = (await one.recent(ROOM))[1].position
        position = await one.position(ROOM)
        await two.clear_history(ROOM)
        # On a cluster the room has a node of its own: what is said in it may come before the notice
        # that it was cleared. An answer of the other worker does not.
        await two.fetch_sockets()
        await two.to(ROOM).send_text("missed")
        assert await heard_by(ann, 4) == ["0", "1", "2", "missed"]
        for rooms in pair:  # from what it has heard, and by reading
            for since, recovered in ((position, True), (earlier, False)):
                async with Member(rooms) as bob:
                    joined = await bob.socket.join(ROOM, since=since)
                    assert (joined.recovered, joined.replayed) == (recovered, int(recovered))
        async with two.listen(ROOM, since=position) as messages:
            assert messages.recovered is True
            assert (await anext(messages)).text == "missed"
