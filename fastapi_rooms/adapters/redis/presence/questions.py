"""What is asked of who is present by any client of redis-py: commands, and their replies.

Only what reads: who asks may have no right to write, and repairs nothing. Which rooms know it is
read before, and again every few seconds: of a room that was not declared, Redis would say that
nobody is there.
"""

from __future__ import annotations

from collections.abc import Generator
from time import monotonic
from typing import Any, TypeAlias, TypeVar

from redis.exceptions import NoPermissionError, ResponseError

from fastapi_rooms.adapters.redis.declared.form import key_of
from fastapi_rooms.adapters.redis.declared.known import Known
from fastapi_rooms.adapters.redis.history.refusals import explain
from fastapi_rooms.adapters.redis.presence import replies
from fastapi_rooms.adapters.redis.presence.keys import keys_of, user_key
from fastapi_rooms.adapters.redis.presence.reader import ENDLESS, FIELDS_PER_PAGE, MAX_PAGES
from fastapi_rooms.errors import AdapterUnavailable, UsageError
from fastapi_rooms.types import Room

T = TypeVar("T")

Command: TypeAlias = tuple[bytes | str, ...]
Question: TypeAlias = Generator[Command, Any, T]
"""Yields commands, is sent the reply to each, or thrown `AdapterUnavailable`, and returns the
answer."""

READING = ("hgetall", "hget", "hexists", "hscan", "sscan")
"""The commands, as ACL rules name them."""


class PresenceQuestions:
    """Questions about rooms, which are named `namespace#room`, in UTF-8.

    Args:
        prefix: the first part of every key.
        sharded: whether it is a cluster.
    """

    def __init__(self, prefix: str, *, sharded: bool) -> None:
        self._prefix = prefix.encode()
        self._sharded = sharded
        self._known = Known()  # by `monotonic`

    def ensure_known(self, namespace: str, room: Room | None = None) -> Question[None]:
        """Ask whether a room knows who is present, or of none, whether any of its namespace does.

        Raises `UsageError` if none of the workers has declared it.
        """
        is_declared = self._is_declared(namespace, room)
        if not is_declared or self._known.is_due(monotonic()):
            try:
                yield from self._read()
            except AdapterUnavailable:
                # Another node than the room's has it, perhaps, and the room may well be there.
                if not (self._sharded and is_declared):
                    self._known.doubt()
                    raise
            self._known.keep(monotonic())
        if not self._is_declared(namespace, room):
            raise UsageError(self._why_not(namespace, room))

    def _read(self) -> Question[None]:
        key = key_of(self._prefix)
        reply = yield "HGETALL", key
        try:
            self._known.read(reply, monotonic())
        except ValueError as error:
            raise AdapterUnavailable(f"{key.decode()!r} in Redis makes no sense: {error}") from None

    def _is_declared(self, namespace: str, room: Room | None) -> bool:
        patterns = self._known.declared.presence.get(namespace)
        return patterns is not None and (room is None or patterns.find(room) is not None)

    def _why_not(self, namespace: str, room: Room | None) -> str:
        prefix = self._prefix.decode()
        which = f"No room of the namespace {namespace!r}" if room is None else repr(room)
        what = f"{which} {'knows' if room is None else 'does not know'} who is present: no worker"
        if not self._known.declared.presence:
            return (
                f"{what} with the prefix {prefix!r} has declared presence for any room. Has one "
                "that does been started yet, with this Redis and this prefix?"
            )
        pattern = "…" if room is None else repr(room)
        return (
            f"{what} with the prefix {prefix!r} has declared it in the namespace {namespace!r}, by "
            f"`rooms.presence({pattern})`{'' if room is None else ' or a pattern that matches it'}."
        )

    def version(self, name: bytes) -> Question[int]:
        """The version of a room; 0 if nobody is present. Ask for it before the pages."""
        return self._number(name, b"v")

    def count(self, name: bytes) -> Question[int]:
        """How many users are present."""
        return self._number(name, b"n")

    def page(self, name: bytes, cursor: int) -> Question[replies.Fields]:
        """Some of those who are present, from a cursor on: 0 for the first."""
        truth = keys_of(self._prefix, name).truth
        reply = yield "HSCAN", truth, b"%d" % cursor, "COUNT", FIELDS_PER_PAGE
        return replies.fields_in(_as_sent(reply))

    def is_present(self, name: bytes, user: str) -> Question[bool]:
        """Whether a user is present."""
        truth = keys_of(self._prefix, name).truth
        reply = yield "HEXISTS", truth, b"u%b" % user.encode()
        return bool(reply == 1)

    def rooms_of_user(self, namespace: str, user: str) -> Question[set[Room]]:
        """The rooms of a namespace in which a user is present.

        Raises `AdapterUnavailable` if there is no end of them.
        """
        key = user_key(self._prefix, namespace.encode(), user.encode())
        found, cursor = set[Room](), 0
        for _ in range(MAX_PAGES):
            reply = yield "SSCAN", key, b"%d" % cursor, "COUNT", FIELDS_PER_PAGE
            cursor, items = replies.page_in(_as_sent(reply))
            for name in replies.names_in(items):
                room = replies.room_in(name, namespace)
                # It is in the set a little longer than the user is in the room.
                if room and room not in found and (yield from self.is_present(name, user)):
                    found.add(room)
            if not cursor:
                return found
        raise AdapterUnavailable(ENDLESS)

    def _number(self, name: bytes, field: bytes) -> Question[int]:
        reply = yield "HGET", keys_of(self._prefix, name).truth, field
        return replies.number_in(reply)


def refused(error: ResponseError, prefix: str) -> str:
    """Why Redis does not answer a question, in words that say what to do."""
    why = f"Redis refused to say who is present: {explain(str(error))}"
    if not isinstance(error, NoPermissionError):
        return why
    commands = " ".join(f"+{name}" for name in READING)
    return f"{why}: ACL SETUSER <user> ~{prefix}:* {commands}"


def _as_sent(reply: Any) -> Any:
    """A reply to a scan as Redis has sent it: clients make a number of its cursor."""
    if isinstance(reply, tuple | list) and len(reply) == 2 and type(reply[0]) is int:
        return [b"%d" % reply[0], reply[1]]
    return reply
