"""The part of a namespace on this worker that is about its recoverable rooms.

Sending, receiving, joining and listening come here for them; for other rooms nothing is done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from weakref import WeakMethod

from fastapi_rooms.adapters.base import Outage
from fastapi_rooms.adapters.history import Retention, SupportsHistory, retention_of
from fastapi_rooms.core.membership import Membership
from fastapi_rooms.core.patterns import Patterns
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.position import Position, tag_of
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import AdapterUnavailable, NotStarted, UsageError
from fastapi_rooms.history.logs import RoomLogs
from fastapi_rooms.history.messages import Placed
from fastapi_rooms.transports import Transport
from fastapi_rooms.types import Room, Sid
from fastapi_rooms.wire import client_framing
from fastapi_rooms.wire.envelope import Broadcast
from fastapi_rooms.wire.kept import InPlace
from fastapi_rooms.worker.events import Gap
from fastapi_rooms.worker.framed_transport import FramedTransport
from fastapi_rooms.worker.framing import FramedClients, put_in_place
from fastapi_rooms.worker.listener import Listener, Listeners
from fastapi_rooms.worker.peer_run import PeerRun
from fastapi_rooms.worker.replay import Replay, cost_of
from fastapi_rooms.worker.resume import Resume
from fastapi_rooms.worker.room_message import RoomMessage, message_of
from fastapi_rooms.worker.runtime import Runtime
from fastapi_rooms.worker.socket import Socket

logger = logging.getLogger("fastapi_rooms")


class Recovery:
    """The recoverable rooms of one namespace on this worker. It is their logs' `HistoryHost`."""

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        members: Membership[Transport],
        listeners: Listeners,
        patterns: Patterns[Retention],
        tell: WeakMethod[Callable[[Gap], None]],
    ) -> None:
        self.name = name
        self._runtime = runtime
        self._members = members
        self._listeners = listeners
        self.patterns = patterns
        """Which rooms remember, and how much."""
        self._tell = tell
        self._logs: RoomLogs | None = None
        self.framed = FramedClients(members)
        """The clients that speak the framing."""

    def __bool__(self) -> bool:
        """Whether any rooms remember."""
        return bool(self.patterns)

    @property
    def logs(self) -> RoomLogs:
        """The logs of the present run."""
        if self._logs is None:
            runtime = self._runtime
            _ = runtime.run
            assert isinstance(runtime.adapter, SupportsHistory)  # else it had not started
            self._logs = RoomLogs(self, runtime.adapter, runtime.channels, self.patterns)
        return self._logs

    def keeps(self, room: Room) -> bool:
        """Whether a room remembers."""
        return self.patterns.find(room) is not None

    def adopt(self, patterns: Patterns[Retention]) -> None:
        """Go by other patterns: those of another application, as it has declared them."""
        members, sids = self._members, self._members.sids
        rooms = [room for room in {*members.rooms, *self._listeners.rooms} if room not in sids]
        patterns.keep(self.patterns, rooms)
        before, self.patterns = self.patterns, patterns
        new = [room for room in rooms if before.find(room) is None and self.keeps(room)]
        for sid in chain.from_iterable(members.rooms.get(room, ()) for room in new):
            if (transport := members.get(sid)) is not None:
                transport.never_drop()  # as in any room that remembers
        if new or self._logs is not None:
            self.logs.adopt(patterns, new)

    # Out.

    def takes(self, target: Target) -> bool:
        """Whether a message to this target is to be kept; `UsageError` as of `retention_of`."""
        return retention_of(self.patterns, target) is not None

    async def send(self, target: Target, payload: Payload) -> None:
        """Have a message numbered, kept, and sent to everyone. Raises `AdapterUnavailable`.

        Socket.IO's clients get it when it is kept, and as any other: they have no positions.
        """
        run, addressed = self._runtime.run, target
        packed = run.packed(self.name, payload) if isinstance(run, PeerRun) else None
        if target.except_:
            target = self.framed.with_aliases(target)
        sequence = run.next_sequence()
        message = Broadcast(run.node, sequence, self.name, target, payload)
        try:
            await self.logs.append(message, tag_of(run.node, sequence))
            if isinstance(run, PeerRun) and packed is not None:
                await run.publish_after_keeping(self.name, addressed, packed)
        except AdapterUnavailable as error:
            raise self._runtime.own(error) from error.__cause__

    # In.

    def received(self, placed: InPlace, message: Broadcast) -> bool:
        """A message came from the carrier, in its place; false if there is no room for it now.

        If its room does not remember here, as far as this version of the application knows, it is
        delivered like any other.
        """
        rooms = message.target.rooms
        if rooms is not None and len(rooms) == 1 and self.keeps(rooms[0]):
            if self._logs is not None or self.is_heard(rooms[0]):  # else it is too late, or nothing
                self.logs.received(placed, message)
            return True
        if not self._runtime.running.fanout.receive(
            self._members, message.target, message.payload, volatile=False
        ):
            return False
        position = str(placed.position) if rooms is not None and len(rooms) == 1 else None
        self._listeners.offer(message.target, message.payload, position)
        return True

    def received_plain(self, target: Target) -> None:
        """A message is being delivered that has no place: count it if it should have one."""
        for room in target.rooms or ():
            if self.keeps(room):
                run = self._runtime.running
                run.unkept += 1
                if run.unkept == 1:
                    logger.warning(
                        "A message for %r came in without a place in its history: it is delivered, "
                        "but cannot be recovered. Whoever sent it does not know of the history: "
                        "a worker of another version, or an emitter without the rights. More of "
                        "them are counted in health.unkept.",
                        room,
                    )
                return

    def outage(self, outage: Outage) -> list[Collection[Room]]:
        """Messages may have been missed. Rooms that remember read them. Returns all rooms."""
        self._runtime.declare_again()
        if self.patterns and self._logs is not None:
            self._logs.doubt(outage.channels)
        return [self._members.rooms, self._listeners.rooms]

    def is_heard(self, room: Room) -> bool:
        """Whether a room has a member or listener here."""
        return room in self._members.rooms or room in self._listeners.rooms

    def deliver(self, placed: Placed) -> bool:
        """Deliver a message to the members and listeners here, if there is room for it."""
        target, payload = placed.message.target, placed.message.payload
        try:
            fanout = self._runtime.running.fanout
        except NotStarted:
            return True
        room = self._framed_room(target)
        if room is not None:
            put_in_place(room, str(placed.position), payload)
        if not fanout.receive(self._members, target, payload, volatile=False):
            return False
        assert target.rooms is not None
        before = self.logs.position(target.rooms[0])
        fanout.mark((self.name, target.rooms[0]), before)
        if room is not None and (left_out := self.framed.left_out(target)):
            skip = client_framing.position(room, str(placed.position))
            fanout.receive(self._members, Target(left_out), skip, volatile=False)
        if self._listeners:
            self._listeners.offer(target, payload, str(placed.position))
        return True

    def _framed_room(self, target: Target) -> Room | None:
        """The room that a message is for, if framed clients are to be told of its place there."""
        if not self.framed or target.rooms is None or len(target.rooms) != 1:
            return None
        (room,) = target.rooms
        return room if self.logs.position(room) is not None else None

    def left(self, room: Room, sids: Iterable[Sid]) -> None:
        """Sockets have left a room: those that speak the framing are told, behind its messages."""
        if self.framed and self.keeps(room) and (told := self.framed.among(sids)):
            fanout, left = self._runtime.running.fanout, client_framing.left(room)
            fanout.send(self._members, Target(told), left, volatile=False)

    async def written(self) -> None:
        """Return when what has been delivered before is with those it is for."""
        await self._runtime.running.fanout.written()

    def healed(self) -> None:
        """Messages that were missed are there."""
        self._runtime.running.healed += 1

    def lost(self, room: Room) -> None:
        """Messages to a room are lost for good."""
        if not self.is_heard(room):
            return  # nobody here has missed anything; who comes is told about their own position
        self._runtime.running.unhealed += 1
        self._tell_lost(room)
        tell = self._tell()
        if tell is not None:
            now = time.time()
            tell(Gap(now, now, (room,)))

    def _tell_lost(self, room: Room) -> None:
        """Tell the members that speak the framing, between what came before and what follows."""
        told = self.framed.among(self._members.rooms.get(room, ())) if self.framed else ()
        if told and (position := self.logs.position(room)) is not None:
            fanout, target = self._runtime.running.fanout, Target(told)
            for said in (
                client_framing.joined(room, recovered=False),
                client_framing.position(room, str(position)),
            ):
                fanout.send(self._members, target, said, volatile=False)

    # Joins.

    def recoverable(self, rooms: Sequence[Room], resume: Resume) -> tuple[Room, ...]:
        """Those among rooms that remember.

        Raises `UsageError` where something is wanted of a plain room, or of several.
        """
        recoverable = tuple(filter(self.keeps, rooms))
        if resume.is_asked and (len(rooms) != 1 or not recoverable):
            raise UsageError(
                "`since` and `recent` are for one room that remembers: declare it before the "
                'start, as `rooms.history("chat-*")`, and join it by itself.'
            )
        return recoverable

    async def open(self, recoverable: Sequence[Room], resume: Resume) -> None:
        """Know rooms up to their ends; `close` is to follow. Raises `AdapterUnavailable`."""
        for index, room in enumerate(recoverable):
            since = Position.parse(resume.since_of(room))
            try:
                await self._runtime.attribute(self.logs.open(room, since))
            except BaseException:
                self.close(recoverable[:index])
                raise

    def close(self, opened: Sequence[Room]) -> None:
        """Who was about to join these has joined, or given up."""
        if self._logs is not None:
            for room in opened:
                self._logs.close(room)

    def replay(
        self, room: Room, resume: Resume, limit: int, own: AbstractSet[Room]
    ) -> tuple[bool | None, list[Placed]]:
        """What somebody who joins an opened room is to get, in at most so many bytes.

        Of what was missed it is all or nothing; of the recent messages, as many as fit. What was
        not for them is left out; `own` are their rooms, their sid among them.
        """
        since = resume.since_of(room)
        if since is not None:
            position = Position.parse(since)
            missed = None if position is None else self.missed(room, position, own)
            if missed is not None and sum(map(cost_of, missed)) <= limit:
                return True, missed
        recovered = None if since is None else False
        recent = self.logs.recent(room, resume.recent) if resume.recent else []
        begin, left = len(recent), limit
        while begin and (left := left - cost_of(recent[begin - 1])) >= 0:
            begin -= 1
        return recovered, [placed for placed in recent[begin:] if _is_for(placed, own)]

    def missed(self, room: Room, since: Position, own: AbstractSet[Room]) -> list[Placed] | None:
        """What was sent after a position to somebody; `None` if that cannot be known any more."""
        missed = self.logs.since(room, since)
        return None if missed is None else [placed for placed in missed if _is_for(placed, own)]

    def replays(
        self, socket: Socket, transport: Transport, rooms: Sequence[Room], resume: Resume
    ) -> list[Replay]:
        """What a socket that is about to be put into opened rooms is to be sent before."""
        own = {*self._members.sids[socket.sid], *rooms}
        if isinstance(transport, FramedTransport):
            own.add(transport.alias)
        return [Replay(self, room, transport, resume, own) for room in rooms]

    def replay_to(self, listener: Listener, opened: Sequence[Room], resume: Resume) -> None:
        """Have a new listener hear what it asked for, and know where it begins."""
        if len(listener.rooms) > 1 or not opened:
            return
        (room,) = opened
        policy = self._runtime.settings.outbox
        listener.recovered, messages = self.replay(room, resume, policy.max_bytes, {room})
        if listener.recovered:
            listener.begin_at(resume.since)
        elif not messages:
            listener.begin_at(self.positions((room,)).get(room))
        for placed in messages:
            message = placed.message
            listener.offer(message.target, message.payload, position=str(placed.position))

    def positions(self, rooms: Sequence[Room]) -> dict[Room, str]:
        """The positions in rooms that somebody here is in."""
        logs = self._logs
        found = {} if logs is None else {room: logs.position(room) for room in rooms}
        return {room: str(position) for room, position in found.items() if position is not None}

    def written_position(self, room: Room) -> str | None:
        """Up to where the members here have been written to, in a room that somebody is in.

        What waits to be written to them is not theirs yet: a position that is sent to one of them
        may overtake it.
        """
        if self._logs is None:
            return None
        written = self._runtime.running.fanout.marked((self.name, room))
        return self.positions((room,)).get(room) if written is None else str(written)

    # For those without a part in the room.

    async def read(self, room: Room, limit: int) -> list[RoomMessage]:
        """The last messages of a room. Raises `UsageError` or `AdapterUnavailable`."""
        self._check(room)
        found = await self._runtime.attribute(self.logs.read(room))
        codec = self._runtime.settings.json
        return [
            message_of(room, placed.message.payload, codec, str(placed.position))
            for placed in found[max(len(found) - limit, 0) :]
        ]

    async def top(self, room: Room) -> str:
        """The carrier's position in a room. Raises `UsageError` or `AdapterUnavailable`."""
        self._check(room)
        return str(await self._runtime.attribute(self.logs.top(room)))

    async def clear(self, room: Room) -> None:
        """Have the carrier forget a room. Raises `UsageError` or `AdapterUnavailable`."""
        self._check(room)
        await self._runtime.attribute(self.logs.forget(room))

    def forgotten(self, room: Room) -> None:
        """Another worker has had the carrier forget a room."""
        if self._logs is not None:
            self._logs.forgotten(room)

    def _check(self, room: Room) -> None:
        if not self.keeps(room):
            raise UsageError(
                f"{room!r} has no history. Declare it before the start: "
                f"`rooms.history({room!r})`, or a pattern that matches it."
            )

    # Its life.

    async def stop(self, timeout: float) -> None:
        """The run is over."""
        logs, self._logs = self._logs, None
        if logs is not None:
            await logs.stop(timeout)

    def forget(self) -> None:
        """The event loop is gone."""
        self._logs = None
        self.framed.clear()


def _is_for(placed: Placed, own: AbstractSet[Room]) -> bool:
    return own.isdisjoint(placed.message.target.except_)
