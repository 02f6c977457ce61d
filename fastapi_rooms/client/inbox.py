"""What a client has received and nobody has asked for yet, and who asks."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi_rooms.client.message import ClientMessage
from fastapi_rooms.client.options import ClientOptions
from fastapi_rooms.core.reconnection import is_final
from fastapi_rooms.core.resumption import Resumption
from fastapi_rooms.errors import UsageError
from fastapi_rooms.types import Room
from fastapi_rooms.wire import client_frames
from fastapi_rooms.wire.client_frames import Content, Joined, Left, Moved

if TYPE_CHECKING:
    from fastapi_rooms.client.connection import Connection, End

logger = logging.getLogger("fastapi_rooms")


@dataclass(frozen=True, slots=True)
class _Recovered:
    """What to tell of a room, in its place among the messages."""

    room: Room
    recovered: bool


class Inbox:
    """Holds so many messages that one who is busy does not hold up the connection at once.

    Args:
        options: `max_queue`, `json` and `on_recovered` of them.
        positions: where to go on.
    """

    def __init__(self, options: ClientOptions, positions: Mapping[Room, str]) -> None:
        self._options = options
        self.resumption: Resumption[ClientMessage | _Recovered] = Resumption(positions)
        self._arrived = asyncio.Event()
        self._has_space = asyncio.Event()
        self._is_asked = False
        self._is_over = False
        self._is_closed = False

    # The connection's side.

    @property
    def is_full(self) -> bool:
        """Whether nothing more is to be received for now."""
        return len(self.resumption) >= self._options.max_queue

    def receive(self, frame: str | bytes, *, is_framed: bool) -> None:
        """A frame has come."""
        said = client_frames.parse(frame) if is_framed else Content(frame)
        if isinstance(said, Content):
            message = ClientMessage(said.data, said.room, said.position, self._options.json)
            self._put(message, said.room, said.position)
        elif isinstance(said, Moved):
            self.resumption.moved(said.room, said.position)
        elif isinstance(said, Joined):
            recovered = self.resumption.joined(said.room, said.recovered)
            if recovered is not None and self._options.on_recovered is not None:
                self._put(_Recovered(said.room, recovered))
        elif isinstance(said, Left):
            self.resumption.left(said.room)
        elif said is None:
            logger.warning("A client was sent a frame that it cannot read; it is ignored.")

    def _put(
        self,
        item: ClientMessage | _Recovered,
        room: Room | None = None,
        position: str | None = None,
    ) -> None:
        if self.resumption.put(item, room, position):
            self._arrived.set()

    async def wait_for_space(self, connection: Connection) -> bool:
        """Wait until there is space for more; returns true if the connection has ended meanwhile.

        Then what is left of it goes in, once. If there is too much already, `Ended` is raised, and
        it is dropped: nobody asks for messages, and somebody may wait for the next connection.
        Where there is none to come, it goes in all the same, as nobody would ever get it.
        """
        from fastapi_rooms.client.connection import Ended

        self._has_space.clear()
        ended = asyncio.create_task(connection.wait_ended(), name="end of a client's connection")
        ended.add_done_callback(self._wake)
        try:
            await self._has_space.wait()
            if not ended.done():
                return False
            end = ended.result()
            if len(self.resumption) > self._options.max_queue and not is_final(end.code):
                raise Ended(end)
            return True
        finally:
            ended.remove_done_callback(self._wake)  # as it is cancelled: it would end the next wait
            ended.cancel()

    def _wake(self, _: asyncio.Task[End]) -> None:
        self._has_space.set()

    def end(self, *, is_closed: bool) -> None:
        """Nothing more will come. If it `is_closed` here, nobody wants what is there, either."""
        self._is_over = True
        self._is_closed = is_closed
        self._arrived.set()

    # The user's side.

    async def next(self) -> ClientMessage | None:
        """The next message; `None` if there will be none. Cancelling it loses none."""
        if self._is_asked:
            raise UsageError("Two tasks iterate over one client's socket; one has to.")
        self._is_asked = True
        try:
            while not self._is_closed:
                item = self.resumption.take()
                if len(self.resumption) <= self._options.max_queue // 2:
                    self._has_space.set()
                if isinstance(item, ClientMessage):
                    return item
                if item is not None:
                    await self._tell(item)
                elif self._is_over:
                    break
                else:
                    self._arrived.clear()
                    await self._arrived.wait()
            self.resumption.finish()
            return None
        finally:
            self._is_asked = False

    async def _tell(self, told: _Recovered) -> None:
        assert self._options.on_recovered is not None
        answer = self._options.on_recovered(told.room, told.recovered)
        if inspect.isawaitable(answer):
            await answer
