"""The commands by which emitters append to rooms that remember, for any client of redis-py.

An emitter has no patterns of its own: it reads what workers have declared before it sends to a
room, and again every few seconds. It does what a worker does for such a room, by the same script.

Where it may not read them, it sends as to any room: most applications have no history, and most
emitters the right to publish and no more. The log says so once, and so do the workers, who know
whether it matters.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from time import monotonic
from typing import Any, TypeAlias

from redis.exceptions import (
    ClusterDownError,
    NoPermissionError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from fastapi_rooms.adapters.history import Retention, RoomKey, retention_of
from fastapi_rooms.adapters.redis.declared.form import key_of
from fastapi_rooms.adapters.redis.declared.known import Known
from fastapi_rooms.adapters.redis.history import emitter_rights, once
from fastapi_rooms.adapters.redis.history.lane import new_epoch
from fastapi_rooms.adapters.redis.history.refusals import explain
from fastapi_rooms.adapters.redis.history.rights import cure
from fastapi_rooms.adapters.redis.history.script import Message, decode
from fastapi_rooms.core.position import tag_of
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Channel
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Broadcast

Command: TypeAlias = tuple[bytes | str, ...]

MIN_REMEMBERED = 60.0
"""Seconds that Redis knows a message again, at least: longer than clients repeat it."""

logger = logging.getLogger("fastapi_rooms")


class EmittedHistory:
    """What one emitter knows of rooms that remember.

    Its generators yield commands and are sent the replies; errors are thrown in.

    Args:
        prefix: the first part of every key.
        timeout: seconds that each answer may take.
        sharded: whether it is a cluster.
    """

    def __init__(self, prefix: str, timeout: float, *, sharded: bool) -> None:
        self._prefix = prefix
        self._key_prefix = prefix.encode()
        self._sharded = sharded
        self._calls = once.SHARDED if sharded else once.PLAIN
        self._remembered = max(MIN_REMEMBERED, 10 * timeout)
        self._known = Known()  # by `monotonic`
        self._has_rights = False
        self._has_warned = False

    def doubt(self) -> None:
        """It may be another Redis the next time, or another user."""
        self._has_rights = False
        if not self._sharded:
            self._known.doubt()

    def retention(self, message: Broadcast) -> Generator[Command, Any, Retention | None]:
        """How much is kept of the room that a message goes to; `None` if it is sent plain.

        Raises `UsageError` if there is a room that remembers among several.
        """
        if message.volatile or message.target.rooms is None:
            return None
        if self._known.is_due(monotonic()):
            yield from self._read()
            self._known.keep(monotonic())
        patterns = self._known.declared.history.get(message.namespace)
        return None if patterns is None else retention_of(patterns, message.target)

    def _read(self) -> Generator[Command, Any, None]:
        try:
            reply = yield "HGETALL", key_of(self._key_prefix)
            self._known.read(reply, monotonic())
        except (RedisError, RedisClusterException, OSError, ValueError) as error:
            # In each case what was known before still counts.
            if not isinstance(error, ResponseError | ValueError) or isinstance(
                error, ClusterDownError
            ):
                if self._sharded and self._known.has_read:  # the room's node may well be there
                    return
                raise
            if not self._has_warned:
                self._has_warned = True
                logger.warning(
                    "This emitter cannot read which rooms have a history (%s). What it sends to "
                    "them is delivered, but not kept. If the application has any, allow it: ACL "
                    "SETUSER <user> %s",
                    error,
                    " ".join(emitter_rights.rules(self._prefix)),
                )

    def ensure_rights(self) -> Generator[Command, Any, None]:
        """Try what the script does, once. Raises `AdapterUnavailable` if any of it is forbidden."""
        if self._has_rights:
            return
        refusals = {}
        for command in emitter_rights.trial(self._key_prefix, sharded=self._sharded):
            try:
                yield command
            except NoPermissionError as error:
                refusals[str(command[0])] = str(error)
            except ResponseError:  # for the moment, as of a full memory: the script will say it
                continue
        if refusals:
            raise AdapterUnavailable(f"Redis cannot be used: {cure(self._prefix, refusals)}")
        self._has_rights = True

    def append(
        self, channel: Channel, message: Broadcast, retention: Retention
    ) -> Generator[Command, Any, None]:
        """Have a message numbered, kept and published. Raises `AdapterUnavailable`."""
        assert message.target.rooms is not None
        name = f"{message.namespace}#{message.target.rooms[0]}".encode()
        tag = tag_of(message.origin, message.sequence)
        appended = Message(RoomKey(name, channel), tag, retention, codec.encode(message))
        arguments = (self._key_prefix, appended, new_epoch(), self._remembered)
        try:
            reply = yield once.command(self._calls.evalsha, *arguments)
        except NoScriptError:
            reply = yield once.command(self._calls.eval, *arguments)
        ((position, refusal, is_sent),) = decode(reply, (appended,))
        if position is None:
            raise AdapterUnavailable(
                f"Redis refused to keep the message: {explain(refusal)}", uncertain=is_sent
            )
