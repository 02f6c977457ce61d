"""Asks Node servers, and waits for as many answers as there are subscribers.

Answers are subscribed to only while something is asked: those to all others come on the same
channel.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import AdapterUnavailable, MalformedEnvelope, NotStarted
from fastapi_rooms.socketio.adapter import CapableAdapter
from fastapi_rooms.socketio.pending import PendingQuestion
from fastapi_rooms.types import Channel
from fastapi_rooms.wire.socketio import requests
from fastapi_rooms.wire.socketio.channels import Channels
from fastapi_rooms.wire.socketio.requests import Kind


class Answers(NamedTuple):
    """What Node servers have answered."""

    values: list[Any]
    """One for each that has, by the kind of the question."""
    silent: int
    """How many have not."""


class Requester:
    """The questions of this worker that are under way."""

    def __init__(
        self,
        adapter: CapableAdapter,
        channels: Channels,
        uid: str,
        drop: Callable[[], None],
    ) -> None:
        self._adapter = adapter
        self._channels = channels
        self._uid = uid
        self._drop = drop
        self._loop = asyncio.get_running_loop()
        self._pending: dict[str, tuple[PendingQuestion, asyncio.Future[None]]] = {}
        self._listening: Counter[Channel] = Counter()
        self._closed = False

    async def ask(
        self,
        namespace: str,
        kind: Kind,
        target: Target,
        timeout: float,
        data: list[Any] | None = None,
    ) -> Answers:
        """Ask every Node server, and return with what they have answered in time.

        Raises:
            AdapterUnavailable: the adapter did not accept it in time.
            NotStarted: the manager was closed in the meantime, or before.
        """
        if self._closed:
            raise NotStarted
        request_id = secrets.token_hex(8)
        question = requests.encode(self._uid, kind, target, request_id=request_id, data=data)
        pending = PendingQuestion(request_id, kind)
        answered: asyncio.Future[None] = self._loop.create_future()
        channels = [
            self._channels.responses(namespace),
            self._channels.responses(namespace, self._uid),
        ]
        deadline = self._loop.time() + timeout
        self._pending[request_id] = (pending, answered)
        self._listening.update(channels)
        try:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._adapter.subscribe(channels)
                    pending.asked(await self._publish(namespace, question))
            except TimeoutError:
                raise AdapterUnavailable(
                    "The time was up before the adapter had accepted the request to the Socket.IO "
                    "servers."
                ) from None
            if not pending.is_done:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        await answered
        finally:
            del self._pending[request_id]
            self._listening.subtract(channels)
            if not self._closed:
                self._adapter.unsubscribe([c for c in channels if not self._listening[c]])
        if self._closed:
            raise NotStarted
        return Answers(pending.answers, pending.silent)

    async def _publish(self, namespace: str, question: bytes) -> int:
        """Publish a question; returns how many are to answer it.

        Those who only look on, by a pattern, are told as well, and do not count.
        """
        channel = self._channels.requests(namespace)
        results = await asyncio.gather(  # written at once, so that hardly anybody comes in between
            self._adapter.count_subscribers(channel),
            self._adapter.publish_once(channel, question),
            return_exceptions=True,
        )
        counts: list[int] = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            counts.append(result)
        return min(counts)

    def reached(self, request_id: str) -> None:
        """A question of this worker's came back to it: it is one of those who got it."""
        if request_id in self._pending:
            pending, answered = self._pending[request_id]
            pending.reached_own()
            _wake_if_done(pending, answered)

    def replied(self, data: bytes) -> None:
        """Take an answer; drop what is to somebody else's question."""
        for pending, answered in list(self._pending.values()):
            if pending.is_about(data):
                try:
                    pending.take(data)
                except MalformedEnvelope:
                    self._drop()
                _wake_if_done(pending, answered)

    def close(self) -> None:
        """Wake up whoever waits; they get `NotStarted`."""
        self._closed = True
        for _, answered in self._pending.values():
            if not answered.done():
                answered.set_result(None)


def _wake_if_done(pending: PendingQuestion, answered: asyncio.Future[None]) -> None:
    if pending.is_done and not answered.done():
        answered.set_result(None)
