"""What is asked of who is present by any client of redis-py: commands, and their replies. Pure.

Only what reads: who asks may have no right to write, and repairs nothing.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias, TypeVar

from redis.exceptions import NoPermissionError, ResponseError

from fastapi_rooms.adapters.redis.history.refusals import explain
from fastapi_rooms.adapters.redis.presence import replies
from fastapi_rooms.adapters.redis.presence.keys import keys_of, user_key
from fastapi_rooms.adapters.redis.presence.reader import ENDLESS, FIELDS_PER_PAGE, MAX_PAGES
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Room

T = TypeVar("T")

Command: TypeAlias = tuple[bytes | str, ...]
Question: TypeAlias = Generator[Command, Any, T]
"""Yields commands, is sent the reply to each, and returns the answer."""

READING = ("hget", "hexists", "hscan", "sscan")
"""The commands, as ACL rules name them."""


class PresenceQuestions:
    """Questions about rooms, which are named `namespace#room`, in UTF-8.

    Args:
        prefix: the first part of every key.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()

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
