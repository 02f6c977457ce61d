"""Carries out what other workers ask, and answers them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from functools import partial
from inspect import isawaitable
from typing import Any, NamedTuple

from fastapi_rooms.cluster.commands import (
    COMMANDS,
    EMPTY_NAMESPACE,
    CommandTarget,
    LongList,
    bytes_of,
)
from fastapi_rooms.cluster.failures import Failures
from fastapi_rooms.cluster.pending import pieces_of
from fastapi_rooms.cluster.sender import Sender
from fastapi_rooms.concurrency import FAULTS, Tasks
from fastapi_rooms.errors import AdapterUnavailable, MalformedEnvelope, RoomsError, UsageError
from fastapi_rooms.wire.envelope import Reply, Request
from fastapi_rooms.wire.verbs import Verb

MAX_RUNNING = 1024
"""Requests of others that may be under way here at a time; more are refused."""


MAX_LONG_LISTS = 16
"""How many of those may be answers with thousands of sockets or rooms. They are made one after the
other: each may take megabytes, and whoever asks has sent a few bytes."""


class UnsupportedVerb(Exception):
    """The request has a verb that only another version knows."""


class _Response(NamedTuple):
    data: bytes
    refused: bool = False
    unsupported: bool = False


class Responder:
    """The requests of other workers that are under way here."""

    def __init__(self, sender: Sender, namespaces: Mapping[str, CommandTarget[Any]]) -> None:
        self._sender = sender
        self._namespaces = namespaces
        self._tasks = Tasks()
        self._failures = Failures(asyncio.get_running_loop().time)
        self._long_lists = 0
        self._turn = asyncio.Lock()
        self._closed = False

    def requested(self, request: Request) -> bool:
        """Carry it out, or begin to: what arrives later finds it done, unless it has to wait.

        Returns false if it makes no sense here.
        """
        if self._closed or len(self._tasks) >= 2 * MAX_RUNNING:
            return True  # not even refusals get out: whoever asks finds out by the timeout
        refusal = result = None
        makes_sense = True
        try:
            result = self._execute(request)
        except FAULTS as error:  # whoever asks is told
            makes_sense = not isinstance(error, MalformedEnvelope)
            refusal = self._refusal(request, error)
        if request.id or isawaitable(result):
            task = self._tasks.create(self._answer(request, result, refusal), _task_name(request))
            if isinstance(result, Coroutine | LongList):
                task.add_done_callback(partial(self._answered, result))
        return makes_sense

    async def close(self, timeout: float) -> None:
        """Cancel what is under way; it has `timeout` seconds to end by that."""
        self._closed = True
        await self._tasks.cancel(timeout)

    def _execute(self, request: Request) -> Any:
        command = COMMANDS.get(request.verb)
        if command is None:
            raise UnsupportedVerb
        if len(self._tasks) >= MAX_RUNNING:
            raise UsageError(f"{MAX_RUNNING} requests are under way here already.")
        namespace = self._namespaces.get(request.namespace, EMPTY_NAMESPACE)
        result = command(namespace, request.target, request.arguments)
        if isinstance(result, LongList):
            if self._long_lists >= MAX_LONG_LISTS:
                result.close()
                raise UsageError(f"{MAX_LONG_LISTS} long answers are being made here already.")
            self._long_lists += 1
        return result

    async def _answer(self, request: Request, result: Any, refusal: _Response | None) -> None:
        if not isinstance(result, LongList):
            await self._await_and_send(request, result, refusal)
            return
        async with self._turn:
            await self._await_and_send(request, result, refusal)

    def _answered(self, result: Coroutine[Any, Any, Any] | LongList, _: object) -> None:
        """The task has ended that was to answer: by a cancellation, it may not even have begun."""
        result.close()
        if isinstance(result, LongList):
            self._long_lists -= 1

    async def _await_and_send(
        self, request: Request, result: Any, refusal: _Response | None
    ) -> None:
        try:
            if isawaitable(result):
                result = await result
            response = refusal or _Response(bytes_of(result))
        except FAULTS as error:
            response = self._refusal(request, error)
        if not request.id or self._closed:
            return
        data, refused, unsupported = response
        pieces = pieces_of(data)
        with suppress(AdapterUnavailable):  # whoever asks finds out by the timeout
            for number, piece in enumerate(pieces):
                last = number == len(pieces) - 1
                reply = Reply(
                    self._sender.node, 0, request.id, number, last, refused, piece, unsupported
                )
                await self._sender.send(request.origin, reply)
                if not last:
                    await asyncio.sleep(0)

    def _refusal(self, request: Request, error: BaseException) -> _Response:
        """The refusal, for whoever asks; also for our own log, if it is not their fault."""
        verb = request.verb[:80]
        if isinstance(error, UnsupportedVerb):
            reason = f"The verb {verb!r} is unknown to this worker's version."
            return _Response(_text(reason), refused=True, unsupported=True)
        if isinstance(error, MalformedEnvelope):
            self._failures.malformed(verb, error)
        elif not isinstance(error, RoomsError):
            self._failures.failed(verb, error)
        return _Response(_text(reason_of(error)), refused=True)


def reason_of(error: BaseException) -> str:
    """Why a request could not be carried out, for whoever asked."""
    return str(error) if isinstance(error, RoomsError) else f"{type(error).__name__}: {error}"


def _text(reason: str) -> bytes:
    return reason.encode(errors="backslashreplace")


def _task_name(request: Request) -> str:
    """What the task does that answers, for whoever has to find it."""
    if request.verb == Verb.EMIT:
        return f"The handler of the server-side event {str(request.arguments.get('event'))[:80]!r}"
    return f"The answer to {request.verb[:80]!r}"
