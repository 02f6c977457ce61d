"""The part of a namespace on this worker that is about who is present.

Sockets that join and leave come here; where no room knows who is present, nothing is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING
from weakref import ref

from fastapi_rooms.adapters.presence import Entry, RoomKey, SupportsPresence, UserEvent
from fastapi_rooms.core.event_versions import EventVersions
from fastapi_rooms.core.patterns import Patterns
from fastapi_rooms.core.recent_events import RecentEvents
from fastapi_rooms.errors import AdapterUnavailable, UsageError
from fastapi_rooms.operators.present import Present, PresentPages
from fastapi_rooms.presence.host import Name
from fastapi_rooms.types import Room, Sid
from fastapi_rooms.worker.entering import Entering
from fastapi_rooms.worker.presence import PresenceEvent
from fastapi_rooms.worker.presence_rules import PresenceRule
from fastapi_rooms.worker.runtime import Runtime
from fastapi_rooms.worker.socket import Socket

if TYPE_CHECKING:
    from fastapi_rooms.worker.local_namespace import LocalNamespace

KEPT = 10.0
"""Seconds, at least, from the last leave of a worker's members until it forgets of which events of
the room handlers were told: what comes by two ways may come by one of them so much later."""


class Presences:
    """The rooms of one namespace that know who is present, on this worker."""

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        rules: Patterns[PresenceRule],
        here: ref[LocalNamespace],
    ) -> None:
        self._name = name
        self._runtime = runtime
        self._rules = rules
        self._here = here
        self._versions = EventVersions()  # of the events that handlers were told of
        self._recent = RecentEvents()  # the last of these
        self._next_turn: asyncio.TimerHandle | None = None  # of what is kept of rooms
        self._entering: dict[tuple[Room, Sid], int] = {}  # how often: joins that are under way
        self._heard: dict[Room, int] = {}  # by sockets that edges hold

    def __bool__(self) -> bool:
        """Whether any rooms know who is present."""
        return bool(self._rules)

    def rule_of(self, room: Room) -> PresenceRule | None:
        """What is declared for a room."""
        return self._rules.find(room)

    def knows(self, room: Room) -> bool:
        """Whether a room knows who is present."""
        return self._rules.find(room) is not None

    def adopt(self, rules: Patterns[PresenceRule], rooms: Iterable[Room]) -> None:
        """Go by other rules: those of another application, as it has declared them.

        Who is in one of `rooms` already, by rules that are gone, stays present.
        """
        rules.keep(self._rules, rooms)
        self._rules = rules

    # Joining and leaving.

    def enter(self, socket: Socket, rooms: Iterable[Room]) -> Entering | None:
        """A socket is about to join rooms; `None` if that is nothing to anybody.

        Raises `UsageError` if it is not known who it is, or what its `user` function raises.
        """
        entries = [(room, self._entry(rule, socket, room)) for room, rule in self._rules_of(rooms)]
        return self._enter([(room, [entry]) for room, entry in entries if entry is not None])

    def enter_crowd(
        self, sockets: Sequence[Socket], rooms: Iterable[Room]
    ) -> tuple[Sequence[Socket], Entering | None, Exception | None]:
        """Many are about to join rooms: those of whom it is known who they are.

        Returns them, and what the first of the others raised.
        """
        rules = self._rules_of(rooms)
        if not rules:
            return sockets, None, None
        known: list[Socket] = []
        entries: list[tuple[Room, list[Entry]]] = [(room, []) for room, _ in rules]
        first: Exception | None = None
        for socket in sockets:
            try:
                own = [self._entry(rule, socket, room) for room, rule in rules]
            except Exception as error:  # noqa: BLE001 -- whoever asked is told, the others join
                first = first or error
                continue
            known.append(socket)
            for (_, some), entry in zip(entries, own, strict=True):
                if entry is not None:
                    some.append(entry)
        return known, self._enter([each for each in entries if each[1]]), first

    async def renew(
        self, socket: Socket, rooms: Iterable[Room], members: Callable[[Room], Collection[Sid]]
    ) -> None:
        """A socket that is in rooms is somebody else there, perhaps, or is somebody since now.

        Raises what `enter` does, and `AdapterUnavailable`.
        """
        entries = [(room, self._entry(rule, socket, room)) for room, rule in self._rules_of(rooms)]
        keeper = self._runtime.presence.keeper
        entering = self._enter(
            [
                (room, [entry])
                for room, entry in entries
                if entry and not (keeper and keeper.has(Name(self._name, room), entry))
            ]
        )
        if entering is not None:
            try:
                await entering.confirmed()
            finally:
                entering.end(members)

    def _rules_of(self, rooms: Iterable[Room]) -> list[tuple[Room, PresenceRule]]:
        if not self._rules:
            return []
        return [(room, rule) for room in rooms if (rule := self._rules.find(room)) is not None]

    def _entry(self, rule: PresenceRule, socket: Socket, room: Room) -> Entry | None:
        edge, user = self._runtime.presence.edge, None
        if edge is not None and edge.holds(socket):
            user = edge.user_of(socket, room)
        if user is None:
            if rule.is_adopted:
                return None  # the application of the socket has declared nothing
            user = rule.user_of(socket)
        return Entry(socket.sid, user)

    def _enter(self, entries: Sequence[tuple[Room, Sequence[Entry]]]) -> Entering | None:
        if not entries:
            return None
        keeper = self._runtime.presence.running
        told = [keeper.enter(Name(self._name, room), some) for room, some in entries]
        if (edge := self._runtime.presence.edge) is not None:
            for room, some in entries:
                edge.entering(Name(self._name, room), some)
        until = asyncio.get_running_loop().time() + self._runtime.settings.join_timeout
        return Entering(self, self._entering, entries, told, until)

    async def wait(self, told: Sequence[asyncio.Future[None]], until: float) -> None:
        """Wait until the carrier knows; for as long as a join may take."""
        late = [done for done in told if not done.done()]  # none, if it took longer to subscribe
        if len(late) == 1:
            await _until(late[0], until)
        elif late:
            left = max(until - asyncio.get_running_loop().time(), 0)
            await asyncio.wait(late, timeout=left)
        if not all(done.done() for done in late):
            timeout = self._runtime.settings.join_timeout
            raise self._runtime.own(
                AdapterUnavailable(f"It could not be told in {timeout:g} s who is present.")
            )
        for done in told:
            if done.cancelled():
                raise self._runtime.own(AdapterUnavailable("The manager was closed."))
            if (error := done.exception()) is not None:
                raise self._runtime.own(AdapterUnavailable(str(error))) from error

    def left(self, room: Room, sids: Iterable[Sid]) -> None:
        """Sockets have left a room; those who are on their way into it are as good as there."""
        keeper = self._runtime.presence.keeper
        if self._rules and keeper is not None and self.knows(room):
            name, entering = Name(self._name, room), self._entering
            keeper.leave(name, [sid for sid in sids if (room, sid) not in entering])
            self._left(room)

    def absent(self, room: Room, sids: Sequence[Sid]) -> None:
        """Sockets that were on their way into a room have not come in."""
        self.left(room, sids)
        if (edge := self._runtime.presence.edge) is not None:
            edge.absent(Name(self._name, room), sids)

    def exited(self, socket: Socket, rooms: Iterable[Room]) -> None:
        """A socket has left all of its rooms."""
        if self._rules:
            for room in rooms:
                self.left(room, (socket.sid,))

    def leave_entering(self) -> None:
        """The sockets that were on their way into rooms have all left, and will not come in."""
        if (keeper := self._runtime.presence.keeper) is not None:
            for room, sid in self._entering:
                keeper.leave(Name(self._name, room), (sid,))

    # Events.

    @property
    def has_handlers(self) -> bool:
        """Whether anybody is told of events."""
        return any(rule.has_handlers for _, rule in self._rules.items())

    def received(self, room: Room, event: UserEvent) -> None:
        """A user came or went: every worker that has members of the room is told."""
        rule = self._rules.find(room)
        if rule is None or not rule.has_handlers or not self._is_here(room):
            return
        if self._versions.heard(room, event.version) or self._recent.is_another(room, event):
            self._emit(rule, room, event)

    def heard(self, room: Room) -> int:
        """The highest version that handlers were told of; 0 for none."""
        return self._versions.last(room)

    def compared(self, room: Room, version: int) -> None:
        """The room has this version: an event that named a higher one was forged."""
        self._versions.compared(room, version)

    def made(
        self, room: Room, events: Sequence[UserEvent], once: AbstractSet[int] | None = None
    ) -> None:
        """Users came or went, by what this worker has done, or an edge for sockets of its.

        Of an edge's `once` are the versions of those that no other worker is to tell.
        """
        rule = self._rules.find(room)
        if rule is None or not rule.has_handlers:
            return
        due = set[int]()
        if self._is_here(room):
            due = self._versions.answered(room, [event.version for event in events])
        for event in events:
            if once is None or event.version in once:
                self._call(rule, room, event, one_worker=True)
            if event.version in due:
                due.discard(event.version)
                self._emit(rule, room, event)

    def _is_here(self, room: Room) -> bool:
        keeper = self._runtime.presence.keeper
        return room in self._heard or (keeper is not None and keeper.has(Name(self._name, room)))

    # Sockets that edges hold, and whose endpoints are here.

    def users_of(self, socket: Socket, rooms: Iterable[Room]) -> dict[str, str]:
        """Who a socket is, by the patterns of rooms that it is about to join.

        Raises `UsageError` if that is not known, or what its `user` function raises.
        """
        rules = {rule.pattern: rule for _, rule in self._rules_of(rooms)}
        return {pattern: rule.user_of(socket) for pattern, rule in rules.items()}

    def all_users_of(self, socket: Socket) -> dict[str, str]:
        """Who a socket is by each pattern; nobody, an empty text, where that is not known."""
        return {pattern: rule.user_or_nobody(socket) for pattern, rule in self._rules.items()}

    def tells(self, room: Room) -> bool:
        """Whether handlers here are told who comes and goes in a room, as it has members here."""
        rule = self._rules.find(room)
        return rule is not None and rule.is_told_everywhere

    def hear(self, room: Room) -> None:
        """An edge holds a socket that is in a room: it is to be taken for one that is here."""
        self._heard[room] = self._heard.get(room, 0) + 1

    def hear_no_more(self, room: Room) -> None:
        """It has left."""
        left = self._heard.pop(room, 0) - 1
        if left > 0:
            self._heard[room] = left
        else:
            self._left(room)

    def _left(self, room: Room) -> None:
        """Somebody has left a room: of one without members here, not everything is kept."""
        if not self._is_here(room):
            self._recent.left(room)
            if self._versions.left(room) and self._next_turn is None:
                self._set_turn()

    def _set_turn(self) -> None:
        self._next_turn = asyncio.get_running_loop().call_later(KEPT, self._turn)

    def _turn(self) -> None:
        self._next_turn = None
        keeper = self._runtime.presence.keeper
        if keeper is not None and self._versions.turn(
            lambda room: keeper.awaits_answer(Name(self._name, room))
        ):
            self._set_turn()

    def _emit(self, rule: PresenceRule, room: Room, event: UserEvent) -> None:
        self._recent.told(room, event)
        self._call(rule, room, event, one_worker=False)

    def _call(self, rule: PresenceRule, room: Room, event: UserEvent, *, one_worker: bool) -> None:
        handlers, here = rule.handlers(event.kind, one_worker=one_worker), self._here()
        if handlers and here is not None:
            about = PresenceEvent(event.kind, room, event.user, event.version)
            here.events.call(event.kind, handlers, about._in(here.namespace))

    # Questions.

    async def users(self, room: Room) -> Present:
        """Who is present in a room."""
        key, adapter = self._asked(room)
        pages, cursor = PresentPages(room), None
        while cursor != 0:
            page = await self._runtime.attribute(adapter.present(key, cursor or 0))
            pages.add(page.version, page.users, page.entries)
            cursor = page.cursor
        return pages.present

    async def count(self, room: Room) -> int:
        """How many users are present in a room."""
        key, adapter = self._asked(room)
        return await self._runtime.attribute(adapter.count(key))

    async def is_present(self, user: str, room: Room) -> bool:
        """Whether a user is present in a room."""
        key, adapter = self._asked(room)
        return await self._runtime.attribute(adapter.is_present(key, user))

    async def rooms_of(self, user: str, rule: PresenceRule) -> set[Room]:
        """The rooms of a rule in which a user is present."""
        found = await self._runtime.attribute(self._adapter.rooms_of_user(self._name, user))
        return {room for room in found if self._rules.find(room) is rule}

    def _asked(self, room: Room) -> tuple[RoomKey, SupportsPresence]:
        if not self.knows(room):
            raise UsageError(
                f"{room!r} does not know who is present. Declare it before the start: "
                f"`rooms.presence({room!r})`, or a pattern that matches it."
            )
        channel = self._runtime.channels.of_room(self._name, room)
        return RoomKey(Name(self._name, room).key, channel), self._adapter

    @property
    def _adapter(self) -> SupportsPresence:
        _ = self._runtime.run
        assert isinstance(self._runtime.adapter, SupportsPresence)  # else it had not started
        return self._runtime.adapter

    def forget(self) -> None:
        """The run is over."""
        self._versions.forget()
        self._recent.forget()
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
        self._heard.clear()
        self._entering = {}  # those whose end is still to come have the old one


async def _until(done: asyncio.Future[None], when: float) -> None:
    """Wait until one future is done, or for so long: `asyncio.wait` is twice as much work."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    timer = loop.call_at(when, _wake, waiter)

    def wake(_: object) -> None:
        _wake(waiter)

    done.add_done_callback(wake)
    try:
        await waiter
    finally:
        timer.cancel()
        done.remove_done_callback(wake)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
