"""A room's messages for code without a socket: a server-sent-events route, a background task."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from collections.abc import Set as AbstractSet

from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.json_codec import DEFAULT_JSON, JsonCodec
from fastapi_rooms.core.membership import Membership
from fastapi_rooms.core.outbox import Outbox, OutboxPolicy, Verdict
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import ListenerOverflow
from fastapi_rooms.types import Room
from fastapi_rooms.worker.drain import Drainable
from fastapi_rooms.worker.room_message import RoomMessage, message_of


class Listener(AsyncIterator[RoomMessage]):
    """An endless iterator over what is sent to some rooms, bounded by an outbox policy."""

    def __init__(
        self, rooms: tuple[Room, ...], policy: OutboxPolicy, codec: JsonCodec = DEFAULT_JSON
    ) -> None:
        self._codec = codec
        self.rooms = rooms
        """The rooms listened to."""
        self.recovered: bool | None = None
        """Whether everything since the position that was given is heard; `None` if none was."""
        self._position: str | None = None
        self._policy = policy
        self._waiting: Outbox[RoomMessage, None] = Outbox(policy)
        self._arrived = asyncio.Event()
        self._overflowed = False
        self._closed = False

    @property
    def dropped(self) -> int:
        """How many messages were dropped because this listener did not keep up."""
        return self._waiting.dropped

    @property
    def position(self) -> str | None:
        """Up to where it has been handed what was said in its room: go on there by `since`.

        Before the first message it is where the listener began; `None` while recent messages are
        the first. `None` in rooms without a history, and for a listener of several rooms.
        """
        return self._position

    def begin_at(self, position: str | None) -> None:
        """Nothing has been handed out yet, and the first message comes behind this position."""
        self._position = position

    def offer(
        self,
        target: Target,
        payload: Payload,
        made: dict[Room, RoomMessage] | None = None,
        places: Mapping[Room, int] | None = None,
        position: str | None = None,
    ) -> bool:
        """Take a message that was sent to one of the rooms, or to everyone.

        Returns whether the listener has ended by it, as more would wait than it may have.

        `made` is what other listeners have made of it: the first that hears it in a room makes one
        for all of them. `places` has the place of each of the target's rooms. `position` is the
        message's own, in a recoverable room.
        """
        if self._overflowed or self._closed:  # a busy room would never let it end
            return False
        room = self._first_of(target.rooms or (), places)
        message = made.get(room) if made is not None else None
        if message is None:
            message = message_of(room, payload, self._codec, position)
            if made is not None:
                made[room] = message
        verdict = self._waiting.offer(message, len(payload.data))
        self._overflowed = verdict is Verdict.OVERFLOW
        self._arrived.set()
        return self._overflowed

    def _first_of(self, names: tuple[Room, ...], places: Mapping[Room, int] | None) -> Room:
        """The first of a message's rooms that is listened to; empty if it went to everyone."""
        if len(names) < 2:
            return names[0] if names else ""
        places = _places(names) if places is None else places
        return names[min(places[room] for room in self.rooms if room in places)]

    async def drain(self, timeout: float) -> None:  # noqa: ARG002 -- it takes no time
        """End the iteration, as this worker drains."""
        self.close()

    def close(self) -> None:
        """End the iteration after what has arrived."""
        self._closed = True
        self._arrived.set()

    async def __anext__(self) -> RoomMessage:
        while not self._waiting:
            if self._overflowed:
                names = ", ".join(map(repr, self.rooms)) or "everyone"
                raise ListenerOverflow(
                    f"More than {self._policy.max_bytes} bytes waited for this listener of "
                    f"{names}, where each message counts its length and {ENTRY_BYTES} bytes. Read "
                    "faster, or listen with outbox=OutboxPolicy(overflow='drop_oldest').",
                    self,
                )
            if self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        message, _ = self._waiting.pop()
        if message.position is not None and len(self.rooms) == 1:
            self._position = message.position
        return message


def _places(names: tuple[Room, ...]) -> Mapping[Room, int]:
    """The place of each name: to look for each room in a tuple would take for ever."""
    return {name: place for place, name in enumerate(names)}


class Listeners:
    """The listeners of a namespace on this worker."""

    def __init__(self) -> None:
        self._members: Membership[Listener] = Membership()
        self._keys: dict[Listener, str] = {}
        self._releases: dict[Listener, Callable[[], None]] = {}
        self._of_everyone: dict[Listener, None] = {}
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def rooms(self) -> AbstractSet[Room]:
        """The rooms that are listened to."""
        return self._members.rooms.keys()

    def add(
        self,
        rooms: tuple[Room, ...],
        policy: OutboxPolicy,
        codec: JsonCodec,
        release: Callable[[], None],
        *,
        everyone: bool = False,
    ) -> Listener:
        """A new listener of some rooms, and of what is sent to everyone if it is to be.

        `release` is called when it is removed: by an overflow, or at the end of its block.
        """
        listener, key = Listener(rooms, policy, codec), str(next(self._numbers))
        self._keys[listener] = key
        self._releases[listener] = release
        self._members.add(key, listener)
        self._members.join(key, rooms)
        if everyone:
            self._of_everyone[listener] = None
        return listener

    def remove(self, listener: Listener) -> None:
        """End a listener, unless it has ended."""
        listener.close()
        self._of_everyone.pop(listener, None)
        key = self._keys.pop(listener, None)
        if key is not None:
            self._members.remove(key)
            self._releases.pop(listener)()

    def forget(self) -> None:
        """Forget those of an event loop that is gone."""
        self._members.clear()
        self._keys.clear()
        self._releases.clear()
        self._of_everyone.clear()

    def offer(self, target: Target, payload: Payload, position: str | None = None) -> None:
        """Give a message to the listeners of the rooms it is sent to, or of everyone.

        Those that it is too much for end by it.
        """
        made: dict[Room, RoomMessage] = {}
        places = _places(target.rooms or ())
        listeners = self._of_everyone if target.rooms is None else self._members.resolve(target)
        ended = [one for one in listeners if one.offer(target, payload, made, places, position)]
        for listener in ended:
            self.remove(listener)

    def drainables(self) -> list[Drainable]:
        """All of them, to be drained."""
        return [listener.drain for listener in self._keys]

    def close(self) -> None:
        """End all of them."""
        for listener in list(self._keys):
            self.remove(listener)
