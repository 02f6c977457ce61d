"""What is read of who is present, whoever is asked: one Redis, or the nodes of a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import hiredis

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


Answered: TypeAlias = Callable[[int, list[Any] | AdapterUnavailable], None]
"""Is told the replies to one of several parts, or why there are none."""


class Call(NamedTuple):
    """A call of a script about one key, or about keys of one slot."""

    key: bytes
    encode: Callable[..., bytes]
    """The command, by the argument `whole` with the text of the script."""


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

    async def _ask_each(self, parts: Sequence[Part], answered: Answered) -> None:
        """Ask about each part by itself, in no order; what each is answered is told as it comes."""
        raise NotImplementedError

    async def _read(self, *stages: Sequence[Part]) -> list[list[Any]]:
        """The replies, none of which is a refusal."""
        answers = await self._ask(*stages)
        for answer in answers:
            if refusal := replies.refusal_in(answer):
                raise AdapterUnavailable(f"Redis refused to say who is present: {explain(refusal)}")
        return answers

    async def _call_each(self, calls: Sequence[Call], answered: Answered) -> None:
        """Call each of some scripts by itself; with the text of those that Redis has forgotten."""
        left, whole = [*range(len(calls))], False
        for _ in range(len(calls) + 1):
            left = await self._try_each(calls, left, answered, whole=whole)
            whole = True
            if not left:
                return
        why = AdapterUnavailable("Redis forgets the scripts that it is given")
        for at in left:
            answered(at, why)

    async def _try_each(
        self, calls: Sequence[Call], which: Sequence[int], answered: Answered, *, whole: bool
    ) -> list[int]:
        """Returns those that Redis has forgotten. Of a text, what comes behind it has the name."""
        forgotten: list[int] = []

        def came(at: int, outcome: list[Any] | AdapterUnavailable) -> None:
            if not isinstance(outcome, AdapterUnavailable) and _is_forgotten(outcome[0]):
                forgotten.append(which[at])
            else:
                answered(which[at], outcome)

        some = [calls[at] for at in which]
        parts = [Part(it.key, it.encode(whole=whole and it is some[0]), 1) for it in some]
        await self._ask_each(parts, came)
        return forgotten

    async def _call(self, key: bytes, encode: Callable[..., bytes]) -> Any:
        """The reply of a script. Raises `AdapterUnavailable` if there is none."""
        outcomes: list[list[Any] | AdapterUnavailable] = []
        await self._call_each([Call(key, encode)], lambda _, outcome: outcomes.append(outcome))
        (outcome,) = outcomes
        if isinstance(outcome, AdapterUnavailable):
            raise outcome
        return outcome[0]

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
        field = b"u%b" % user.encode()
        ((reply,),) = await self._read([self._look_for(room.name, field)])
        return bool(reply == 1)

    # Some at a time.

    def _look_for(self, name: bytes, field: bytes) -> Part:
        """Ask whether a room has a field."""
        truth = keys_of(self._prefix, name).truth
        return Part(truth, pack(b"HEXISTS", truth, field), 1)

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


def failure_in(answers: Sequence[Sequence[Any] | AdapterUnavailable]) -> AdapterUnavailable | None:
    """Why the first of some that were not done was not."""
    for answer in answers:
        if isinstance(answer, AdapterUnavailable):
            return answer
        if refusal := replies.refusal_in(answer):
            return AdapterUnavailable(f"Redis refused to keep who is where: {explain(refusal)}")
    return None


def _is_forgotten(reply: Any) -> bool:
    return isinstance(reply, hiredis.ReplyError) and code_of(str(reply)) == "NOSCRIPT"
