"""Who is present in a room, and which workers live: the state, and its transitions.

This is the rule that carriers follow. Redis' script is tested against it, and the adapter within
one process uses it as it stands. Times are whole milliseconds, of whatever clock the caller has.

A user's first socket makes a join. The last one's leaving begins a grace; a leave is made when that
is over, and by nothing else, so that joins and leaves alternate. Every event has the next version.
A room in which nobody is present is forgotten; its count begins anew at `start`, which rises faster
than rooms can count, as the time in microseconds does. So does one that is below a version that is
`known`, as it has fallen: what keeps it has lost the last of what was done. Workers put that in
again; and as one of them may have the user who leaves another, the grace lasts until they have.

A worker that was declared dead has a fence in each room that it was taken out of: what it writes
under the old lease is refused there, and what it puts in again under a new one is told, as others
have been told that its users left. Fences are kept for an hour, also where nobody is left.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha1
from typing import Literal, NamedTuple

from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import NodeId, Sid

MAX_VERSION = 2**53
"""What Redis' Lua can count to exactly."""

FENCE_TTL = 3_600_000
"""Milliseconds that a fence is kept."""

SWEPT_AT_ONCE = 100
"""How many leave in one step as their grace is over."""

_MODULUS = 2**32
_SID_BYTES = 33  # of one that a worker has generated
_STALE_ENTRIES = 64


class Entry(NamedTuple):
    """A socket, and whose it is."""

    sid: Sid
    user: str


class Lease(NamedTuple):
    """What a worker lives by."""

    node: NodeId
    number: int
    """1 for a worker's first, and one more after each time that it was declared dead."""


class UserEvent(NamedTuple):
    """A user came or went."""

    kind: Literal["join", "leave"]
    user: str
    version: int
    """Its number among the events of the room."""


class Changed(NamedTuple):
    """What has become of a room."""

    fenced: bool
    """Whether nothing was done, as the lease is not valid here any more."""
    events: Sequence[UserEvent]
    """What this very step has made, and the room's subscribers are told."""
    version: int
    """The room's; 0 if nothing is known of it."""
    next_leave: float | None
    """Seconds until the next grace is over; `None` if nobody is in theirs."""
    failure: AdapterUnavailable | None = None
    """Why not all of it was done, although it has made events. Ask for the same again."""
    is_whole: bool = True
    """`False` if somebody is in their grace, and when it is over is lost: `sync` repairs that."""

    @property
    def left(self) -> list[str]:
        """The users who have left."""
        return [event.user for event in self.events if event.kind == "leave"]


class Sums(NamedTuple):
    """What a room has of one worker, to be compared with what that has itself."""

    lease: int
    """The number of the lease under which the worker wrote last; 0 if it has no sockets there."""
    sockets: int
    """How many."""
    checksum: int
    """Which ones, and whose."""
    version: int
    """The room's; 0 if nothing is known of it."""
    is_whole: bool
    """Whether nothing is lost of what is made of the truth."""


def checksum_of(entry: Entry) -> int:
    """What a socket and its user count in a checksum."""
    text = f"{entry.sid}\0{entry.user}".encode()
    return int.from_bytes(sha1(text, usedforsecurity=False).digest()[:4], "big")


def sums_of(entries: Iterable[Entry]) -> tuple[int, int]:
    """How many sockets these are, and their checksum."""
    sockets = total = 0
    for entry in entries:
        sockets += 1
        total += checksum_of(entry)
    return sockets, total % _MODULUS


class _Own:
    """What a room has of one worker."""

    __slots__ = ("checksum", "lease", "users")

    def __init__(self) -> None:
        self.lease = 0
        self.checksum = 0
        self.users: dict[Sid, str] = {}


class RoomPresence:
    """Who is present in one room."""

    def __init__(self) -> None:
        self.version = 0
        """The number of the last event; 0 before the first socket."""
        self._own: dict[NodeId, _Own] = {}
        self._tabs: dict[str, int] = {}  # a user's sockets; 0 in their grace
        self._held: dict[Sid, int] = {}  # by how many workers
        self._gone: dict[str, int] = {}  # when a user's grace is over
        self._due: list[tuple[int, str]] = []  # a heap of these, and of some that are so no more
        self._fences: dict[NodeId, tuple[int, int]] = {}  # the number of a lease, and when
        self._fell: int | None = None  # when the version was last found to have fallen

    # What it knows.

    @property
    def count(self) -> int:
        """How many users are present."""
        return len(self._tabs)

    @property
    def sids(self) -> Iterable[Sid]:
        """Every socket, once."""
        return self._held.keys()

    @property
    def users(self) -> Iterable[str]:
        """Every user who is present."""
        return self._tabs.keys()

    @property
    def entries(self) -> Iterator[Entry]:
        """Every worker's sockets."""
        for own in self._own.values():
            for sid, user in own.users.items():
                yield Entry(sid, user)

    def entries_of(self, node: NodeId) -> list[Entry]:
        """A worker's sockets."""
        own = self._own.get(node)
        return [] if own is None else [Entry(sid, user) for sid, user in own.users.items()]

    def is_present(self, user: str) -> bool:
        """Whether a user is present."""
        return user in self._tabs

    def sums(self, node: NodeId) -> Sums:
        """What it has of a worker."""
        own = self._own.get(node)
        if own is None:
            return Sums(0, 0, 0, self.version, is_whole=True)
        return Sums(own.lease, len(own.users), own.checksum, self.version, is_whole=True)

    def forgotten_at(self) -> int:
        """When all of it may be forgotten, if nothing is done meanwhile; -1 for not before."""
        if self._tabs:
            return -1
        return max((since + FENCE_TTL for _, since in self._fences.values()), default=0)

    # Transitions.

    def change(
        self,
        lease: Lease,
        now: int,
        *,
        grace: int,
        start: int,
        known: int = 0,
        repair: int = 0,
        enter: Sequence[Entry] = (),
        leave: Sequence[Sid] = (),
        quiet: bool = False,
    ) -> Changed:
        """Have sockets of a worker leave and enter, and those leave whose grace is over."""
        node, number = lease
        fence, own = self._fences.get(node), self._own.get(node)
        if (fence and fence[0] >= number) or (own and own.lease > number):
            return Changed(True, (), self.version, self._next_leave(now))
        events: list[UserEvent] = []
        self._count_on(now, start, known)
        end = self._end(now, grace, repair)
        for sid in leave:
            self._leave(node, sid, end, events)
        is_told = not quiet or fence is not None
        for entry in enter:
            self._enter(node, entry, end, events, is_told=is_told)
        if own := self._own.get(node):
            own.lease = number
        self._sweep(now, events)
        return self._changed(events, now)

    def reap(
        self,
        lease: Lease,
        now: int,
        *,
        grace: int,
        start: int,
        known: int = 0,
        repair: int = 0,
        leave: Sequence[Sid] = (),
    ) -> Changed:
        """Fence off a worker that was declared dead, and have sockets of it leave."""
        node, number = lease
        own = self._own.get(node)
        if own and own.lease > number:
            return Changed(True, (), self.version, self._next_leave(now))
        fenced = max(number, self._fences.get(node, (0, 0))[0])
        self._drop_old_fences(now)
        self._fences[node] = (fenced, now)
        events: list[UserEvent] = []
        self._count_on(now, start, known)
        end = self._end(now, grace, repair)
        for sid in leave:
            self._leave(node, sid, end, events)
        self._sweep(now, events)
        return self._changed(events, now)

    def sweep(self, now: int, *, start: int, known: int = 0) -> Changed:
        """Have those leave whose grace is over, some at once."""
        events: list[UserEvent] = []
        self._count_on(now, start, known)
        self._sweep(now, events)
        return self._changed(events, now)

    def _count_on(self, now: int, start: int, known: int) -> None:
        if self.version < max(known, 1):
            self._fell = now if self.version else None
            self.version = start

    def _end(self, now: int, grace: int, repair: int) -> int | None:
        """When the grace of who leaves now is over; `None` if they have none."""
        if self._fell is not None:
            grace = max(grace, min(self._fell, now) + repair - now)
        return now + grace if grace else None

    def _enter(
        self, node: NodeId, entry: Entry, end: int | None, events: list[UserEvent], *, is_told: bool
    ) -> None:
        sid, user = entry
        own = self._own.get(node)
        known = own.users.get(sid) if own else None
        if known == user:
            return
        if known is not None:
            self._leave(node, sid, end, events)
        own = self._own.setdefault(node, _Own())
        own.users[sid] = user
        own.checksum = (own.checksum + checksum_of(entry)) % _MODULUS
        self._held[sid] = self._held.get(sid, 0) + 1
        was_expected = self._gone.pop(user, None) is not None
        tabs = self._tabs.get(user)
        self._tabs[user] = (tabs or 0) + 1
        if tabs is None and not was_expected and is_told:
            self._tell("join", user, events)

    def _leave(self, node: NodeId, sid: Sid, end: int | None, events: list[UserEvent]) -> None:
        """A socket is gone; its user is so at `end`, or now, if it was the last one."""
        own = self._own.get(node)
        user = own.users.pop(sid, None) if own else None
        if own is None or user is None:
            return
        own.checksum = (own.checksum - checksum_of(Entry(sid, user))) % _MODULUS
        if not own.users:
            del self._own[node]
        self._held[sid] -= 1
        if not self._held[sid]:
            del self._held[sid]
        self._tabs[user] -= 1
        if self._tabs[user]:
            return
        if end is None:
            del self._tabs[user]
            self._tell("leave", user, events)
        else:
            self._gone[user] = end
            self._push(end, user)

    def _sweep(self, now: int, events: list[UserEvent]) -> None:
        for _ in range(SWEPT_AT_ONCE):
            first = self._first_due()
            if first is None or first[0] > now:
                return
            heapq.heappop(self._due)
            del self._gone[first[1]]
            self._tabs.pop(first[1], None)
            self._tell("leave", first[1], events)

    def _tell(self, kind: Literal["join", "leave"], user: str, events: list[UserEvent]) -> None:
        self.version += 1
        events.append(UserEvent(kind, user, self.version))

    def _changed(self, events: list[UserEvent], now: int) -> Changed:
        version = self.version
        if not self._tabs:
            self._fell = None
            self._drop_old_fences(now)
            if not self._fences:  # it is forgotten
                version, self.version = version if events else 0, 0
        return Changed(False, tuple(events), version, self._next_leave(now))

    def _drop_old_fences(self, now: int) -> None:
        old = now - FENCE_TTL
        self._fences = {node: fence for node, fence in self._fences.items() if fence[1] > old}

    # Whose grace is over next.

    def _next_leave(self, now: int) -> float | None:
        first = self._first_due()
        return None if first is None else max(first[0] - now, 0) / 1000

    def _first_due(self) -> tuple[int, str] | None:
        due = self._due
        while due and self._gone.get(due[0][1]) != due[0][0]:
            heapq.heappop(due)
        return due[0] if due else None

    def _push(self, end: int, user: str) -> None:
        heapq.heappush(self._due, (end, user))
        if len(self._due) > 2 * len(self._gone) + _STALE_ENTRIES:
            self._due = [(end, user) for user, end in self._gone.items()]
            heapq.heapify(self._due)


class Leases:
    """Which workers live, and which are to be reaped."""

    def __init__(self) -> None:
        self._ends: dict[Lease, int] = {}
        self._dead: set[Lease] = set()

    def __len__(self) -> int:
        return len(self._ends)

    def beat(self, lease: Lease, now: int, ttl: int) -> Lease:
        """A worker lives until `ttl` from now; returns its lease, a new one if this is void.

        With a `ttl` of 0 it gives its lease back: that has ended at 0, before any other.
        """
        node, number = lease
        if number == 0 or lease not in self._ends or lease in self._dead:
            number += 1
            while Lease(node, number) in self._dead:
                number += 1
        self._ends[Lease(node, number)] = now + ttl if ttl else 0
        return Lease(node, number)

    def is_late(self, lease: Lease, now: int, ttl: int) -> bool:
        """Whether a worker is about to renew a lease that has run down, or is gone."""
        if lease.number == 0:
            return False
        end = None if lease in self._dead else self._ends.get(lease)
        return end is None or end - now < ttl / 2

    def overdue(self, now: int, limit: int) -> list[Lease]:
        """Declare dead whose leases have ended, up to a limit with those who were so already."""
        ended = [lease for lease, end in self._ends.items() if end <= now]
        ended.sort(key=lambda lease: (self._ends[lease], lease))
        self._dead.update(ended[:limit])
        return ended[:limit]

    def bury(self, lease: Lease) -> None:
        """Forget a lease."""
        self._ends.pop(lease, None)
        self._dead.discard(lease)


def is_chosen(sid: Sid, node: NodeId) -> bool:
    """Whether an application chose a sid: two workers may hold it, as they have not made it."""
    return len(sid.encode()) != _SID_BYTES or not sid.startswith(f"{node}.")
