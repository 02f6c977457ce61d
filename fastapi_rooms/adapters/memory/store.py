"""The rooms of a bus that remember, and their messages: pure state, told the time by its owner.

A room has a numbering from the first time that it is read or sent anything. Its messages are
forgotten before its numbering is: a position in a numbering that was dropped is refused, as the
next one has another epoch. What is kept is bounded, and who has used it least recently pays.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import NamedTuple

from fastapi_rooms.adapters.history import Retention, RoomKey
from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.position import Position
from fastapi_rooms.core.room_log import MAX_BYTES, Kept, Stretch, after
from fastapi_rooms.types import Channel

MAX_KEPT_BYTES = 128 * 1024 * 1024
"""How much is kept on one bus. Each message counts its length and `ENTRY_BYTES`; beyond it, the
rooms used least recently are forgotten."""

MAX_ROOMS = 100_000
"""How many rooms without members have a numbering."""

IDLE_TIME = 3600.0
"""Seconds that a room without messages and members keeps its numbering."""

REPEATS = 100
"""Among how many of a room's newest messages one that is sent again is recognised."""

_VISITS = 100
"""How many rooms one call looks at to get below `MAX_ROOMS`."""


class Appended(NamedTuple):
    """What has become of a message."""

    position: Position
    """Its own."""
    previous: int
    """The tag of the message before."""
    is_new: bool
    """False if it was kept already."""


class _Room:
    """One numbering, and what is kept of it."""

    __slots__ = (
        "before",
        "bytes",
        "channel",
        "epoch",
        "expires",
        "messages",
        "offset",
        "tag",
        "used",
    )

    def __init__(self, channel: Channel, epoch: str) -> None:
        self.channel = channel
        self.epoch = epoch
        self.offset = 0
        self.tag = 0
        self.messages: deque[Kept[bytes]] = deque()
        self.before: int | None = None
        """The tag of the message before the first that is kept, if that was not one of them."""
        self.bytes = 0
        self.expires = 0.0
        self.used = 0.0

    @property
    def top(self) -> Position:
        return Position(self.epoch, self.offset, self.tag)

    def position_of(self, tag: int) -> Position | None:
        """The position of one of the newest messages; the last one's even if it is forgotten."""
        if tag == self.tag:
            return self.top
        for message in islice(reversed(self.messages), REPEATS):
            if message.tag == tag:
                return Position(self.epoch, message.offset, tag)
        return None


class RoomStore:
    """All of a bus's rooms.

    Args:
        new_epoch: makes an epoch that there has never been.
        has_members: whether anybody is subscribed to a channel; such a room keeps its numbering.
    """

    def __init__(
        self, new_epoch: Callable[[], str], has_members: Callable[[Channel], bool]
    ) -> None:
        self.bytes = 0
        """How much is kept."""
        self._new_epoch = new_epoch
        self._has_members = has_members
        # Both with those first that were used least recently.
        self._rooms: OrderedDict[bytes, _Room] = OrderedDict()
        self._with_messages: OrderedDict[bytes, _Room] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rooms)

    def append(
        self, key: RoomKey, data: bytes, tag: int, retention: Retention, now: float
    ) -> Appended:
        """Number and keep a message, unless one of the newest has the same tag."""
        assert tag, "0 is before the first message"
        room = self._use(key, now)
        known = room.position_of(tag)
        if known is not None:
            return Appended(known, 0, is_new=False)
        previous, room.tag = room.tag, tag
        room.offset += 1
        room.expires = now + retention.ttl
        if not room.messages:
            room.before = previous
        room.messages.append(Kept(room.offset, tag, data))
        self._count(room, len(data) + ENTRY_BYTES)
        while len(room.messages) > retention.size + 1:
            self._drop_oldest(room)
        self._with_messages[key.name] = room
        self._with_messages.move_to_end(key.name)
        self._forget_beyond_the_limit()
        return Appended(room.top, previous, is_new=True)

    def read(self, key: RoomKey, now: float) -> Stretch[bytes]:
        """What is kept of a room, which has a numbering from now on: the last that fit."""
        room = self._use(key, now)
        count = _count_fitting(reversed(room.messages), at_least=1)
        is_all = count == len(room.messages)
        last = islice(room.messages, len(room.messages) - count, None)
        return Stretch(room.top, tuple(last), room.before if is_all else None)

    def read_since(self, key: RoomKey, position: Position, now: float) -> Stretch[bytes]:
        """What is kept from that of `position` on: the first that fit. As `read` if it is gone."""
        room = self._use(key, now)
        missed = after(Stretch(room.top, room.messages, room.before), position)
        if missed is None:
            return self.read(key, now)
        # One more than was missed, so that the reader sees that the position is in the chain.
        begin = max(len(room.messages) - len(missed) - 1, 0)
        count = _count_fitting(islice(room.messages, begin, None), at_least=2)
        first = islice(room.messages, begin, begin + count)
        return Stretch(room.top, tuple(first), room.before if begin == 0 else None)

    def top(self, key: RoomKey) -> Position | None:
        """The last position of a room; `None` if it has no numbering."""
        room = self._rooms.get(key.name)
        return None if room is None else room.top

    def forget(self, key: RoomKey) -> None:
        """Forget the messages of a room; the numbering goes on."""
        if key.name in self._with_messages:
            self._forget(key.name)

    def names(self) -> Sequence[bytes]:
        """All rooms, to be swept part by part."""
        return [*self._rooms]

    def sweep(self, names: Iterable[bytes], now: float) -> None:
        """Forget what has expired in some rooms, and drop the numberings that nobody uses."""
        for name in names:
            room = self._rooms.get(name)
            if room is None:
                continue
            self._expire(name, room, now)
            if room.messages or self._has_members(room.channel):
                room.used = now
            elif now - room.used >= IDLE_TIME:
                del self._rooms[name]

    def _use(self, key: RoomKey, now: float) -> _Room:
        room = self._rooms.get(key.name)
        if room is None:
            room = self._rooms[key.name] = _Room(key.channel, self._new_epoch())
            self._drop_rooms_beyond_the_limit(room)
        else:
            self._rooms.move_to_end(key.name)
            self._expire(key.name, room, now)
        if room.messages:
            self._with_messages.move_to_end(key.name)
        room.used = now
        return room

    def _expire(self, name: bytes, room: _Room, now: float) -> None:
        if room.messages and now >= room.expires:
            self._forget(name)

    def _forget(self, name: bytes) -> None:
        room = self._with_messages.pop(name)
        room.messages.clear()
        self._count(room, -room.bytes)

    def _drop_oldest(self, room: _Room) -> None:
        room.before = None
        self._count(room, -len(room.messages.popleft().item) - ENTRY_BYTES)

    def _count(self, room: _Room, size: int) -> None:
        room.bytes += size
        self.bytes += size

    def _forget_beyond_the_limit(self) -> None:
        while self.bytes > MAX_KEPT_BYTES:
            name, room = next(iter(self._with_messages.items()))
            if len(self._with_messages) > 1:
                self._forget(name)
            elif len(room.messages) > 1:
                self._drop_oldest(room)
            else:  # one message is always kept, whatever its size
                return

    def _drop_rooms_beyond_the_limit(self, newest: _Room) -> None:
        for _ in range(_VISITS):
            name, room = next(iter(self._rooms.items()))
            if len(self._rooms) <= MAX_ROOMS or room is newest:
                return
            if self._has_members(room.channel):
                self._rooms.move_to_end(name)
            else:
                self.forget(RoomKey(name, room.channel))
                del self._rooms[name]


def _count_fitting(messages: Iterable[Kept[bytes]], *, at_least: int) -> int:
    """How many messages may be read at once, of some that follow each other."""
    count = cost = 0
    for message in messages:
        cost += len(message.item) + ENTRY_BYTES
        if cost > MAX_BYTES and count >= at_least:
            break
        count += 1
    return count
