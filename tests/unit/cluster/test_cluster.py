"""This worker among the others, of whom the tests play the rest."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Any

import pytest

from fastapi_rooms import (
    AdapterHealth,
    AdapterUnavailable,
    NotStarted,
    Receiver,
    RequestTimeout,
    UsageError,
)
from fastapi_rooms.cluster import heartbeat as discovery
from fastapi_rooms.cluster import requester, responder
from fastapi_rooms.cluster.cluster import Cluster
from fastapi_rooms.cluster.collect import collect
from fastapi_rooms.cluster.commands import EmptyNamespace
from fastapi_rooms.cluster.heartbeat import HeartbeatSettings
from fastapi_rooms.cluster.pending import PIECE_BYTES
from fastapi_rooms.core.names import Channels
from fastapi_rooms.core.target import Target
from fastapi_rooms.operators.dispatcher import ClusterRequest
from fastapi_rooms.operators.remote import COUNT as COUNTED
from fastapi_rooms.testing import eventually
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Envelope, Heartbeat, HeartbeatKind, Reply, Request
from fastapi_rooms.wire.verbs import Verb
from tests.unit.support import other_tasks

ME, ANN, BOB = "0" * 16, "a" * 16, "b" * 16
COUNT = ClusterRequest(Verb.COUNT, Target(), {})
CHANNELS = Channels("rooms")
EVERYONE = CHANNELS.of_workers()
FAR = 3600.0


class _Carrier:
    """An adapter that says what it is told to of who receives what."""

    prefix = "rooms"

    def __init__(self) -> None:
        self.health = AdapterHealth(connected=True, since=0, last_received=None)
        self.sent: list[tuple[bytes, Envelope]] = []
        self.volatile: list[tuple[bytes, Envelope]] = []
        self.receivers: dict[bytes, int | None] = {}
        self.down = False
        self.stuck = False
        self.go_on = asyncio.Event()

    async def start(self, receiver: Receiver, channels: Iterable[bytes]) -> None: ...

    async def publish(self, channel: bytes, data: bytes) -> int | None:
        self.sent.append((channel, codec.decode(data)))
        if self.stuck:
            await self.go_on.wait()
        if self.down:
            raise AdapterUnavailable("down")
        return self.receivers.get(channel, 0)

    def publish_volatile(self, channel: bytes, data: bytes) -> None:
        self.volatile.append((channel, codec.decode(data)))

    async def subscribe(self, channels: Iterable[bytes]) -> None:
        if self.down:
            raise AdapterUnavailable("down")

    def unsubscribe(self, channels: Iterable[bytes]) -> None: ...

    async def close(self) -> None: ...

    def signs(self) -> list[tuple[bytes, HeartbeatKind]]:
        """The signs of life that were published, and where."""
        return [(to, beat.kind) for to, beat in self.sent if isinstance(beat, Heartbeat)]

    def requests(self) -> list[Request]:
        return [message for _, message in self.sent if isinstance(message, Request)]

    def replies(self) -> list[Reply]:
        return [message for _, message in self.sent if isinstance(message, Reply)]


class _Place(EmptyNamespace):
    """A namespace with a handler that does what a test wants."""

    def __init__(self) -> None:
        self.responses: list[Any] = []

    def handle(self, event: str, args: list[Any]) -> Any:
        answer = self.responses.pop()
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def carrier() -> _Carrier:
    return _Carrier()


@pytest.fixture
def place() -> _Place:
    return _Place()


def make(carrier: _Carrier, place: _Place | None = None, **pace: Any) -> Cluster:
    numbers = itertools.count(1)
    pace = {"interval": FAR} | pace
    places = {"/": place or _Place()}
    return Cluster(ME, carrier, CHANNELS, HeartbeatSettings(**pace), lambda: next(numbers), places)


@pytest.fixture
async def here(carrier: _Carrier, place: _Place) -> AsyncIterator[Cluster]:
    """A started one that knows Ann."""
    here = make(carrier, place)
    await here.start()
    hear(here, ANN, HeartbeatKind.ALIVE)
    yield here
    await here.close(1)
    assert other_tasks() == set()


def hear(here: Cluster, node: str, sign: HeartbeatKind, interval: float = FAR) -> None:
    assert here.received(Heartbeat(node, 1, sign, interval))


async def request_of(carrier: _Carrier) -> Request:
    await eventually(lambda: bool(carrier.requests()), what="a request")
    return carrier.requests()[-1]


def answer(here: Cluster, node: str, request: Request, data: bytes) -> bool:
    return here.received(Reply(node, 1, request.id, 0, last=True, refused=False, data=data))


# Signs of life.


async def test_a_worker_greets_all_and_is_answered_on_its_own_channel(carrier: _Carrier) -> None:
    here = make(carrier)
    await here.start()
    assert carrier.signs() == [(b"rooms#workers#", HeartbeatKind.HELLO)]
    assert here.nodes == {ME}
    hear(here, ANN, HeartbeatKind.HELLO)
    assert here.nodes == {ME, ANN}
    assert [
        (to, message.kind) for to, message in carrier.volatile if type(message) is Heartbeat
    ] == [(f"rooms#{ANN}#".encode(), HeartbeatKind.ALIVE)]
    hear(here, BOB, HeartbeatKind.QUERY)
    assert here.nodes == {ME, ANN}
    assert carrier.volatile[-1][0] == f"rooms#{BOB}#".encode()
    hear(here, ANN, HeartbeatKind.BYE)
    assert here.nodes == {ME}
    await here.close(1)
    assert carrier.signs()[-1] == (b"rooms#workers#", HeartbeatKind.BYE)


async def test_an_observer_looks_and_neither_counts_nor_answers_nor_says_goodbye(
    carrier: _Carrier,
) -> None:
    here = make(carrier, observer=True)
    await here.start()
    assert carrier.signs() == [(b"rooms#workers#", HeartbeatKind.QUERY)]
    assert here.own_channels == [f"rooms#{ME}#".encode()]
    hear(here, ANN, HeartbeatKind.HELLO)
    assert here.nodes == {ANN}
    assert carrier.volatile == []
    await here.close(1)
    assert len(carrier.signs()) == 1


@pytest.mark.parametrize(
    ("observer", "sign"), [(False, HeartbeatKind.ALIVE), (True, HeartbeatKind.QUERY)]
)
async def test_it_lets_hear_of_itself_while_it_is_connected(
    carrier: _Carrier, observer: bool, sign: HeartbeatKind
) -> None:
    here = make(carrier, interval=0.001, observer=observer)
    await here.start()
    await eventually(lambda: len(carrier.volatile) >= 2, what="signs of life")
    assert {
        (to, message.kind) for to, message in carrier.volatile if type(message) is Heartbeat
    } == {(b"rooms#workers#", sign)}
    carrier.health = carrier.health._replace(connected=False)
    before = len(carrier.volatile)
    hear(here, ANN, HeartbeatKind.ALIVE, interval=0.001)
    clock = _Carrier()
    other = make(clock, interval=0.001)
    await other.start()
    await eventually(lambda: len(clock.volatile) >= 5, what="time goes by")
    assert len(carrier.volatile) == before
    assert ANN in here.nodes  # that we hear nobody says nothing of them
    await here.close(1)
    await other.close(1)


@pytest.mark.parametrize("receivers", [0, None, 1])
async def test_one_that_has_gone_silent_is_not_counted_any_more(
    carrier: _Carrier, receivers: int | None
) -> None:
    here = make(carrier, interval=0.005)
    await here.start()
    carrier.receivers[CHANNELS.of_node(ANN)] = receivers
    hear(here, ANN, HeartbeatKind.ALIVE, interval=0.005)
    hear(here, BOB, HeartbeatKind.ALIVE)
    asked = asyncio.ensure_future(here._requester.ask("/", COUNT, 0.3))
    answer(here, BOB, await request_of(carrier), b"1")
    await eventually(lambda: here.nodes == {ME, BOB}, what="it is given up")
    question = await asked
    assert question.responses == {BOB: b"1"}
    # Whoever still has its subscription is frozen, and was waited for to the end.
    assert question.missing == ({ANN} if receivers == 1 else set())
    await here.close(1)


async def test_one_that_has_gone_silent_is_noticed_between_two_beats(
    carrier: _Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "CHECKS_PER_INTERVAL", 10_000)
    here = make(carrier, interval=60)
    await here.start()
    hear(here, ANN, HeartbeatKind.ALIVE, interval=0.001)
    await eventually(lambda: here.nodes == {ME}, what="it is given up")
    assert carrier.volatile == []
    await here.close(1)


async def test_while_nobody_can_be_greeted_nobody_is_asked(carrier: _Carrier) -> None:
    carrier.down = True
    here = make(carrier, interval=0.01)
    carrier.health = carrier.health._replace(connected=False)
    await here.start()
    with pytest.raises(AdapterUnavailable, match="before this worker had found the others"):
        await here._requester.ask("/", COUNT, 0.05)
    carrier.down = False
    assert (await here._requester.ask("/", COUNT, 60)).is_done()
    assert carrier.signs()[-1] == (b"rooms#workers#", HeartbeatKind.HELLO)
    await here.close(1)


async def test_however_seldom_it_beats_a_greeting_that_failed_is_soon_tried_again(
    carrier: _Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "RETRY_DELAY", 0.01)
    carrier.down = True
    here = make(carrier, interval=FAR)
    carrier.health = carrier.health._replace(connected=False)
    await here.start()
    with pytest.raises(AdapterUnavailable):
        await here._requester.ask("/", COUNT, 0.01)
    carrier.down = False
    assert (await here._requester.ask("/", COUNT, 5)).is_done()
    await here.close(1)


async def test_after_an_outage_it_greets_and_waits_for_as_many_as_were_reached(
    carrier: _Carrier, here: Cluster
) -> None:
    carrier.receivers[b"rooms#workers#"] = 2
    here.discover()
    asked = asyncio.ensure_future(here._requester.ask("/", COUNT, 60))
    await eventually(lambda: len(carrier.signs()) >= 2, what="another greeting")
    hear(here, ANN, HeartbeatKind.ALIVE)
    assert carrier.requests() == []
    hear(here, BOB, HeartbeatKind.ALIVE)
    request = await request_of(carrier)
    assert answer(here, ANN, request, b"1")
    assert answer(here, BOB, request, b"2")
    assert (await asked).responses == {ANN: b"1", BOB: b"2"}


async def test_a_greeting_that_not_all_answer_is_not_waited_for_for_ever(
    carrier: _Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "DISCOVERY_TIMEOUT", 0.02)
    carrier.receivers[b"rooms#workers#"] = 5
    here = make(carrier)
    await here.start()
    carrier.receivers[b"rooms#workers#"] = 0
    assert (await here._requester.ask("/", COUNT, 60)).is_done()
    await here.close(1)


async def test_closing_says_goodbye_only_if_that_can_be_said(
    carrier: _Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = make(carrier)
    await here.start()
    carrier.health = carrier.health._replace(connected=False)
    await here.close(1)
    assert carrier.signs() == [(b"rooms#workers#", HeartbeatKind.HELLO)]
    carrier.health = carrier.health._replace(connected=True)
    monkeypatch.setattr(discovery, "GOODBYE_TIMEOUT", 0.02)
    for why_not_master in ("down", "stuck"):
        here = make(carrier)
        await here.start()
        setattr(carrier, why_not_master, True)
        await here.close(1)
        setattr(carrier, why_not_master, False)
    assert other_tasks() == set()


# Asking.


async def test_one_worker_alone_can_be_asked(carrier: _Carrier, here: Cluster) -> None:
    hear(here, BOB, HeartbeatKind.ALIVE)
    carrier.receivers[CHANNELS.of_node(BOB)] = 1
    asked = asyncio.ensure_future(here._requester.ask("/", COUNT._replace(node=BOB), 60))
    request = await request_of(carrier)
    assert carrier.sent[-1][0] == CHANNELS.of_node(BOB)
    assert answer(here, BOB, request, b"3")
    assert (await asked).responses == {BOB: b"3"}
    assert (await here._requester.ask("/", COUNT._replace(node="c" * 16), 60)).is_done()


async def test_a_request_that_is_not_accepted_is_an_error_and_leaves_nothing(
    carrier: _Carrier, here: Cluster
) -> None:
    carrier.down = True
    with pytest.raises(AdapterUnavailable):
        await here._requester.ask("/", COUNT, 60)
    carrier.down = False
    late = Reply(ANN, 1, carrier.requests()[-1].id, 0, last=True, refused=False, data=b"1")
    assert here.received(late)  # nobody waits for it, and that is no offence


async def test_an_answer_that_fits_nothing_is_told(carrier: _Carrier, here: Cluster) -> None:
    asked = asyncio.ensure_future(here._requester.ask("/", COUNT, 60))
    request = await request_of(carrier)
    assert not here.received(Reply(ANN, 1, request.id, 1, last=True, refused=False, data=b""))
    assert answer(here, ANN, request, b"1")
    assert (await asked).responses == {ANN: b"1"}
    carrier.receivers[CHANNELS.of_node(ANN)] = 1
    asked = asyncio.ensure_future(here._requester.ask("/", COUNT._replace(node=ANN), 60))
    await eventually(lambda: len(carrier.requests()) == 2, what="another request")
    assert not answer(here, BOB, carrier.requests()[-1], b"1")
    assert answer(here, ANN, carrier.requests()[-1], b"1")
    assert (await asked).responses == {ANN: b"1"}


async def test_who_is_late_is_looked_into_until_the_carrier_can_tell(
    carrier: _Carrier, here: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requester, "LATE_AFTER", 0.005)
    own = CHANNELS.of_node(ANN)
    carrier.receivers[own] = None
    asked = asyncio.ensure_future(here._requester.ask("/", COUNT, 60))
    await eventually(
        lambda: carrier.signs().count((own, HeartbeatKind.QUERY)) >= 2, what="two looks"
    )
    pattern_watchers(carrier, 2)  # and nobody else
    question = await asked
    assert question.is_done()
    assert question.responses == {}
    assert here.nodes == {ME}


async def test_who_is_late_with_many_answers_is_looked_into_once_at_a_time(
    carrier: _Carrier, here: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requester, "LATE_AFTER", 0.005)
    asked = [asyncio.ensure_future(here._requester.ask("/", COUNT, 0.1)) for _ in range(3)]
    await eventually(lambda: len(carrier.requests()) == 3, what="three requests")
    carrier.stuck = True
    assert [(await question).missing for question in asked] == [{ANN}] * 3
    assert carrier.signs().count((CHANNELS.of_node(ANN), HeartbeatKind.QUERY)) == 1


async def test_closing_ends_what_it_asks(carrier: _Carrier) -> None:
    here = make(carrier)
    await here.start()
    hear(here, ANN, HeartbeatKind.ALIVE)
    asked = asyncio.ensure_future(here._requester.ask("/", COUNT, 60))
    await request_of(carrier)
    await here.close(1)
    with pytest.raises(NotStarted):
        await asked
    with pytest.raises(NotStarted):
        await here._requester.ask("/", COUNT, 60)


async def test_closing_ends_the_wait_for_the_adapter(carrier: _Carrier, here: Cluster) -> None:
    carrier.stuck = True
    here.discover()
    waits = asyncio.ensure_future(here._requester.ask("/", COUNT, 60))
    await eventually(lambda: len(carrier.signs()) == 2, what="another greeting")
    await here.close(1)
    with pytest.raises(NotStarted):
        await waits


async def test_a_request_that_fails_by_the_closing_says_so(carrier: _Carrier) -> None:
    here = make(carrier)
    await here.start()
    carrier.stuck = True
    asked = asyncio.ensure_future(here._requester.ask("/", COUNT, 60))
    await request_of(carrier)
    closing = asyncio.ensure_future(here.close(1))
    await asyncio.sleep(0)
    carrier.down = True
    carrier.go_on.set()
    with pytest.raises(NotStarted):
        await asked
    await closing


async def test_a_request_that_is_not_accepted_in_its_time_is_an_error(
    carrier: _Carrier, here: Cluster
) -> None:
    carrier.stuck = True
    with pytest.raises(AdapterUnavailable, match="before the adapter had accepted"):
        await here._requester.ask("/", COUNT, 0.02)


async def test_finding_out_who_strangers_are_takes_no_longer_than_the_request_may(
    carrier: _Carrier, here: Cluster
) -> None:
    carrier.receivers[EVERYONE] = 2
    asked = asyncio.ensure_future(here._requester.ask("/", COUNT, 0.05))
    await request_of(carrier)
    carrier.stuck = True
    question = await asked
    assert (question.missing, question.unidentified) == ({ANN}, 1)


# Unidentified: workers that are not known, and get what goes to all of them.


def pattern_watchers(carrier: _Carrier, number: int, *others: str) -> None:
    """Have every channel received by so many, beside those who are there."""

    class Receivers(dict[bytes, int | None]):
        def get(self, channel: bytes, default: Any = None) -> int:
            return number + (len(others) if channel == EVERYONE else 0)

    carrier.receivers = Receivers()


async def test_a_worker_that_never_answered_the_greeting_is_waited_for(
    carrier: _Carrier, here: Cluster
) -> None:
    carrier.receivers[EVERYONE] = 2
    asked = asyncio.ensure_future(here._requester.ask("/", COUNT, 60))
    request = await request_of(carrier)
    assert answer(here, ANN, request, b"1")
    assert here.nodes == {ME, ANN}
    assert answer(here, BOB, request, b"2")
    assert (await asked).responses == {ANN: b"1", BOB: b"2"}
    assert here.nodes == {ME, ANN, BOB}  # now it is known


async def test_an_answer_without_a_stranger_is_not_complete_and_says_so(
    carrier: _Carrier, here: Cluster
) -> None:
    carrier.receivers[EVERYONE] = 2
    asked = asyncio.ensure_future(here._requester.ask("/", COUNT, 0.1))
    assert answer(here, ANN, await request_of(carrier), b"1")
    question = await asked
    assert (question.responses, question.missing, question.unidentified) == ({ANN: b"1"}, set(), 1)
    with pytest.raises(RequestTimeout, match="from 1 unidentified") as caught:
        await collect(COUNT, COUNTED, question, 0.1)
    assert (caught.value.partial, caught.value.unidentified) == (1, 1)
    assert not caught.value.silent


async def test_one_that_gets_its_name_out_but_no_answer_is_named(
    carrier: _Carrier, here: Cluster
) -> None:
    carrier.receivers[EVERYONE] = 2
    asked = asyncio.ensure_future(here._requester.ask("/", COUNT, 0.1))
    assert answer(here, ANN, await request_of(carrier), b"1")
    await eventually(lambda: len(carrier.signs()) == 2, what="it has been counted")
    hear(here, BOB, HeartbeatKind.ALIVE)
    question = await asked
    assert (question.missing, question.unidentified) == ({BOB}, 0)


async def test_one_that_left_while_it_was_asked_is_no_stranger(
    carrier: _Carrier, here: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requester, "LATE_AFTER", 0.005)
    carrier.receivers |= {EVERYONE: 2, CHANNELS.of_node(ANN): 1}
    asked = asyncio.ensure_future(here._requester.ask("/", COUNT, 60))
    assert answer(here, ANN, await request_of(carrier), b"1")
    await eventually(
        lambda: (EVERYONE, HeartbeatKind.QUERY) in carrier.signs(), what="it is counted again"
    )
    assert not asked.done()
    carrier.down = True
    looks = len(carrier.signs())
    await eventually(lambda: len(carrier.signs()) > looks + 1, what="it is tried again")
    carrier.down = False
    carrier.receivers[EVERYONE] = 1
    assert (await asked).is_done()


async def test_one_that_died_after_its_answer_does_not_stand_for_a_stranger(
    carrier: _Carrier, here: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requester, "LATE_AFTER", 0.005)
    carrier.receivers[EVERYONE] = 2
    asked = asyncio.ensure_future(here._requester.ask("/", COUNT, 60))
    request = await request_of(carrier)
    assert answer(here, ANN, request, b"1")
    carrier.receivers |= {EVERYONE: 1, CHANNELS.of_node(ANN): 0}
    await eventually(
        lambda: carrier.signs().count((EVERYONE, HeartbeatKind.QUERY)) > 2, what="some counts"
    )
    assert not asked.done()
    assert answer(here, BOB, request, b"2")
    assert (await asked).responses == {ANN: b"1", BOB: b"2"}


async def test_who_watches_by_a_pattern_is_not_waited_for(carrier: _Carrier, here: Cluster) -> None:
    pattern_watchers(carrier, 3, ANN)
    asked = asyncio.ensure_future(here._requester.ask("/", COUNT, 60))
    assert answer(here, ANN, await request_of(carrier), b"1")
    assert (await asked).is_done()


async def test_a_connection_that_never_says_a_word_is_not_waited_for_for_ever(
    carrier: _Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    here = make(carrier, interval=0.01)
    await here.start()
    hear(here, ANN, HeartbeatKind.ALIVE)
    carrier.receivers[EVERYONE] = 2
    assert (await here._requester.ask("/", COUNT._replace(verb=Verb.ROOMS), 0.02)).unidentified == 1
    await eventually(lambda: "never let hear of themselves" in caplog.text, what="it is given up")
    asked = asyncio.ensure_future(here._requester.ask("/", COUNT, 60))
    await eventually(lambda: len(carrier.requests()) == 2, what="another request")
    assert answer(here, ANN, carrier.requests()[-1], b"1")
    assert (await asked).is_done()
    assert caplog.text.count("never let hear of themselves") == 1
    await here.close(1)


async def test_a_dead_connection_stays_so_though_new_workers_start(carrier: _Carrier) -> None:
    here = make(carrier, interval=0.01)
    await here.start()
    carrier.receivers[EVERYONE] = 1
    assert (await here._requester.ask("/", COUNT, 0.05)).unidentified == 1
    assert (await here._requester.ask("/", COUNT, 5)).is_done()
    hear(here, ANN, HeartbeatKind.HELLO)
    carrier.receivers[EVERYONE] = 2
    requests = len(carrier.requests())
    asked = asyncio.ensure_future(here._requester.ask("/", COUNT, 0.02))
    await eventually(lambda: len(carrier.requests()) > requests, what="another request")
    assert answer(here, ANN, carrier.requests()[-1], b"1")
    assert (await asked).is_done()
    await here.close(1)


async def test_a_request_that_was_accepted_goes_on_though_strangers_cannot_be_told_apart(
    carrier: _Carrier, here: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(receivers: int | None) -> int:
        raise AdapterUnavailable("down")

    monkeypatch.setattr(here._monitor, "workers_among", fails)
    carrier.receivers[EVERYONE] = 2
    asked = asyncio.ensure_future(here._requester.ask("/", COUNT, 60))
    request = await request_of(carrier)
    assert answer(here, ANN, request, b"1")
    assert answer(here, BOB, request, b"2")
    assert (await asked).responses == {ANN: b"1", BOB: b"2"}


async def test_where_the_carrier_does_not_tell_who_is_known_is_waited_for(
    carrier: _Carrier, here: Cluster
) -> None:
    carrier.receivers[EVERYONE] = None
    asked = asyncio.ensure_future(here._requester.ask("/", COUNT, 60))
    assert answer(here, ANN, await request_of(carrier), b"1")
    assert (await asked).responses == {ANN: b"1"}


# Being asked.


def ask(here: Cluster, verb: str = "emit", number: int = 7, **arguments: Any) -> None:
    if verb == "emit":
        arguments = {"event": "x", "args": []} | arguments
    assert here.received(Request(ANN, 1, "/", Target(), number, verb, arguments))


async def test_a_large_answer_goes_out_in_pieces(
    carrier: _Carrier, place: _Place, here: Cluster
) -> None:
    place.responses = ["x" * 2 * PIECE_BYTES]
    ask(here)
    await eventually(lambda: len(carrier.replies()) == 3, what="three pieces")
    assert [(r.piece, r.last, r.refused) for r in carrier.replies()] == [
        (0, False, False),
        (1, False, False),
        (2, True, False),
    ]
    assert len(b"".join(r.data for r in carrier.replies())) == 2 * PIECE_BYTES + 2


async def test_what_goes_wrong_here_is_told_and_logged(
    carrier: _Carrier, place: _Place, here: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails() -> None:
        raise ValueError("later")

    async def fails_in_no_words() -> None:
        raise UsageError("A file: \udcff")

    place.responses = [object(), fails(), ValueError("at once"), fails_in_no_words()]
    for _ in range(4):
        ask(here)
    await eventually(lambda: len(carrier.replies()) == 4, what="four refusals")
    assert all(reply.refused for reply in carrier.replies())
    assert sorted(reply.data.decode().split(":")[0] for reply in carrier.replies()) == [
        "A file",
        "TypeError",
        "ValueError",
        "ValueError",
    ]
    assert sum("asked for by another worker" in record.message for record in caplog.records) == 3


async def test_a_request_that_wants_no_answer_gets_none(
    carrier: _Carrier, place: _Place, here: Cluster
) -> None:
    done = asyncio.Event()

    async def later() -> None:
        done.set()

    place.responses = [later(), "at once"]
    ask(here, number=0)
    ask(here, number=0)
    await done.wait()
    await eventually(lambda: not other_tasks(), what="it is over")
    assert carrier.replies() == []


async def test_more_requests_at_a_time_than_can_be_are_refused(
    carrier: _Carrier, place: _Place, here: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responder, "MAX_RUNNING", 2)
    go_on = asyncio.Event()
    place.responses = [go_on.wait(), go_on.wait()]
    for _ in range(3):
        ask(here)
    await eventually(lambda: len(carrier.replies()) == 1, what="a refusal")
    assert b"2 requests are under way" in carrier.replies()[0].data
    go_on.set()
    await eventually(lambda: len(carrier.replies()) == 3, what="the others' answers")


async def test_closing_ends_what_it_is_asked(carrier: _Carrier, place: _Place) -> None:
    here = make(carrier, place)
    await here.start()
    ended = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    place.responses = [endless()]
    ask(here)
    await asyncio.sleep(0)
    await here.close(1)
    assert ended.is_set()
    assert carrier.replies() == []


async def test_a_handler_that_will_not_end_does_not_hold_up_the_closing(
    carrier: _Carrier, place: _Place, caplog: pytest.LogCaptureFixture
) -> None:
    here = make(carrier, place)
    await here.start()
    go = asyncio.Event()

    async def stubborn() -> None:
        while not go.is_set():
            with suppress(asyncio.CancelledError):
                await go.wait()

    place.responses = [stubborn()]
    ask(here, event="reload")
    await asyncio.sleep(0)
    await here.close(0.01)
    assert "event 'reload' was cancelled and has not ended" in caplog.text
    assert carrier.signs()[-1] == (EVERYONE, HeartbeatKind.BYE)
    go.set()
    await eventually(lambda: not other_tasks(), what="it has ended")
    assert carrier.replies() == []  # there is nobody left who could send it
