"""Proves that what is published arrives: when both connections are up, and every now and then.

Two connections that answer prove little. They may lead to two nodes, or to one that was a master
and is none any more, or have rights that were withdrawn, or be dead without a sign of it. So a
worker only counts as connected once a message of its own has come round. It sends another every
interval, whatever else arrives, and asks the node for its role: all who are on a demoted master
still hear each other there.

A message that comes round proves one thing more. Redis keeps the order of what it sends on one
connection; so all that it took before that message was sent has been received.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import hiredis

from fastapi_rooms.adapters.redis.pubsub.publisher import Publisher
from fastapi_rooms.adapters.redis.pubsub.subscriber import Subscriber
from fastapi_rooms.adapters.supervisor import complain
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Channel

T = TypeVar("T")

RETRY = 1.0
"""Seconds after which what was refused is tried again: rights can be given back."""

SOON = 1.0
"""Seconds that a connection which outlived the other one has to prove that it is not dead too."""

PATIENCE = 5.0
"""Seconds without an answer after which a publishing connection is given up, or the interval if
that is longer: who lets messages wait for long means an outage, not a connection that is dead."""

AFTER_A_FAULT = 1.0
"""Seconds after a fault of our own, or of a handler of the log, until it goes on."""

TOLERATED = 2
"""Messages in a row that may be missing while others arrive: Redis may only lag behind."""


class Probe:
    """Sends messages from `publisher` to `subscriber`, and gives both up if they do not arrive."""

    def __init__(
        self,
        publisher: Publisher,
        subscriber: Subscriber,
        channel: Channel | None,
        changed: Callable[[], None],
        *,
        interval: float,
    ) -> None:
        self._publisher = publisher
        self._subscriber = subscriber
        self.channel = channel
        """What it is sent on; without one, links that are up are all the proof there is."""
        self._changed = changed
        self._interval = interval
        self._unproven = asyncio.Event()
        self._settled = asyncio.Event()
        self._number = 0
        self._sent: dict[bytes, float] = {}
        self._missing = 0
        self._publishing = False
        self._outlived = False  # whether the subscriber did, the publisher it was proven with
        self.proven = False
        """Whether a message has come round on the present connections."""
        self.why = ""
        """Why the last one did not."""
        self.refused = False
        """Whether we lack the right to publish it."""

    def use(self, channel: Channel | None) -> None:
        """Send them on another channel from now on; what is on its way means nothing."""
        self.channel = channel
        self._sent.clear()
        self._settled.set()

    def links_changed(self) -> None:
        """A connection came or went, or refuses: what was proven of it is so no more."""
        publisher, subscriber = self._publisher, self._subscriber
        was_publishing, self._publishing = self._publishing, publisher.connected
        if not subscriber.connected:
            self._outlived = False
        elif was_publishing and not publisher.connected:
            self._outlived = True
        if not (publisher.connected and subscriber.connected):
            self.proven = self.refused = False
            self.why = ""
            self._missing = 0
            self._sent.clear()
            self._unproven.clear()
            self._settled.set()
        elif publisher.refusal and self.proven:
            self.proven = False
            self.why = f"it refuses to publish: {publisher.refusal}"
            self._unproven.set()
        elif not self.proven:
            self._unproven.set()

    def received(self, data: bytes) -> None:
        """One has come round; one that we did not send means nothing."""
        sent = self._sent.get(data)
        if sent is None:
            return
        self._sent = {number: later for number, later in self._sent.items() if later > sent}
        self._missing = 0
        self._subscriber.prove(sent)
        if data == b"%d" % self._number:
            self._settled.set()

    async def run(self) -> None:
        """Prove it again and again, until cancelled: nothing else notices a mute connection."""
        while True:
            try:
                await self._run()
            except Exception as error:  # noqa: BLE001
                complain("Whether messages arrive could not be proven; it is tried again", error)
                await asyncio.sleep(min(AFTER_A_FAULT, self._interval))

    async def _run(self) -> None:
        publisher, subscriber = self._publisher, self._subscriber
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._unproven.wait()
            if subscriber.is_stuck(self._interval):
                self._unproven.clear()
                subscriber.abort(f"{subscriber.verb} is not confirmed for {self._interval} s")
            elif publisher.connected and subscriber.connected:
                await self._prove()

    async def _prove(self) -> None:
        links = self._publisher.link, self._subscriber.link
        heard = self._subscriber.last_received  # no clock is asked below: those can be set back
        self._publisher.refusal = ""
        problem = refused = None
        try:
            problem = await self._answer(self._publisher.why_not_master())
            if not problem and self.channel is not None:
                refused = await self._send(self.channel)
            elif not problem:
                self._sent.clear()
        except TimeoutError:
            if links[0] is self._publisher.link:
                self._unproven.clear()
                self._publisher.abort("no answer comes")
            return
        except AdapterUnavailable:  # it has given up its own connection, or has too much to send
            await asyncio.sleep(min(RETRY, self._interval))
            return
        if links != (self._publisher.link, self._subscriber.link):
            return
        arrived = not (problem or refused or b"%d" % self._number in self._sent)
        if not (problem or refused or arrived):
            self._missing += 1
            if self._missing > TOLERATED or self._subscriber.last_received == heard:
                problem = "a message to ourselves did not come back"
        if problem:
            self._unproven.clear()
            for user in (self._publisher, self._subscriber):
                user.abort(problem)
        elif refused is not None:
            self.why = f"it refused to publish: {refused}"
            self.refused = str(refused).startswith(("NOPERM", "NOAUTH"))
            self.proven = False
            self._unproven.clear()
            self._changed()
            await asyncio.sleep(min(RETRY, self._interval))
            self.links_changed()
        elif arrived and not self.proven:
            self.proven, self.why, self.refused = True, "", False
            self._outlived = False
            self._unproven.clear()
            self._changed()

    async def _send(self, channel: Channel) -> hiredis.ReplyError | None:
        """Send one and wait for it, or until a connection goes; or return the refusal."""
        self._number += 1
        number = b"%d" % self._number
        self._settled.clear()
        self._sent[number] = time.time()
        try:
            refusal = await self._answer(self._publisher.try_out(channel, number))
        except (AdapterUnavailable, TimeoutError):
            self._sent.pop(number, None)
            raise
        if refusal is not None:
            self._sent.pop(number, None)
            return refusal
        with suppress(TimeoutError):
            async with asyncio.timeout(
                min(SOON, self._interval) if self._outlived else self._interval
            ):
                await self._settled.wait()
        return None

    async def _answer(self, answer: Awaitable[T]) -> T:
        """Wait for Redis' answer, but never for as long as a message may wait in an outage."""
        async with asyncio.timeout(max(PATIENCE, self._interval)):
            return await answer
