"""What was said and heard, and what is wrong with that. It knows no clock and does no I/O.

Every message has a sender, a room, and a number that counts what that sender said to that room. So
each hearer can tell what came twice, out of order, or not at all. What did not come is excused by
an answer to its sender that it was refused, or by a gap that the hearer was told of.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

PUBLISH_TIMEOUT = 5.0
"""Seconds that a message may have waited in its worker before it met with a gap."""

MAX_TOLD = 50
"""Faults that are told in words; there may be thousands of one kind."""


class Gap(NamedTuple):
    """Between which times messages to some rooms may be missed."""

    since: float
    until: float
    rooms: frozenset[str]


class Missing(NamedTuple):
    """Some messages of one sender to one room, and when those before and after were sent."""

    room: str
    sender: str
    numbers: range
    after: float
    before: float

    def is_in(self, gap: Gap) -> bool:
        """Whether they may have been sent in the gap."""
        return (
            self.room in gap.rooms
            and gap.since <= self.before + PUBLISH_TIMEOUT
            and self.after <= gap.until
        )


@dataclass
class Sender:
    """Who says something, to which rooms how much of it."""

    name: str
    since: float
    """When it began."""
    is_sure: bool = False
    """Whether it is known what became of all that it said: it was answered after the last of it."""
    said: Counter[str] = field(default_factory=Counter)
    refused: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def next_to(self, room: str) -> int:
        """The number of its next message to a room."""
        number = self.said[room]
        self.said[room] += 1
        return number


class Hearer:
    """One stay of a client: the rooms that it is in, and what it hears there."""

    def __init__(self, name: str, worker: int) -> None:
        self.name = name
        self.worker = worker
        self.is_here = True
        """Whether it is in its rooms still, to hear what is told last."""
        self.rooms: dict[str, float | None] = {}
        """Its rooms, and since when it is sure to hear all; `None` while it joins."""
        self.gaps: list[Gap] = []
        self.missing: list[Missing] = []
        self._left: dict[str, float] = {}
        self._last: dict[tuple[str, str], tuple[int, float]] = {}

    def joins(self, *rooms: str) -> None:
        """It may hear of these rooms from now on."""
        self.rooms.update(dict.fromkeys(rooms))

    def joined(self, now: float, *rooms: str) -> None:
        """It has to hear all of these rooms from now on."""
        self.rooms.update(dict.fromkeys(rooms, now))

    def left(self, at: float, *rooms: str) -> None:
        """It hears nothing of these rooms that was sent later."""
        for room in rooms:
            if self.rooms.pop(room, None) is not None:
                self._left[room] = at

    def hear(self, sender: Sender, room: str, number: int, sent: float) -> str:
        """Take a message; returns what is wrong with it, in a word."""
        if room not in self.rooms and sent > self._left.get(room, 0.0):
            return "foreign"
        last, at = self._last.get((room, sender.name)) or (self._first(sender, room, number), sent)
        if number <= last:
            return "twice" if number == last else "out of order"
        if number > last + 1:
            after = min(at, sender.since) if last < 0 else at
            self.missing.append(
                Missing(room, sender.name, range(last + 1, number), after, before=sent)
            )
        self._last[room, sender.name] = (number, sent)
        return ""

    def owed(self, sender: Sender, now: float) -> Iterator[Missing]:
        """What it should have heard of a sender in the end, in the rooms that it is in."""
        for room, said in sender.said.items():
            if room in self.rooms:
                first = self._first(sender, room, said), sender.since
                last, at = self._last.get((room, sender.name), first)
                if last + 1 < said:
                    yield Missing(room, sender.name, range(last + 1, said), at, now)

    def _first(self, sender: Sender, room: str, number: int) -> int:
        """The number before the first that it is sure to hear; `number` is one that there is."""
        joined = self.rooms.get(room)
        return -1 if joined is not None and joined < sender.since else number - 1


class Ledger:
    """All senders and hearers of one cycle, and the faults of all cycles."""

    def __init__(self) -> None:
        self.senders: dict[str, Sender] = {}
        self.hearers: list[Hearer] = []
        self.counts: Counter[str] = Counter()
        """How much of what there was."""
        self.faults: Counter[str] = Counter()
        """How many of which kind."""
        self.told: list[str] = []
        """The first of them in words."""

    def sender(self, name: str, now: float) -> Sender:
        sender = self.senders[name] = Sender(name, now)
        return sender

    def hearer(self, name: str, worker: int) -> Hearer:
        self.hearers.append(Hearer(name, worker))
        return self.hearers[-1]

    def heard(self, hearer: Hearer, text: str) -> bool:
        """Take what a client was sent, if it is a message, a gap or a refusal."""
        kind, _, rest = text.partition(" ")
        if kind == "m":
            room, name, number, sent = rest.split(" ")
            sender = self.senders.get(name)
            if sender is None:  # of an earlier cycle, and cut off: it may have said more
                self.counts["heard late"] += 1
                return True
            self.counts["heard"] += 1
            if wrong := hearer.hear(sender, room, int(number), float(sent)):
                self.fault(wrong, f"{hearer.name} heard {name} say {number} to {room}")
        elif kind == "gap":
            since, until, *rooms = rest.split(" ")
            self.counts["gaps told"] += 1
            hearer.gaps.append(Gap(float(since), float(until), frozenset(rooms)))
        elif kind == "refused":
            room, number = rest.split(" ")
            self.counts["refused"] += 1
            self.senders[hearer.name].refused[room].add(int(number))
        else:
            return False
        return True

    def losses(self, now: float) -> list[tuple[Hearer, Missing]]:
        """What was missed without an excuse, by those who are here and those who have left."""
        of_worker: dict[int, set[Gap]] = defaultdict(set)
        for hearer in self.hearers:
            of_worker[hearer.worker].update(hearer.gaps)
        losses = []
        for hearer in self.hearers:
            missing = list(hearer.missing)
            if hearer.is_here:
                for sender in self.senders.values():
                    missing += hearer.owed(sender, now)
            gaps = hearer.gaps if hearer.is_here else of_worker[hearer.worker]
            for some in missing:
                sender = self.senders[some.sender]
                if not sender.is_sure or sender.refused[some.room].issuperset(some.numbers):
                    continue
                if not any(some.is_in(gap) for gap in gaps):
                    losses.append((hearer, some))
        return losses

    def close(self, now: float) -> None:
        """Judge what is left of a cycle, and forget it."""
        for hearer, some in self.losses(now):
            first, last = some.numbers[0], some.numbers[-1]
            self.fault(
                "lost",
                f"{hearer.name} on worker {hearer.worker} missed what {some.sender} said to "
                f"{some.room}: {first} to {last}, sent from {some.after:.3f} to {some.before:.3f}; "
                f"gaps: {[(round(g.since, 3), round(g.until, 3)) for g in hearer.gaps]}",
            )
        for sender in self.senders.values():
            self.counts["said"] += sender.said.total()
        for hearer in self.hearers:
            self.counts["missed in a gap"] += sum(len(some.numbers) for some in hearer.missing)
        self.senders, self.hearers = {}, []

    def fault(self, kind: str, words: str) -> None:
        """Something is wrong."""
        self.faults[kind] += 1
        if len(self.told) < MAX_TOLD:
            self.told.append(f"{kind}: {words}")
