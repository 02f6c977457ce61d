"""Publishing, and asking, by a plain client of redis-py, synchronous or not.

Strategy: what is sent to Redis is decided by generators, which yield commands and are sent the
replies. Two short loops run them, one that blocks and one that awaits, and do nothing else.

A sender publishes one message at a time, and signs the next one only when the last one is accepted:
two messages in flight on two connections of a pool could overtake each other, and receivers drop a
message with a lower number as a duplicate. What redis-py sends again has the same number, so that
receivers drop it.

What goes to a room that remembers is appended by the commands of `history.emitted`, in its turn.
Each command of a question has a turn of its own, so that no long answer holds up what is sent.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Generator
from functools import partial
from inspect import Parameter, signature
from time import monotonic
from typing import Any, Final, TypeVar

from redis.connection import ConnectionPool
from redis.exceptions import (
    ClusterError,
    InvalidResponse,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from fastapi_rooms.adapters.redis.emit_clients.access import Access
from fastapi_rooms.adapters.redis.emit_clients.turns import Asking, Sending, Turn
from fastapi_rooms.adapters.redis.history.emitted import EmittedHistory
from fastapi_rooms.adapters.redis.links import role
from fastapi_rooms.adapters.redis.links.reasons import cause_of
from fastapi_rooms.adapters.redis.presence.questions import Command, Question
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.drafts import Draft, ForeignDraft, Origin
from fastapi_rooms.wire.envelope import Broadcast

T = TypeVar("T")

ROLE_INTERVAL: Final = 10.0
"""Seconds until a node is asked again whether it is a master; workers ask as often."""

MOVING_DELAY: Final = 0.05
"""Seconds until a cluster is asked again whose slot is on its way from one node to another."""

FAILURES: Final = (RedisError, RedisClusterException, OSError)
"""What redis-py raises for a command that failed."""

NONSENSE: Final = "its answer makes no sense"
"""Where a client makes something of replies, and cannot."""


_PARAMETERS: Final = signature(ConnectionPool.get_connection).parameters
_NAMED: Final = ("PUBLISH",) if _PARAMETERS["command_name"].default is Parameter.empty else ()
"""What a pool is asked for a connection with: for which command, before redis-py 5.3."""


class Once(tuple[str, bytes, bytes]):
    """A command that redis-py must not repeat: whoever gets it does not know it again."""

    __slots__ = ()


class _Sender:
    """What both senders have: a client, and an origin of their own."""

    def __init__(self, access: Access, prefix: str, timeout: float) -> None:
        self._prefix = prefix
        self._access = access
        self._timeout = timeout
        self._origin = Origin()
        self._history = EmittedHistory(prefix, timeout, sharded=access.sharded)
        self._client: Any = None
        self._ask_role_at = 0.0
        """When the node is asked again whether it is a master, by `monotonic`."""

    def _sending(self, draft: Draft | ForeignDraft, turn: Sending) -> Generator[Command, Any, None]:
        """The commands that send a draft, to a node that is no replica."""
        yield from self._check_role()
        foreign = draft if isinstance(draft, ForeignDraft) else draft.foreign
        if isinstance(draft, Draft):
            yield from self._sending_native(draft, turn)
        if foreign is not None:
            yield Once(("PUBLISH", foreign.channel, foreign.data))

    def _sending_native(self, draft: Draft, turn: Sending) -> Generator[Command, Any, None]:
        if isinstance(draft.message, Broadcast):
            retention = yield from self._history.retention(draft.message)
            if retention is not None:
                yield from self._history.ensure_rights()
                message = self._origin.number(draft)
                assert isinstance(message, Broadcast)
                turn.uncertain = True
                yield from self._history.append(draft.channel, message, retention)
                return
        verb = "SPUBLISH" if self._access.sharded else "PUBLISH"
        yield verb, draft.channel, codec.encode(self._origin.number(draft))

    def _asking(self, command: Command) -> Generator[Command, Any, Any]:
        """A command that reads, from a node that is no replica, and its reply."""
        yield from self._check_role()
        return (yield command)

    def _check_role(self) -> Generator[Command, Any, None]:
        """Raise `AdapterUnavailable` if the node is a replica.

        The node may be demoted, or redis-py may silently reconnect to another one; so the node is
        asked from time to time.
        """
        if self._access.sharded or monotonic() < self._ask_role_at:
            return
        for command in (("HELLO",), ("ROLE",)):  # without a number HELLO changes nothing
            try:
                reply = yield command
            except ResponseError:
                continue
            if problem := role.why_not_master(reply):
                raise AdapterUnavailable(f"Redis cannot be used: {problem}")
            break
        self._ask_role_at = monotonic() + ROLE_INTERVAL

    def _failed(self) -> None:
        """It may be another node the next time, or other rights."""
        self._ask_role_at = 0.0
        self._history.doubt()

    @property
    def _late(self) -> str:
        return f" in {self._timeout:g} s."


class SyncSender(_Sender):
    """Blocks. Threads of one process may share it; after a fork, make another."""

    def __init__(self, access: Access, prefix: str, timeout: float) -> None:
        super().__init__(access, prefix, timeout)
        self.owner = os.getpid()
        """The process it belongs to."""
        self._turn = threading.Lock()

    def send(self, draft: Draft | ForeignDraft) -> None:
        """Send. Raises `AdapterUnavailable`, or `UsageError` for what a history cannot take."""
        self._take(turn := Sending(), self._sending(draft, turn))

    def ask(self, question: Question[T]) -> T:
        """Ask. Raises `AdapterUnavailable`, or `UsageError` for what nobody can answer."""
        step: Callable[[], Command] = partial(next, question)
        while True:
            try:
                command = step()
            except StopIteration as end:
                answer: T = end.value
                return answer
            try:
                reply = self._take(Asking(self._prefix), self._asking(command))
            except AdapterUnavailable as error:
                step = partial(question.throw, error)
            else:
                step = partial(question.send, reply)

    def _take(self, turn: Turn, commands: Generator[Command, Any, Any]) -> Any:
        if not self._turn.acquire(timeout=self._timeout):
            raise turn.failed(self._late)
        try:
            if self._client is None:
                self._client = self._access.open()
            return self._run(commands)
        except FAILURES as error:
            self._failed()
            raise turn.failure(error) from cause_of(error)
        except AdapterUnavailable:
            self._failed()
            raise
        finally:
            self._turn.release()

    def _run(self, commands: Generator[Command, Any, T]) -> T:
        step: Callable[[], Command] = partial(next, commands)
        while True:
            try:
                command = step()
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                step = partial(commands.send, self._execute(command))
            except FAILURES as error:
                step = partial(commands.throw, error)

    def _execute_once(self, command: Once) -> Any:
        """A command that is never sent again. The pool has looked whether the connection lives."""
        pool = self._client.connection_pool
        connection = pool.get_connection(*_NAMED)
        try:
            connection.send_command(*command)
            return connection.read_response()
        except BaseException:
            connection.disconnect()
            raise
        finally:
            pool.release(connection)

    def _execute(self, command: Command) -> Any:
        if isinstance(command, Once):
            return self._execute_once(command)
        end = monotonic() + self._timeout
        while True:
            try:
                return self._client.execute_command(*command, NEVER_DECODE=True)
            except (TypeError, ValueError) as error:
                raise InvalidResponse(NONSENSE) from error
            except ClusterError as error:
                if not _is_moving(error) or monotonic() >= end:
                    raise
            time.sleep(MOVING_DELAY)

    def close(self) -> None:
        """Close the connections, unless the client is the user's."""
        with self._turn:
            client, self._client = self._client, None
            if client is not None and self._access.owned:
                for each in self._access.all_of(client):
                    each.close()


class AsyncSender(_Sender):
    """Awaits. Belongs to one event loop of one process."""

    def __init__(self, access: Access, prefix: str, timeout: float) -> None:
        super().__init__(access, prefix, timeout)
        self._turn = asyncio.Lock()

    async def send(self, draft: Draft | ForeignDraft) -> None:
        """Send. Raises `AdapterUnavailable`, or `UsageError` for what a history cannot take."""
        await self._take(turn := Sending(), self._sending(draft, turn))

    async def ask(self, question: Question[T]) -> T:
        """Ask. Raises `AdapterUnavailable`, or `UsageError` for what nobody can answer."""
        step: Callable[[], Command] = partial(next, question)
        while True:
            try:
                command = step()
            except StopIteration as end:
                answer: T = end.value
                return answer
            try:
                reply = await self._take(Asking(self._prefix), self._asking(command))
            except AdapterUnavailable as error:
                step = partial(question.throw, error)
            else:
                step = partial(question.send, reply)

    async def _take(self, turn: Turn, commands: Generator[Command, Any, Any]) -> Any:
        limit = asyncio.timeout(self._timeout)
        try:
            async with limit, self._turn:
                if self._client is None:
                    self._client = self._access.open()
                return await self._run(commands)
        except FAILURES as error:  # the limit's `TimeoutError` is one, too
            if isinstance(error, TimeoutError) and limit.expired():
                raise turn.failed(self._late) from None
            self._failed()
            raise turn.failure(error) from cause_of(error)
        except AdapterUnavailable:
            self._failed()
            raise

    async def _run(self, commands: Generator[Command, Any, T]) -> T:
        step: Callable[[], Command] = partial(next, commands)
        while True:
            try:
                command = step()
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                step = partial(commands.send, await self._execute(command))
            except FAILURES as error:
                step = partial(commands.throw, error)

    async def _execute_once(self, command: Once) -> Any:
        pool = self._client.connection_pool
        connection = await pool.get_connection(*_NAMED)
        try:
            await connection.send_command(*command)
            return await connection.read_response()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await pool.release(connection)

    async def _execute(self, command: Command) -> Any:
        if isinstance(command, Once):
            return await self._execute_once(command)
        while True:
            try:
                return await self._client.execute_command(*command, NEVER_DECODE=True)
            except (TypeError, ValueError) as error:
                raise InvalidResponse(NONSENSE) from error
            except ClusterError as error:
                if not _is_moving(error):
                    raise
            await asyncio.sleep(MOVING_DELAY)

    async def close(self) -> None:
        """Close the connections, unless the client is the user's."""
        async with self._turn:
            client, self._client = self._client, None
            if client is not None and self._access.owned:
                for each in self._access.all_of(client):
                    await each.aclose()


def _is_moving(error: ClusterError) -> bool:
    """Whether a slot is moving, and the client has tried it at both nodes as often as it does.

    Nothing was done, and it would be done once if it is repeated.
    """
    return not isinstance(error, ResponseError)
