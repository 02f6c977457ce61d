"""What a socket that joins a recoverable room is sent of what was said before it is put in.

It is put in in the turn of the event loop in which the last of that is written, so that nothing is
missed or doubled in between. A little is written at once. Of more the socket is sent as it reads;
what is said meanwhile waits in the room's log, not in the socket's outbox.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.room_log import MAX_BYTES
from fastapi_rooms.history.messages import Placed
from fastapi_rooms.transports import Transport
from fastapi_rooms.types import Room
from fastapi_rooms.wire import client_framing
from fastapi_rooms.worker.framed_transport import FramedTransport
from fastapi_rooms.worker.framing import put_in_place
from fastapi_rooms.worker.resume import Joined, Resume

if TYPE_CHECKING:
    from fastapi_rooms.worker.recovery import Recovery

MAX_REPLAY_BYTES = MAX_BYTES
"""Of more than these, in one room, nothing is replayed. It is held for as long as a slow client
reads; and far more than an outbox has, as a client whose outbox was full is to be recovered."""


class Replay:
    """What one socket is sent of one room. It begins in step with the room's log.

    Args:
        own: the names that stand for the socket where messages leave somebody out.
    """

    def __init__(
        self,
        recovery: Recovery,
        room: Room,
        transport: Transport,
        resume: Resume,
        own: AbstractSet[Room],
    ) -> None:
        self._recovery = recovery
        self.room = room
        self._transport = transport
        self._is_framed = isinstance(transport, FramedTransport)
        self._own = own
        self.replayed = 0
        """How many messages have been sent."""
        self.recovered, self._due = recovery.replay(room, resume, MAX_REPLAY_BYTES, own)
        """Whether all that the socket has missed is sent; `None` if it has not said since when."""
        self._end = recovery.logs.position(room)
        self._sent = None if self.recovered is not True else resume.since_of(room)
        self._announce()

    @property
    def cost(self) -> int:
        """What is to be sent, in bytes as an outbox counts them."""
        return sum(map(cost_of, self._due))

    async def send(self, check: Callable[[], None]) -> None:
        """Send what is due, as the client reads. Raises `WebSocketDisconnect`, and as `check`."""
        due, self._due = self._due, []
        for placed in due:
            check()
            await self._transport.send(self._payload(placed))
            self.replayed += 1

    def catch_up(self) -> None:
        """What was said meanwhile is due; if that is lost already, the client is told."""
        logs = self._recovery.logs
        if self._end is None or self._end == logs.position(self.room):
            return
        missed = self._recovery.missed(self.room, self._end, self._own)
        self._end = logs.position(self.room)
        if missed is None:
            self.lose()
        else:
            self._due = missed

    def lose(self) -> None:
        """What is due is not sent after all."""
        self._due, self.recovered, self._sent = [], False, None
        self._announce()

    def finish(self) -> None:
        """Write what is due: the socket is about to be put in, in this turn."""
        due, self._due = self._due, []
        for placed in due:
            self._transport.write(self._payload(placed))
        self.replayed += len(due)
        if isinstance(self._transport, FramedTransport):
            self._transport.positions.pop(self.room, None)
        if self._is_framed and self._end is not None and str(self._end) != self._sent:
            self._transport.write(client_framing.position(self.room, str(self._end)))

    def cancel(self) -> None:
        """The socket is not put in."""
        if self._is_framed:
            self._transport.write(client_framing.left(self.room))

    def _announce(self) -> None:
        if self._is_framed:
            self._transport.write(client_framing.joined(self.room, self.recovered))

    def _payload(self, placed: Placed) -> Payload:
        payload = placed.message.payload
        if self._is_framed:
            self._sent = str(placed.position)
            put_in_place(self.room, self._sent, payload)
        return payload


async def send_paced(
    replays: Sequence[Replay], transport: Transport, check: Callable[[], None]
) -> None:
    """Send until what is left fits well into the client's outbox; then it is to be written.

    `check` is called before each message. Raises `WebSocketDisconnect`, and as `check` does.
    """
    while not fits(sum(replay.cost for replay in replays), transport):
        for replay in replays:
            await replay.send(check)
        for replay in replays:
            replay.catch_up()


def fits(cost: int, transport: Transport) -> bool:
    """Whether so many bytes fit well into a client's outbox."""
    return not cost or cost <= transport.policy.max_bytes // 2 - transport.pending


def joined_by(replays: Sequence[Replay], positions: dict[Room, str]) -> Joined:
    """What a join has brought, after which the socket is at these positions."""
    found = [replay.recovered for replay in replays]
    recovered = None if not any(known is not None for known in found) else False not in found
    return Joined(recovered, sum(replay.replayed for replay in replays), positions)


def cost_of(placed: Placed) -> int:
    """What a message counts, in bytes, as an outbox counts it."""
    return len(placed.message.payload.data) + ENTRY_BYTES
