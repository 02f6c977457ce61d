"""Proves that what is published arrives: when both connections are up, and whenever it is quiet.

Two connections that answer prove little. They may lead to two nodes, or to one that was a master
and is none any more, or have rights that were withdrawn. So a worker only counts as connected once
a message of its own has come round; and later it asks the node for its role from time to time, also
while messages flow: all who are on a demoted master still hear each other there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import hiredis

from fastapi_rooms.adapters.redis.publisher import Publisher
from fastapi_rooms.adapters.redis.subscriber import Subscriber
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Channel

RETRY = 1.0
"""Seconds after which what was refused is tried again: rights can be given back."""


class RoundTrip:
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
        self._arrived = 0
        self.proven = False
        """Whether a message has come round on the present connections."""
        self.why = ""
        """Why the last one did not."""
        self.refused = False
        """Whether we lack the right to publish it."""

    def links_changed(self) -> None:
        """A connection came or went: what was proven of it is so no more."""
        if not (self._publisher.connected and self._subscriber.connected):
            self.proven = self.refused = False
            self.why = ""
            self._unproven.clear()
            self._settled.set()
        elif not self.proven:
            self._unproven.set()

    def received(self, data: bytes) -> None:
        """One has come round."""
        if data == b"%d" % self._number:
            self._arrived = self._number
            self._settled.set()

    async def run(self) -> None:
        """Prove it again and again, until cancelled."""
        subscriber, heard = self._subscriber, None
        while True:
            try:
                async with asyncio.timeout(self._interval):
                    await self._unproven.wait()
            except TimeoutError:
                pass
            if subscriber.is_stuck(self._interval):
                subscriber.abort(f"{subscriber.verb} is not confirmed for {self._interval} s")
            elif self._publisher.connected and subscriber.connected:
                # No clock is asked how long it has been quiet: clocks can be set back.
                quiet = subscriber.last_received == heard
                await self._prove(by_message=quiet or not self.proven)
            heard = subscriber.last_received

    async def _prove(self, *, by_message: bool) -> None:
        links = self._publisher.link, self._subscriber.link
        problem = refused = None
        try:
            problem = await self._publisher.trouble()
            if not problem and by_message and self.channel is not None:
                refused = await self._send(self.channel)
                if not refused and self._arrived != self._number:
                    problem = f"nothing arrives, for {self._interval} s after a probe"
        except AdapterUnavailable:  # it has given up its own connection, or has too much to send
            await asyncio.sleep(min(RETRY, self._interval))
            return
        if links != (self._publisher.link, self._subscriber.link):
            return
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
        elif not self.proven:
            self.proven, self.why, self.refused = True, "", False
            self._unproven.clear()
            self._changed()

    async def _send(self, channel: Channel) -> hiredis.ReplyError | None:
        """Send one and wait for it, or until a connection goes; or return the refusal."""
        self._number += 1
        self._settled.clear()
        refusal = await self._publisher.try_out(channel, b"%d" % self._number)
        if refusal is not None:
            return refusal
        try:
            async with asyncio.timeout(self._interval):
                await self._settled.wait()
        except TimeoutError:
            pass
        return None
