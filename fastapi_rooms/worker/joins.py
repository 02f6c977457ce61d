"""How sockets come into rooms: asked for, authorized, confirmed by the adapter, and put in.

Nothing stands still while handlers and the adapter are waited for. So what was checked before is
checked again in the turn of the event loop in which a socket is put in: that it is there still, and
in few enough rooms. And a leave that comes meanwhile counts, as it would a moment later: what the
socket has left, or was taken out of, since the join was asked for is not joined by it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import replace
from functools import partial

from starlette.websockets import WebSocketDisconnect

from fastapi_rooms.concurrency import parts_of
from fastapi_rooms.core.membership import Membership
from fastapi_rooms.errors import ShuttingDown, SocketClosed, TooManyRooms, UsageError
from fastapi_rooms.transports import Transport
from fastapi_rooms.types import Channel, Room
from fastapi_rooms.worker.authorization import Authorization
from fastapi_rooms.worker.crowds import Crowd, Crowds
from fastapi_rooms.worker.entering import Entering
from fastapi_rooms.worker.events import Events
from fastapi_rooms.worker.framed_transport import FramedTransport
from fastapi_rooms.worker.pending_joins import PendingJoin, PendingJoins
from fastapi_rooms.worker.presences import Presences
from fastapi_rooms.worker.recovery import Recovery
from fastapi_rooms.worker.replay import Replay, fits, joined_by, send_paced
from fastapi_rooms.worker.resume import Joined, Resume
from fastapi_rooms.worker.runtime import Runtime
from fastapi_rooms.worker.socket import Socket, has_left


class Joins:
    """Puts the sockets of a namespace on this worker into rooms."""

    def __init__(
        self,
        namespace: str,
        runtime: Runtime,
        members: Membership[Transport],
        events: Events,
        authorization: Authorization,
        recovery: Recovery,
        presences: Presences,
        is_in: Callable[[Socket], bool],
        crowds: Crowds,
    ) -> None:
        self._namespace = namespace
        self._runtime = runtime
        self._members = members
        self._events = events
        self._authorization = authorization
        self._recovery = recovery
        self._presences = presences
        self._is_in = is_in
        self._crowds = crowds
        self.pending = PendingJoins()
        """Those that are under way."""
        self.by_others: Callable[[Socket, tuple[Room, ...]], None] | None = None
        """Told of rooms that others had a socket join, in which it may have been already."""

    async def join(self, socket: Socket, rooms: tuple[Room, ...], resume: Resume) -> Joined:
        """Put a socket into rooms, if it may, once the adapter has confirmed all of them.

        What is to be replayed is sent to it in the turn in which it is put in: so nothing newer
        comes before it.
        """
        new = self._new_rooms(socket, rooms)
        if isinstance(socket._transport, FramedTransport):
            resume = replace(resume, brought=socket._transport.positions)
        if not new:
            if resume.is_asked and not socket.is_lost:
                raise UsageError(f"{socket} is in {rooms!r} already: nothing can be replayed.")
            return Joined(positions=self._recovery.positions(rooms))
        pending = self.pending
        join = pending.begin(socket, new)
        entering: Entering | None = None
        try:
            if self._authorization:
                await self._authorization.authorize(socket, new)
                self._check_in(socket)
                new = join.rooms_of(socket)
                if not new:
                    return Joined()
            run, channels = self._runtime.run, self._channels_of(new)
            entering = self._presences.enter(socket, new)
            opened = await self.acquire(channels, new, resume, surely=entering is not None)
            try:
                if entering is not None:
                    await entering.confirmed()
                return await self._replay_and_add(socket, join, opened, resume)
            finally:
                self._recovery.close(opened)
                run.release(channels)  # ours; `_add` has the socket's held
        finally:
            pending.end(join)
            self._end(entering)

    def _end(self, entering: Entering | None) -> None:
        """A join is over: who is not in after all, nor about to be, is not present."""
        if entering is not None:
            entering.end(lambda room: self._members.rooms.get(room, ()))

    async def acquire(
        self,
        channels: list[Channel],
        rooms: tuple[Room, ...],
        resume: Resume,
        *,
        surely: bool = False,
    ) -> tuple[Room, ...]:
        """Hold channels, and have the recoverable ones among the rooms known up to their ends."""
        run, recovery = self._runtime.run, self._recovery
        if not recovery and not resume.is_asked:
            await self._runtime.attribute(run.acquire(channels, surely=surely))
            return ()
        recoverable = recovery.recoverable(rooms, resume)
        await self._runtime.attribute(run.acquire(channels, surely=surely or bool(recoverable)))
        try:
            await recovery.open(recoverable, resume)
        except BaseException:
            run.release(channels)
            raise
        return recoverable

    async def _replay_and_add(
        self, socket: Socket, join: PendingJoin, opened: tuple[Room, ...], resume: Resume
    ) -> Joined:
        transport = socket._transport
        if opened and isinstance(transport, FramedTransport):
            async with transport.joining:
                await self._recovery.written()  # what was sent to it before, as that it has left
                opened = tuple(room for room in opened if room not in self._rooms_of(socket))
                transport.replaying.update(opened)
                try:
                    return await self._replay(socket, join, opened, resume)
                finally:
                    transport.replaying.clear()
        if resume.is_asked:
            return await self._replay(socket, join, opened, resume)
        self._add(socket, join.rooms_of(socket))
        return Joined(positions=self._recovery.positions(opened))

    async def _replay(
        self, socket: Socket, join: PendingJoin, opened: tuple[Room, ...], resume: Resume
    ) -> Joined:
        self._check_in(socket)
        if socket.is_lost:
            return Joined(positions=self._recovery.positions(opened))
        transport = socket._transport
        replays = self._recovery.replays(socket, transport, opened, resume)
        try:
            await send_paced(replays, transport, partial(self._check_in, socket))
            self._put_in(socket, join.rooms_of(socket), replays)
        except WebSocketDisconnect:
            self._check_in(socket)
            return Joined()
        except BaseException:
            for replay in replays:
                replay.cancel()
            raise
        return joined_by(replays, self._recovery.positions(opened))

    def _put_in(self, socket: Socket, rooms: tuple[Room, ...], replays: list[Replay]) -> None:
        """Put a socket into rooms, behind what is to be replayed."""
        self._check_in(socket)
        if replays and not socket.is_lost:
            self._runtime.settings.check_rooms(self._members.sids[socket.sid], rooms)
        for replay in replays:
            if replay.room in rooms:
                replay.finish()
            else:
                replay.cancel()
        self._add(socket, rooms)

    def _add_at_once(self, socket: Socket, join: PendingJoin, opened: tuple[Room, ...]) -> None:
        """Put a socket into rooms. A framed client goes on where it was, if that is not far."""
        transport, new = socket._transport, self._new_rooms(socket, join.rooms_of(socket))
        replays: list[Replay] = []
        if isinstance(transport, FramedTransport):
            resume = Resume(brought=transport.positions)
            new = tuple(room for room in new if room not in transport.replaying)  # it will be in
            rooms = [room for room in opened if room in new]
            replays = self._recovery.replays(socket, transport, rooms, resume)
            for replay in replays:
                if not fits(replay.cost, transport):
                    replay.lose()
        self._put_in(socket, new, replays)

    def join_all(self, crowd: Crowd, rooms: tuple[Room, ...]) -> Awaitable[None]:
        """Put a crowd into rooms; what it returns is to be awaited, and done when they are in.

        It is under way at once: a leave that comes before anything is awaited counts, too. Those
        that have left the namespace meanwhile are passed over. Those that would be in too many
        rooms, or of whom it is not known who they are, are passed over as well, and then it raises
        what that is, `TooManyRooms` for one, after the others are in.
        If it is cancelled, as when its time is up, those are in whose turn has come.
        """
        rooms = tuple(dict.fromkeys(rooms))
        return self._join_all(self.pending, self.pending.begin_crowd(crowd, rooms), rooms)

    async def _join_all(
        self, pending: PendingJoins, join: PendingJoin, rooms: tuple[Room, ...]
    ) -> None:
        refused: Exception | None = None
        try:
            if not join.crowd:
                return  # so that nothing is subscribed to here, where nobody is to join
            self._runtime.settings.check_rooms((), rooms)  # else each would be asked in vain
            run, channels = self._runtime.run, self._channels_of(rooms)
            surely = any(map(self._presences.knows, rooms))
            opened = await self.acquire(channels, rooms, Resume(), surely=surely)
            try:
                if self._recovery.framed:
                    await self._recovery.written()
                async for some in parts_of(join.crowd.items(), weight=len(rooms)):
                    sockets, entering, error = self._presences.enter_crowd(
                        self._crowds.sockets(some), rooms
                    )
                    refused = error or refused
                    try:
                        if entering is not None:
                            await entering.confirmed()
                        for socket in sockets:
                            try:
                                self._add_at_once(socket, join, opened)
                                if self.by_others is not None:
                                    self.by_others(socket, join.rooms_of(socket))
                            except SocketClosed:
                                pass
                            except TooManyRooms as full:
                                refused = full
                    finally:
                        self._end(entering)
            finally:
                self._recovery.close(opened)
                run.release(channels)
        except ShuttingDown:
            pass  # the sockets of a draining worker are as good as gone
        finally:
            pending.end(join)
        if refused is not None:
            raise refused

    def end(self) -> None:
        """Everyone has left as the run ends: nobody who is on the way comes in any more."""
        self._presences.leave_entering()
        self.forget()

    def forget(self) -> None:
        """Forget the joins of a run that is over, or of an event loop that is gone."""
        self.pending = PendingJoins()

    def _new_rooms(self, socket: Socket, rooms: tuple[Room, ...]) -> tuple[Room, ...]:
        """Those that the socket is not in yet; none if it is lost.

        Raises `SocketClosed` or `TooManyRooms`.
        """
        self._check_in(socket)
        if socket.is_lost:
            return ()
        mine = self._members.sids[socket.sid]
        new = tuple(room for room in dict.fromkeys(rooms) if room not in mine)
        if new:
            self._runtime.settings.check_rooms(mine, new)
        return new

    def _add(self, socket: Socket, new: tuple[Room, ...]) -> None:
        """Put a socket into rooms whose channels are held, once more for each that it joins.

        It may have left, be lost, or have joined some rooms, since `new` was found out.
        """
        self._check_in(socket)
        if socket.is_lost:
            return
        self._runtime.settings.check_rooms(self._members.sids[socket.sid], new)
        if self._recovery and any(map(self._recovery.keeps, new)):
            socket._transport.never_drop()  # a hole would be a lie; it comes again, and goes on
        self._crowds.settle(socket)
        joined = self._members.join(socket.sid, new)
        self._runtime.run.hold(self._channels_of(joined.rooms))
        self._events.joined(socket, joined)

    def _rooms_of(self, socket: Socket) -> Collection[Room]:
        return self._members.sids[socket.sid] if self._is_in(socket) else ()

    def _check_in(self, socket: Socket) -> None:
        if not (self._is_in(socket) or socket.is_lost):
            raise SocketClosed(has_left(socket), socket)

    def _channels_of(self, rooms: Iterable[Room]) -> list[Channel]:
        return [self._runtime.channels.of_room(self._namespace, room) for room in rooms]
