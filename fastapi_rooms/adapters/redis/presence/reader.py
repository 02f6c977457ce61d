"""What is read of who is present, whoever is asked: one Redis, or the nodes of a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

from fastapi_rooms.adapters.history import RoomKey
from fastapi_rooms.adapters.presence import Entry, Lease, Page
from fastapi_rooms.adapters.redis.history.refusals import code_of, explain
from fastapi_rooms.adapters.redis.links.link import pack
from fastapi_rooms.adapters.redis.presence import replies
from fastapi_rooms.adapters.redis.presence.keys import keys_of
from fastapi_rooms.errors import AdapterUnavailable

FIELDS_PER_PAGE = b"500"
"""What one question reads of a room: some half a millisecond of Redis."""

MAX_PAGES = 20_000
"""So many are believed: ten million fields."""

ENDLESS = "Redis finds no end of what it keeps of who is present"


class Part(NamedTuple):
    """Commands about one key, or about keys of one slot."""

    key: bytes
    data: bytes
    commands: int
    """How many."""
    whole: bytes = b""
    """The same with the text of the script that is called, for a Redis that has forgotten it."""


class RoomsReader:
    """Reads who is present. Subclasses say whom to ask, by `_ask`.

    Args:
        prefix: the first part of every key.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()
        self.malformed = 0
        """How many fields were read that make no sense."""

    async def _ask(self, *stages: Sequence[Part]) -> list[list[Any]]:
        """The replies to each part, those of one stage after those of the stage before.

        Raises `AdapterUnavailable` for no replies. From a later stage that has none, the error is
        in their place.
        """
        raise NotImplementedError

    async def _read(self, *stages: Sequence[Part]) -> list[list[Any]]:
        """The replies, none of which is a refusal."""
        answers = await self._ask(*stages)
        for answer in answers:
            if refusal := replies.refusal_in(answer):
                raise AdapterUnavailable(f"Redis refused to say who is present: {explain(refusal)}")
        return answers

    async def _call(
        self,
        key: bytes,
        encode: Callable[..., bytes],
        before: Sequence[Part] = (),
        after: Sequence[Part] = (),
    ) -> tuple[Any, list[list[Any]], AdapterUnavailable | None]:
        """Call a script, between other commands; its reply, and those to the others.

        The last is why one of the others was not done.
        """
        answers = await self._ask(before, (Part(key, encode(whole=False), 1),), after)
        if code_of(replies.refusal_in(answers[len(before)])) == "NOSCRIPT":
            answers = await self._ask(before, (Part(key, encode(whole=True), 1),), after)
        (reply,) = answers.pop(len(before))
        return reply, answers, next(filter(None, map(_failure_in, answers)), None)

    # Questions.

    async def present(self, room: RoomKey, cursor: int = 0) -> Page:
        """A page, with the version before it."""
        truth = keys_of(self._prefix, room.name).truth
        version, page = await self._page(truth, cursor, b"", pack(b"HGET", truth, b"v"))
        entries = [entry for _, entry in page.sockets]
        return Page(replies.number_in(version), [*page.users], entries, page.cursor)

    async def count(self, room: RoomKey) -> int:
        """How many users."""
        truth = keys_of(self._prefix, room.name).truth
        ((reply,),) = await self._read([Part(truth, pack(b"HGET", truth, b"n"), 1)])
        return replies.number_in(reply)

    async def is_present(self, room: RoomKey, user: str) -> bool:
        """Whether there is a field of that user."""
        ((reply,),) = await self._read([self._look_for(room.name, user)])
        return bool(reply == 1)

    # Some at a time.

    def _look_for(self, name: bytes, user: str) -> Part:
        """Ask whether a user is present."""
        truth = keys_of(self._prefix, name).truth
        return Part(truth, pack(b"HEXISTS", truth, b"u%b" % user.encode()), 1)

    async def _own(self, room: RoomKey, lease: Lease) -> AsyncIterator[list[Entry]]:
        """The sockets of a worker in a room, some at a time."""
        async for page in self._pages(room, b"s%b*" % lease.node.encode()):
            yield [entry for node, entry in page.sockets if node == lease.node]

    async def _pages(self, room: RoomKey, pattern: bytes = b"") -> AsyncIterator[replies.Fields]:
        """The fields of a room, some at a time."""
        truth, cursor = keys_of(self._prefix, room.name).truth, 0
        for _ in range(MAX_PAGES):
            _, page = await self._page(truth, cursor, pattern)
            yield page
            cursor = page.cursor
            if not cursor:
                return
        raise AdapterUnavailable(ENDLESS)

    async def _page(
        self, truth: bytes, cursor: int, pattern: bytes, first: bytes = b""
    ) -> tuple[Any, replies.Fields]:
        """Some fields of a room; and the reply to another command, if one goes first."""
        match = (b"MATCH", pattern) if pattern else ()
        scan = pack(b"HSCAN", truth, b"%d" % cursor, *match, b"COUNT", FIELDS_PER_PAGE)
        (answer,) = await self._read([Part(truth, first + scan, 1 + bool(first))])
        page = replies.fields_in(answer[-1])
        self.malformed += page.malformed
        return answer[0], page

    async def _names(self, key: bytes) -> AsyncIterator[bytes]:
        """The names of rooms in a set."""
        async for items in self._members(key):
            names = replies.names_in(items)
            self.malformed += len(items) - len(names)
            for name in names:
                yield name

    async def _members(self, key: bytes) -> AsyncIterator[list[bytes]]:
        """What is in a set, some at a time."""
        cursor = 0
        for _ in range(MAX_PAGES):
            scan = pack(b"SSCAN", key, b"%d" % cursor, b"COUNT", FIELDS_PER_PAGE)
            ((reply,),) = await self._read([Part(key, scan, 1)])
            cursor, items = replies.page_in(reply)
            yield items
            if not cursor:
                return
        raise AdapterUnavailable(ENDLESS)


def _failure_in(answer: Sequence[Any]) -> AdapterUnavailable | None:
    for reply in answer:
        if isinstance(reply, AdapterUnavailable):
            return reply
    if refusal := replies.refusal_in(answer):
        return AdapterUnavailable(f"Redis refused to keep who is where: {explain(refusal)}")
    return None
