"""What an adapter can do for rooms that know who is present: who is where, and who came and went.

A user is present in a room while one of their sockets is in it, and for a grace after the last one
has left. Sockets belong to workers, and workers have leases: who does not renew theirs is declared
dead, and others take its sockets out.

The guarantees, which `fastapi_rooms.testing.suite.PresenceSuite` checks against any implementation:

* **One step.** A room changes and its subscribers are told at once, framed as
  `fastapi_rooms/wire/presence.py` has it. Each event is told once, whoever makes it, and however
  many try to; of one user joins and leaves alternate.
* **One count.** The events of a room are numbered without a hole, also after everyone has left, as
  long as the carrier loses nothing. Where it has, the numbers jump, and never fall below what
  whoever changes the room knows of.
* **Repeatable.** What is asked again, after a broken connection say, changes nothing, and tells
  nothing.
* **Fenced.** Who was declared dead changes no room that has been reaped before it has a new lease.
* **Honest.** What the carrier has lost can be found out by `sums`, and is repaired by `sync`,
  without telling anybody what they were told before.
* **Nothing left.** A room in which nobody is present takes no memory; where a worker was reaped,
  an hour later.

Of one room, a worker makes one change at a time. The clock is the carrier's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from fastapi_rooms.adapters.history import RoomKey
from fastapi_rooms.core.presence import (
    Changed,
    Entry,
    Lease,
    Sums,
    UserEvent,
    checksum_of,
    sums_of,
)
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Sid
from fastapi_rooms.wire import presence as event

__all__ = [
    "Beat",
    "Changed",
    "Entry",
    "Lease",
    "Page",
    "RoomChange",
    "RoomKey",
    "Sums",
    "SupportsPresence",
    "Terms",
    "UserEvent",
    "checksum_of",
    "event",
    "sums_of",
]


class Terms(NamedTuple):
    """What a room's changes depend on."""

    grace: float
    """Seconds that a user stays present after their last socket has left; 0 for none."""
    floor: int = 0
    """The highest version of the room that the carrier has ever answered the caller. A count that
    begins anew begins above it. It does where there is none, and where the one that there is has
    fallen below this, as the carrier has lost writes."""
    heard: int = 0
    """The highest that came on the room's channel, where anybody may have written it: it counts as
    `floor` does unless it is above where a count would begin now."""
    repair: float = 0.0
    """Seconds in which workers have put in again what a carrier has lost. After a count was found
    to have fallen, the grace is no shorter than what is left of them: who leaves may be on a worker
    that has still to do so."""

    def known(self, start: int) -> int:
        """The version below which a count has fallen; one would begin at `start` now."""
        return max(self.floor, self.heard if self.heard <= start else 0)


class RoomChange(NamedTuple):
    """What is to become of one room of several."""

    room: RoomKey
    terms: Terms
    enter: Sequence[Entry] = ()
    leave: Sequence[Sid] = ()


class Beat(NamedTuple):
    """The answer to a worker's sign of life."""

    lease: Lease
    """Its lease from now on. With another number than before it had been declared dead, or the
    carrier has lost the old one: it has to `sync` every room that it has sockets in."""
    overdue: Sequence[Lease]
    """Those that are declared dead, to be reaped and buried: at most 100."""
    is_late: bool = False
    """Whether the lease had run down to less than half of its time, or was gone: this worker was
    held up, or the carrier is as it was some time ago. The leases of others may have run down just
    so, and nobody is declared dead."""


class Page(NamedTuple):
    """A part of who is present in a room."""

    version: int
    """That of the room before this part was read; 0 if nobody is present. All that was told up to
    the version of the first page is in the pages: later events complete them."""
    users: Sequence[str]
    """Who is present, those in their grace included. Pages may name somebody twice."""
    entries: Sequence[Entry]
    """The sockets of users, not only of those that this page names."""
    cursor: int
    """Gives the next page; 0 after the last."""


@runtime_checkable
class SupportsPresence(Protocol):
    """An adapter whose carrier knows who is present.

    Rooms are named `namespace#room`, in UTF-8. All of it raises `AdapterUnavailable` if the carrier
    does not answer in time, or refuses; it may have been done all the same. What is known to have
    made events is answered, with the `failure`: only who made them can see to them.
    """

    def relinks(self) -> int:
        """How often a connection over which it asks was opened anew, or left for another's.

        What the carrier was told over the one before, it may have lost.
        """

    # Leases.

    async def beat(self, lease: Lease, ttl: float, *, reaps: bool) -> Beat:
        """Renew a worker's lease for `ttl` seconds, or give it one: number 0 is for its first.

        With a `ttl` of 0 it is given back, and others are to reap it: a worker that stops leaves
        its rooms to them so.

        Those that were given back are declared dead, and with `reaps` the others whose leases have
        ended: they get a new number when they come back. Ask for it only after being connected for
        as long as leases last, as others could not renew theirs either while the carrier was away.
        Whoever is late waits for as long again.
        """

    async def rooms_of(self, lease: Lease) -> list[bytes]:
        """The names of the rooms that somebody has to see to if the worker dies.

        That is where it has sockets, and where there were users in their grace when it last left,
        was reaped, or changed the room by nothing.
        """

    async def reap(self, room: RoomKey, lease: Lease, terms: Terms) -> Changed:
        """Fence a worker that was declared dead off from a room, and take its sockets out.

        Its users have their grace as others do. Until that is over the room stays in its
        `rooms_of`: whoever is to see to them changes the room by nothing, and buries the dead only
        then. So there is always a worker by which the room is found, whoever dies next. Any number
        of workers may do it at once. If the dead one has come back under a newer lease and has been
        in the room since, nothing is done, and the answer is `fenced`.
        """

    async def bury(self, lease: Lease) -> None:
        """Forget a lease: of one that was declared dead and whose rooms are seen to, or one's own.

        A worker that stops buries itself if nothing is in its `rooms_of`. Else it gives its lease
        back to be reaped by others, as somebody has to see to the users in their grace.
        """

    # Rooms.

    async def change(
        self,
        room: RoomKey,
        lease: Lease,
        terms: Terms,
        *,
        enter: Sequence[Entry] = (),
        leave: Sequence[Sid] = (),
        quiet: bool = False,
    ) -> Changed:
        """Have sockets of a worker leave and enter a room: first leave, then enter.

        Who was in already, or was not, does not count. One that is in as another user is so no
        more. With `quiet` no joins are told, as when what the carrier has lost is put in again;
        except where the worker had been declared dead, as others were told then that its users
        left.

        Whoever changes a room by nothing sees to the users who are in their grace: the room is one
        of its `rooms_of`. A worker none of whose sockets are left does so once more when
        `next_leave` has come: then it is none of them any more.
        """

    async def change_rooms(
        self,
        lease: Lease,
        changes: Sequence[RoomChange],
        done: Callable[[int, Changed | AdapterUnavailable], None],
    ) -> None:
        """Change different rooms, each as by `change`: very many cost less so.

        `done` is called once for each, with its place among them, as soon as it is changed or what
        `change` raises is known. What leads to a room, which is in `rooms_of_user`, may follow: all
        of it is there when this returns. What of that could not be written makes a room that is not
        whole in its `sums`.
        """

    async def sync(
        self,
        room: RoomKey,
        lease: Lease,
        terms: Terms,
        entries: Sequence[Entry],
        *,
        quiet: bool = True,
    ) -> Changed:
        """Have exactly these sockets of a worker in a room, and repair what is made of it.

        For rooms whose `sums` differ from the worker's own, for all after a new lease, and for
        each every few hours: what nobody has touched for a day is forgotten.
        """

    async def sums(self, lease: Lease, rooms: Sequence[RoomKey]) -> list[Sums]:
        """What each room has of a worker, to be compared with its own; touches the rooms."""

    async def sweep(self, room: RoomKey, terms: Terms) -> Changed:
        """Have those leave whose grace is over, at most 100: `next_leave` says when to ask again.

        Every change does that, too.
        """

    # Questions.

    async def present(self, room: RoomKey, cursor: int = 0) -> Page:
        """A part of who is present: some hundred sockets and users, from `cursor` on."""

    async def count(self, room: RoomKey) -> int:
        """How many users are present."""

    async def is_present(self, room: RoomKey, user: str) -> bool:
        """Whether a user is present."""

    async def rooms_of_user(self, namespace: str, user: str) -> list[str]:
        """The rooms of a namespace in which a user is present, in no order."""
