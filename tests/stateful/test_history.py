"""A room that remembers, from end to end: a bus's store, two workers' logs, clients that come back.

Messages travel as they do between workers, and any of them may be lost on the way, or come twice;
reads are slow and may fail; the store forgets. The oracle is a list of all that was ever sent.
Whatever happens, a client hears the next message or is told that something is lost, and it is told
so only where it is true.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastapi_rooms.adapters.history import Retention, RoomKey
from fastapi_rooms.adapters.memory.store import IDLE_TIME, RoomStore
from fastapi_rooms.core.position import Position
from fastapi_rooms.core.room_log import Kept, RoomLog, Stretch, after
from fastapi_rooms.wire import kept
from tests.stateful.settings import UNHURRIED

ROOM = RoomKey(b"/#tea", b"rooms#/#tea#")
RETENTION = Retention(size=6, ttl=10.0)

T = TypeVar("T")

picks = st.integers(0, 5)
fates = st.lists(st.sampled_from(["comes"] * 5 + ["comes twice", "is lost"]), min_size=1)


def one_of(choice: Sequence[T], pick: int) -> T:
    return choice[pick % len(choice)]


class Oracle:
    """All that was sent in the present numbering, and how much of it is forgotten."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.sent: list[Kept[bytes]] = []
        self.forgotten = 0
        self.expires = 0.0

    @property
    def top(self) -> Position:
        last = self.sent[-1] if self.sent else Kept(0, 0, b"")
        return Position(self.epoch, last.offset, last.tag)

    def kept(self) -> list[Kept[bytes]]:
        return self.sent[max(self.forgotten, len(self.sent) - RETENTION.size - 1) :]

    def can_resume(self, position: Position) -> bool:
        """Whether it can be known what was sent after a position of this numbering, or another."""
        if position == self.top:
            return True
        missed = self.sent[position.offset :]
        is_at_the_beginning = position.offset in (0, self.forgotten)  # so the first one tells
        needed = len(missed) + (not is_at_the_beginning)  # its own message
        return position.epoch == self.epoch and len(self.kept()) >= needed


class Client:
    """Somebody who holds a position, connected or not."""

    def __init__(self) -> None:
        self.position: Position | None = None
        self.worker: Worker | None = None


class Worker:
    """A log, while there are members; what is under way to it; the read that it waits for."""

    def __init__(self) -> None:
        self.members: list[Client] = []
        self.log: RoomLog[bytes] = RoomLog(RETENTION.size)
        self.wire: deque[bytes] = deque()
        self.asked: Position | None = None
        self.answer: Stretch[bytes] | None = None
        self.could_resume = True
        self.is_reading = False


class HistoryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.epochs = itertools.count()
        self.tags = itertools.count(1)
        self.workers = [Worker(), Worker()]
        self.clients = [Client(), Client(), Client()]
        self.store = RoomStore(
            lambda: f"{next(self.epochs):016x}", lambda channel: self.has_members()
        )
        self.oracle: Oracle | None = None

    def has_members(self) -> bool:
        return any(worker.members for worker in self.workers)

    def numbering(self) -> Oracle:
        """The oracle of the present numbering; there is a new one where the store has made it."""
        if self.oracle is None:
            top = self.store.top(ROOM)
            assert top is not None
            self.oracle = Oracle(top.epoch)
        return self.oracle

    # The carrier.

    @rule(count=st.integers(1, 3), data=st.sampled_from([b"", b"\n", b"tea", kept.BEGINNING]))
    def send(self, count: int, data: bytes) -> None:
        for tag in itertools.islice(self.tags, count):
            item = data + b"%d" % tag
            appended = self.store.append(ROOM, item, tag, RETENTION, self.now)
            oracle = self.numbering()
            assert appended.is_new
            assert appended.previous == oracle.top.tag
            oracle.sent.append(Kept(len(oracle.sent) + 1, tag, item))
            oracle.expires = self.now + RETENTION.ttl
            assert appended.position == oracle.top
            for worker in self.workers:
                if worker.members:
                    in_place = kept.encode(appended.position, appended.previous, item)
                    worker.wire.append(in_place)

    @precondition(lambda self: self.oracle and self.oracle.sent)
    @rule(back=st.integers(0, RETENTION.size + 1))
    def send_again(self, back: int) -> None:
        oracle = self.numbering()
        known = [oracle.sent[-1], *reversed(oracle.kept())]
        message = known[back % len(known)]
        appended = self.store.append(ROOM, b"again", message.tag, RETENTION, self.now)
        assert not appended.is_new
        assert appended.position == Position(oracle.epoch, message.offset, message.tag)

    @rule(seconds=st.sampled_from([1.0, 4.0, RETENTION.ttl]), sweep=st.booleans())
    def let_time_pass(self, seconds: float, sweep: bool) -> None:
        self.now += seconds
        if self.oracle and self.now >= self.oracle.expires:
            self.oracle.forgotten = len(self.oracle.sent)
        if sweep:
            self.store.sweep(self.store.names(), self.now)

    @precondition(lambda self: self.oracle and self.oracle.kept())
    @rule()
    def forget(self) -> None:
        self.store.forget(ROOM)
        oracle = self.numbering()
        oracle.forgotten = len(oracle.sent)

    @precondition(lambda self: self.oracle and not self.has_members())
    @rule()
    def be_silent_for_long(self) -> None:
        for _ in range(2):
            self.let_time_pass(IDLE_TIME, sweep=True)
        assert len(self.store) == 0
        self.oracle = None

    # What comes to a worker, or does not.

    @precondition(lambda self: any(worker.wire for worker in self.workers))
    @rule(pick=picks, fates=fates)
    def arrive(self, pick: int, fates: list[str]) -> None:
        worker = one_of([worker for worker in self.workers if worker.wire], pick)
        for fate in fates[: len(worker.wire)]:
            epoch, offset, tag = (in_place := kept.decode(worker.wire.popleft())).position
            message = Kept(offset, tag, in_place.envelope)
            for _ in range(["is lost", "comes", "comes twice"].index(fate)):
                worker.log.receive(epoch, in_place.previous, message)
                self.deliver_all(worker)

    @precondition(lambda self: self.behind())
    @rule(pick=picks)
    def look_at_the_top(self, pick: int) -> None:
        one_of(self.behind(), pick).log.needs_read = True

    def behind(self) -> list[Worker]:
        top = self.store.top(ROOM)
        return [w for w in self.workers if w.members and w.log.position != top]

    @precondition(lambda self: self.to_read())
    @rule(pick=picks, steps=st.integers(1, 3), fails=st.booleans())
    def read(self, pick: int, steps: int, fails: bool) -> None:
        """One worker gets some steps further with its read."""
        worker = one_of(self.to_read(), pick)
        for _ in range(steps):
            self.read_on(worker, fails)

    def read_on(self, worker: Worker, fails: bool) -> None:
        if not worker.is_reading:
            worker.asked = worker.log.begin_read()
            worker.is_reading = True
        elif worker.answer is None:
            assert worker.log.position is not None
            if worker.asked is None:
                worker.answer = self.store.read(ROOM, self.now)
            else:
                worker.answer = self.store.read_since(ROOM, worker.asked, self.now)
            worker.could_resume = self.numbering().can_resume(worker.log.position)
        else:
            answer, worker.answer = worker.answer, None
            worker.is_reading = False
            if fails:
                worker.log.fail_read()
            else:
                self.heal(worker, answer)

    def to_read(self) -> list[Worker]:
        return [w for w in self.workers if w.members and (w.is_reading or w.log.needs_read)]

    def heal(self, worker: Worker, answer: Stretch[bytes]) -> None:
        is_whole = worker.log.finish_read(answer)
        assert is_whole is worker.could_resume
        for client in worker.members:
            assert client.position is not None
            if not is_whole and client.position.offset < answer.top.offset:
                client.position = answer.top  # it is told
        self.deliver_all(worker)

    # Clients.

    @precondition(lambda self: any(client.worker is None for client in self.clients))
    @rule(pick=picks, at=picks)
    def connect(self, pick: int, at: int) -> None:
        client = one_of([client for client in self.clients if client.worker is None], pick)
        worker = one_of(self.workers, at)
        worker.members.append(client)
        client.worker = worker
        if len(worker.members) == 1:
            worker.log = RoomLog(RETENTION.size)
            worker.log.begin_read()
            worker.log.finish_read(self.store.read(ROOM, self.now))
            assert worker.log.position == self.numbering().top
        assert worker.log.position is not None
        if client.position is None:
            client.position = worker.log.position
            return
        missed = worker.log.since(client.position)
        if missed is None:
            read = self.store.read_since(ROOM, client.position, self.now)
            missed = after(read, client.position)
            assert (missed is not None) is self.numbering().can_resume(client.position)
            if missed is None:
                client.position = read.top  # it is told
        self.hear(client, missed or ())

    @precondition(lambda self: self.has_members())
    @rule(pick=picks)
    def disconnect(self, pick: int) -> None:
        client = one_of([client for client in self.clients if client.worker is not None], pick)
        worker, client.worker = client.worker, None
        assert worker is not None
        worker.members.remove(client)
        if not worker.members:
            worker.wire.clear()
            worker.is_reading, worker.answer = False, None

    def deliver_all(self, worker: Worker) -> None:
        messages = []
        while (message := worker.log.next()) is not None:
            messages.append(message)
            worker.log.advance()
        self.deliver(worker, messages)

    def deliver(self, worker: Worker, messages: Sequence[Kept[bytes]]) -> None:
        for client in worker.members:
            assert client.position is not None
            known = client.position.offset  # one that came back may be ahead of its worker
            self.hear(client, [message for message in messages if message.offset > known])

    def hear(self, client: Client, messages: Sequence[Kept[bytes]]) -> None:
        """Each is the very next in the true list: none missed, none twice, as it was sent."""
        oracle = self.numbering()
        for message in messages:
            assert client.position is not None
            assert client.position.epoch == oracle.epoch
            assert message == oracle.sent[client.position.offset]
            client.position = Position(oracle.epoch, message.offset, message.tag)

    # What holds.

    @invariant()
    def the_store_has_what_it_should(self) -> None:
        top = self.store.top(ROOM)
        if self.oracle is None:
            assert top is None
        else:
            read = self.store.read(ROOM, self.now)
            assert read.top == top == self.oracle.top
            assert [*read.messages] == self.oracle.kept()

    def teardown(self) -> None:
        """In the end everybody is at the top."""
        while any(worker.wire for worker in self.workers):
            self.arrive(0, ["comes"])
        while self.behind() or self.to_read():
            if self.to_read():
                self.read(0, 1, fails=False)
            else:
                self.look_at_the_top(0)
        for worker in self.workers:
            assert {client.position for client in worker.members} <= {self.store.top(ROOM)}


TestHistory = HistoryMachine.TestCase
TestHistory.settings = settings(UNHURRIED, max_examples=150, stateful_step_count=60)
