"""Publishing to RabbitMQ one message at a time: one sender blocks, and one is awaited.

A message is signed only when the one before it is accepted, as receivers drop one with a lower
number as a duplicate. What a lost connection leaves unanswered is sent once more on a new one, with
the same number, so that receivers drop it if they have had it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import NoReturn

from fastapi_rooms.adapters.rabbitmq.emit_clients.wires import Wire
from fastapi_rooms.adapters.rabbitmq.links.access import Access
from fastapi_rooms.adapters.rabbitmq.links.frames import (
    Confirmed,
    Event,
    ProtocolError,
    publish,
)
from fastapi_rooms.adapters.rabbitmq.links.link import Link
from fastapi_rooms.adapters.rabbitmq.links.reasons import Refused, is_refused, reason_of
from fastapi_rooms.adapters.rabbitmq.links.steps import CHANNEL, log_in_to_publish
from fastapi_rooms.adapters.rabbitmq.pubsub.messages import Sent, encode, exchange_of, key_of
from fastapi_rooms.errors import AdapterUnavailable, UsageError
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.drafts import Draft, Origin

FAILURES = (Refused, ProtocolError, OSError)  # a TimeoutError is an OSError


class _Sender:
    """What both senders have: an origin of their own."""

    def __init__(self, access: Access, prefix: str, timeout: float) -> None:
        self._access = access
        self._exchange = exchange_of(prefix)
        self._timeout = timeout
        self._origin = Origin()
        self._id = secrets.token_bytes(8)
        self._number = 0

    def _encode(self, draft: Draft) -> bytes:
        """A draft, signed, as it is to be published: it is its turn now."""
        self._number += 1
        data = codec.encode(self._origin.number(draft))
        sent = Sent(self._id, self._number, monotonic(), self._timeout, draft.channel, data)
        return publish(CHANNEL, self._exchange.encode(), key_of(draft.channel), encode(sent))

    @property
    def _late(self) -> AdapterUnavailable:
        return AdapterUnavailable(f"RabbitMQ did not accept it in {self._timeout:g} s.")


def _failure(error: BaseException) -> AdapterUnavailable:
    return AdapterUnavailable(f"RabbitMQ did not accept it: {reason_of(error)}")


def _refuse_question() -> NoReturn:
    raise UsageError(
        "RabbitMQ does not know who is present. In memory and on Redis it can be had: give the "
        "emitter the URL of a Redis."
    )


class SyncSender(_Sender):
    """Blocks. Threads of one process may share it; after a fork, make another."""

    def __init__(self, access: Access, prefix: str, timeout: float) -> None:
        super().__init__(access, prefix, timeout)
        self.owner = os.getpid()
        """The process it belongs to."""
        self._turn = threading.Lock()
        self._wire: Wire | None = None

    def send(self, draft: Draft) -> None:
        """Send. Raises `AdapterUnavailable`."""
        if not self._turn.acquire(timeout=self._timeout):
            raise self._late
        try:
            data, deadline = self._encode(draft), monotonic() + self._timeout
            if not self._publish(data, deadline):
                raise AdapterUnavailable("RabbitMQ refused to take it.")
        finally:
            self._turn.release()

    def _publish(self, data: bytes, deadline: float) -> bool:
        was_open = self._wire is not None
        while True:
            try:
                if self._wire is None:
                    self._wire = Wire(self._access, self._exchange, deadline)
                return self._wire.publish(data, deadline)
            except BaseException as error:
                # Also where a signal's handler raises: a confirmation that is yet to come would be
                # taken for that of the next message.
                if self._wire is not None:
                    self._wire.abort()
                    self._wire = None
                if not isinstance(error, FAILURES):
                    raise
                # The connection may have been idle, and closed: that is no reason for an error.
                if not was_open or isinstance(error, TimeoutError) or is_refused(error):
                    raise _failure(error) from error
                was_open = False

    def ask(self, question: object) -> NoReturn:  # noqa: ARG002 -- it is not even looked at
        """Raise `UsageError`: RabbitMQ answers no questions."""
        _refuse_question()

    def close(self) -> None:
        """Close the connection."""
        with self._turn:
            wire, self._wire = self._wire, None
            if wire is not None:
                wire.close()


class AsyncSender(_Sender):
    """Awaits. Belongs to one event loop of one process."""

    def __init__(self, access: Access, prefix: str, timeout: float) -> None:
        super().__init__(access, prefix, timeout)
        self._turn = asyncio.Lock()
        self._link: Link | None = None
        self._published = 0  # on this link, with what `begin_publishing` published
        self._answer: asyncio.Future[bool] | None = None
        self._unblocked = asyncio.Event()

    async def send(self, draft: Draft) -> None:
        """Send. Raises `AdapterUnavailable`."""
        limit = asyncio.timeout(self._timeout)
        try:
            async with limit, self._turn:
                accepted = await self._publish(self._encode(draft))
        except TimeoutError:
            if not limit.expired():
                raise
            link = self._link
            if link is not None and link.blocked:
                raise AdapterUnavailable(
                    "RabbitMQ did not accept it: it takes nothing that is published until this is "
                    f"over: {link.blocked}"
                ) from None
            raise self._late from None
        if not accepted:
            raise AdapterUnavailable("RabbitMQ refused to take it.")

    async def _publish(self, data: bytes) -> bool:
        was_open = self._link is not None
        while True:
            try:
                if self._link is None or self._link.lost.done():
                    await self._open()
                return await self._publish_on(self._link, data)
            except FAILURES as error:
                if not was_open or is_refused(error):
                    raise _failure(error) from error
                was_open = False

    async def _open(self) -> None:
        if self._link is not None:
            link, self._link = self._link, None
            await link.close()
        # Whoever waits has the limit; this one is for the hosts.
        steps = partial(log_in_to_publish, self._access, self._exchange)
        self._link = link = await Link.open(self._access, steps, self._timeout)
        self._published = 1
        link.on_event = self._happened
        link.on_writable = self._check_blocked
        self._check_blocked()

    async def _publish_on(self, link: Link | None, data: bytes) -> bool:
        assert link is not None
        if link.blocked:
            await self._wait_unblocked(link)
        if not link.lost.done():
            self._published += 1
            answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._answer = answer
            link.write(data)
            try:
                await asyncio.wait((answer, link.lost), return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._answer = None
                if not answer.done() and not link.lost.done():
                    link.abort("what was sent is not waited for any more")
            if answer.done():
                return answer.result()
        raise ConnectionError(link.lost.result())

    async def _wait_unblocked(self, link: Link) -> None:
        """Return when RabbitMQ takes what is published, or the connection is lost."""
        unblocked = asyncio.ensure_future(self._unblocked.wait())
        try:
            await asyncio.wait((unblocked, link.lost), return_when=asyncio.FIRST_COMPLETED)
        finally:
            unblocked.cancel()

    def _happened(self, event: Event) -> None:
        answer = self._answer
        if answer is None or answer.done():
            return
        if isinstance(event, Confirmed) and event.tag == self._published:
            answer.set_result(event.accepted)

    def _check_blocked(self) -> None:
        if self._link is not None and self._link.blocked:
            self._unblocked.clear()
        else:
            self._unblocked.set()

    async def ask(self, question: object) -> NoReturn:  # noqa: ARG002 -- it is not even looked at
        """Raise `UsageError`: RabbitMQ answers no questions."""
        _refuse_question()

    async def close(self) -> None:
        """Close the connection."""
        async with self._turn:
            link, self._link = self._link, None
            if link is not None:
                with suppress(OSError):
                    await link.close()
