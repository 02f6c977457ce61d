"""Proves that what is published arrives: when both connections are up, and every now and then.

Two connections that answer prove little. They may lead to two nodes, or to one that is a master no
longer, lack permissions that were withdrawn, or be dead without a sign of it. So a worker counts as
connected only once a probe, a message to itself, has come back. It sends another every interval,
whatever else arrives, and asks whether the node may be published on at all: workers that share a
demoted master still hear each other there.

A probe that comes back proves one thing more. The carrier keeps the order of what it sends on one
connection; so everything that it took before the probe was sent has been received.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple, Protocol, TypeVar

from fastapi_rooms.adapters.supervisor import complain
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Channel

T = TypeVar("T")

RETRY = 1.0
"""Seconds until a probe that was refused is sent again: permissions can be granted again."""

SURVIVOR_TIMEOUT = 1.0
"""Seconds that a connection which survived the other one has to prove that it is not dead too."""

PATIENCE = 5.0
"""Seconds without an answer after which a publishing connection is aborted, or the interval if that
is longer. It does not depend on how long messages may wait: that is meant for outages."""

AFTER_A_FAULT = 1.0
"""Seconds to wait after an unexpected error, one of a logging handler for example."""

TOLERATED = 2
"""Probes in a row that may be missing while other messages arrive: the carrier may only lag."""


class Refusal(NamedTuple):
    """Why the carrier did not take a probe."""

    reason: str
    forbidden: bool
    """Whether a permission is missing."""
    reached_nobody: bool = False
    """Whether the carrier took it, and says that it goes to nobody: so not to ourselves either."""


class PublishingEnd(Protocol):
    """Where probes are sent."""

    @property
    def connected(self) -> bool:
        """Whether there is a link."""

    @property
    def link(self) -> object:
        """The present link; a new one is another object."""

    def abort(self, reason: str) -> None:
        """Abort the present link."""

    def take_refusal(self) -> str:
        """Why the carrier has refused something since the last call; empty if it has not."""

    async def why_unfit(self) -> str:
        """Why nothing should be published there; empty if all is well."""

    async def try_publish(self, channel: Channel, data: bytes) -> Refusal | None:
        """Publish a message that may be lost; return the refusal, if it is refused."""


class SubscribingEnd(Protocol):
    """Where probes arrive."""

    @property
    def connected(self) -> bool:
        """Whether there is a link, and every subscription is confirmed."""

    @property
    def link(self) -> object:
        """The present link; a new one is another object."""

    @property
    def last_received(self) -> float | None:
        """When anything last arrived, in seconds since the epoch."""

    def abort(self, reason: str) -> None:
        """Abort the present link."""

    def why_stuck(self, seconds: float) -> str:
        """What the carrier has not confirmed for that long; empty if there is nothing."""

    def prove(self, until: float) -> None:
        """Everything that the carrier took before that time has been received."""


class Probe:
    """Sends messages from `publisher` to `subscriber`; aborts both links if they do not arrive.

    `changed` is called when `proven`, `why` or `refused` has changed by what a probe showed.
    """

    def __init__(
        self,
        publisher: PublishingEnd,
        subscriber: SubscribingEnd,
        changed: Callable[[], None],
        *,
        interval: float,
    ) -> None:
        self._publisher = publisher
        self._subscriber = subscriber
        self._changed = changed
        self._interval = interval
        self._channel: Channel | None = None
        self._unproven = asyncio.Event()
        self._settled = asyncio.Event()
        self._number = 0
        self._sent: dict[bytes, float] = {}
        self._missing = 0
        self._publishing = False
        # Whether the subscriber's link outlived the publisher's, with which it was proven.
        self._subscriber_survived = False
        self.proven = False
        """Whether a probe has come back over the present links."""
        self.why = ""
        """Why the last one did not."""
        self.refused = False
        """Whether the permission to publish it is missing."""

    @property
    def channel(self) -> Channel | None:
        """What probes are sent on; if `None`, links that are up count as proof."""
        return self._channel

    def use(self, channel: Channel | None) -> None:
        """Send probes on another channel from now on, and disregard those in flight."""
        self._channel = channel
        self._sent.clear()
        self._settled.set()

    def links_changed(self) -> None:
        """A link came or went, or refuses something: what it had proven does not hold any more."""
        publisher, subscriber = self._publisher, self._subscriber
        was_publishing, self._publishing = self._publishing, publisher.connected
        if not subscriber.connected:
            self._subscriber_survived = False
        elif was_publishing and not publisher.connected:
            self._subscriber_survived = True
        if not (publisher.connected and subscriber.connected):
            self.proven = self.refused = False
            self.why = ""
            self._missing = 0
            self._sent.clear()
            self._unproven.clear()
            self._settled.set()
        elif not self.proven:
            self._unproven.set()
        elif refusal := publisher.take_refusal():
            self.proven = False
            self.why = f"it refuses to publish: {refusal}"
            self._unproven.set()

    def received(self, data: bytes) -> None:
        """A probe has come back; one of another run is ignored."""
        sent = self._sent.get(data)
        if sent is None:
            return
        self._sent = {number: later for number, later in self._sent.items() if later > sent}
        self._missing = 0
        self._subscriber.prove(sent)
        if data == b"%d" % self._number:
            self._settled.set()

    async def run(self) -> None:
        """Probe again and again, until cancelled: nothing else notices a mute connection."""
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
            if stuck := subscriber.why_stuck(self._interval):
                self._unproven.clear()
                subscriber.abort(stuck)
            elif publisher.connected and subscriber.connected:
                await self._prove()

    async def _prove(self) -> None:
        links = self._publisher.link, self._subscriber.link
        received_before = self._subscriber.last_received  # compared only: clocks can be set back
        _ = self._publisher.take_refusal()  # what was refused before is not held against this probe
        refused: Refusal | None = None
        try:
            problem = await self._answer(self._publisher.why_unfit())
            if not problem and self._channel is not None:
                refused = await self._send(self._channel)
            elif not problem:
                self._sent.clear()
        except TimeoutError:
            if links[0] is self._publisher.link:
                self._unproven.clear()
                self._publisher.abort("no answer comes")
            return
        except AdapterUnavailable:  # the link was aborted already, or the budget is exhausted
            await asyncio.sleep(min(RETRY, self._interval))
            return
        if links != (self._publisher.link, self._subscriber.link):
            return
        arrived = not (problem or refused or b"%d" % self._number in self._sent)
        if not (problem or refused or arrived):
            self._missing += 1
            if self._missing > TOLERATED or self._subscriber.last_received == received_before:
                problem = "a message to ourselves did not come back"
        if refused is not None and refused.reached_nobody:
            self._missing += 1
            if self.proven or self._subscriber_survived or self._missing > TOLERATED:
                problem = refused.reason
        if problem:
            self._unproven.clear()
            for end in (self._publisher, self._subscriber):
                end.abort(problem)
        elif refused is not None:
            self.why = f"it refused to publish: {refused.reason}"
            self.refused = refused.forbidden
            self.proven = False
            self._unproven.clear()
            self._changed()
            await asyncio.sleep(min(RETRY, self._interval))
            self.links_changed()
        elif arrived and not self.proven:
            self.proven, self.why, self.refused = True, "", False
            self._subscriber_survived = False
            self._unproven.clear()
            self._changed()

    async def _send(self, channel: Channel) -> Refusal | None:
        """Send a probe and wait for it, or until a link is lost; or return the refusal."""
        self._number += 1
        number = b"%d" % self._number
        self._settled.clear()
        self._sent[number] = time.time()
        try:
            refusal = await self._answer(self._publisher.try_publish(channel, number))
        except (AdapterUnavailable, TimeoutError):
            self._sent.pop(number, None)
            raise
        if refusal is not None:
            self._sent.pop(number, None)
            return refusal
        survived, interval = self._subscriber_survived, self._interval
        with suppress(TimeoutError):
            async with asyncio.timeout(min(SURVIVOR_TIMEOUT, interval) if survived else interval):
                await self._settled.wait()
        return None

    async def _answer(self, answer: Awaitable[T]) -> T:
        """Wait for the carrier's answer, but not for as long as a message may wait in an outage."""
        async with asyncio.timeout(max(PATIENCE, self._interval)):
            return await answer
