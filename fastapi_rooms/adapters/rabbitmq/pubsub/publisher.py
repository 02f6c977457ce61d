"""The publishing connection: what is published in one turn of the event loop travels together.

Strategy: `publish` adds a message to a [queue][fastapi_rooms.adapters.command_queue], as for Redis.
RabbitMQ confirms each when it is in the queue of every worker that is bound, and sends back first
what reaches nobody. What is unanswered when the connection breaks is written again on the next one.

While RabbitMQ is low on memory or disk it reads nothing more from a connection that publishes, and
says so. Then nothing is written: it would be delivered when that is over, whoever still wants it.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from functools import partial

from fastapi_rooms.adapters.command_queue import ByteBudget, CommandQueue
from fastapi_rooms.adapters.link_owner import LinkOwner
from fastapi_rooms.adapters.probe import Refusal
from fastapi_rooms.adapters.rabbitmq.links.access import Access
from fastapi_rooms.adapters.rabbitmq.links.frames import (
    Confirmed,
    Event,
    ProtocolError,
    Returned,
    name_of,
    publish,
    size_of_body,
    start_of_body,
)
from fastapi_rooms.adapters.rabbitmq.links.link import Link
from fastapi_rooms.adapters.rabbitmq.links.owner import Opening
from fastapi_rooms.adapters.rabbitmq.links.steps import CHANNEL, Broker, Steps, log_in_to_publish
from fastapi_rooms.adapters.rabbitmq.pubsub.confirms import Confirms
from fastapi_rooms.adapters.rabbitmq.pubsub.messages import Sent, encode, key_of, number_of
from fastapi_rooms.types import Channel

REFUSED = "RabbitMQ refused to take it"
UNBOUND = "this worker's queue is bound no more: somebody has deleted the exchange, or its bindings"

_TOO_LARGE = re.compile(r"message size (\d{1,20}) is larger than")
"""What RabbitMQ says of a message longer than its `max_message_size`, as it closes the channel."""


class Publisher(Opening, LinkOwner[Link]):
    """Publishes in order over one supervised link, through short outages.

    Args:
        access: where RabbitMQ is.
        changed: called when a link came or went, or RabbitMQ begins or ends to take nothing.
        exchange: what is published to.
        connect_timeout: seconds that opening a link may take.
        timeout: seconds that a message may take to be accepted, outages included.
        budget: how many bytes may wait to be accepted.
    """

    def __init__(
        self,
        access: Access,
        changed: Callable[[], None],
        *,
        exchange: str,
        connect_timeout: float,
        timeout: float,
        budget: ByteBudget,
    ) -> None:
        super().__init__(changed, connect_timeout)
        self._access = access
        self._exchange = exchange
        self._timeout = timeout
        self._id = secrets.token_bytes(8)
        self._number = 0
        self._encoded_exchange = exchange.encode()
        self._queue = CommandQueue(
            self._encode,
            budget,
            timeout=timeout,
            carrier="RabbitMQ",
            why_waiting=self._state,
            on_overdue=self._overdue,
        )
        self._confirms = Confirms()
        self._returned: set[int] = set()
        self._refusal = ""
        self._dropped = 0

    @property
    def connected(self) -> bool:
        """Whether there is a link, and RabbitMQ takes what is published."""
        return self._link is not None and not self._link.blocked

    @property
    def dropped(self) -> int:
        """How many messages were not accepted."""
        return self._dropped + self._queue.dropped

    # Messages.

    def publish(self, channel: Channel, data: bytes) -> asyncio.Future[int | None]:
        """Publish; the future is done when RabbitMQ has accepted the message.

        Its result is 0 if no worker is bound to the channel, else `None`. It fails with
        `AdapterUnavailable` if RabbitMQ refuses the message, or does not accept it in time.
        """
        accepted = self._queue.publish(channel, data)
        self._schedule_flush()
        return accepted

    def publish_volatile(self, channel: Channel, data: bytes) -> None:
        """Send the message in this turn, or drop it if there is no link or the link is behind."""
        if not self.connected or self._link is None or not self._link.writable:
            self._dropped += 1
        else:
            self._queue.publish_volatile(channel, data)
            self._schedule_flush()

    def _encode(self, channel: Channel, data: bytes) -> bytes:
        self._number += 1
        sent = Sent(self._id, self._number, self._loop.time(), self._timeout, channel, data)
        return publish(CHANNEL, self._encoded_exchange, key_of(channel), encode(sent))

    def _flush(self) -> None:
        if self.connected and self._link is not None and self._link.writable:
            batch = self._queue.next_batch()
            if batch:
                self._link.write(batch)

    # What a probe asks for.

    def take_refusal(self) -> str:
        """Why RabbitMQ has refused a message since the last call; empty if it has not."""
        refusal, self._refusal = self._refusal, ""
        return refusal

    async def why_unfit(self) -> str:
        """Empty: a broker that takes messages is fit."""
        return ""

    async def try_publish(self, channel: Channel, data: bytes) -> Refusal | None:
        """Publish a message that may be lost; return the refusal, if it is refused."""
        answer = self._queue.query(self._encode(channel, data))
        self._schedule_flush()
        return await answer  # type: ignore[no-any-return]  # `_answered` gives it

    # What the link and its supervisor call.

    def steps(self) -> Steps[Broker]:
        """Log in, and have a channel to publish on."""
        return log_in_to_publish(self._access, self._exchange)

    def link_up(self, link: Link) -> None:
        """Write what waits, beginning with what the last link left unanswered."""
        self._confirms = Confirms(last=1)  # what `begin_publishing` published
        self._returned.clear()
        self._link = link
        link.on_event = self._happened
        link.on_writable = partial(self._writable, link)
        self._flush()
        self._note_blocked(link)
        self._changed()

    def link_down(self, reason: str) -> None:
        """Keep what is unanswered for the next link, but for what was the reason."""
        self._link = None
        if too_large := _TOO_LARGE.search(reason):
            self._refuse_of_size(int(too_large[1]), reason)
        self.why_down, self.refused = reason, False
        self._queue.rewind()
        self._changed()

    def _refuse_of_size(self, size: int, reason: str) -> None:
        """Fail the messages for whose length RabbitMQ closes the channel: it would again."""
        exchange = self._encoded_exchange
        self._queue.refuse(
            lambda command: size_of_body(command.data, exchange) == size,
            f"{REFUSED}: {reason}.",
        )

    def _writable(self, link: Link) -> None:
        """It can be written to again, or has been blocked, or is so no longer."""
        if link is self._link:
            self._note_blocked(link)
            self._flush()
            self._changed()

    def _note_blocked(self, link: Link) -> None:
        if link.blocked:
            self.why_down = f"it takes nothing that is published until this is over: {link.blocked}"

    def _happened(self, event: Event) -> None:
        if isinstance(event, Confirmed):
            for accepted in self._confirms.confirmed(event, self._queue.unanswered):
                self._answered(accepted=accepted)
        elif isinstance(event, Returned) and len(self._returned) < self._queue.unanswered:
            if event.body is not None:  # else it was too long to be read, and is not known
                self._returned.add(number_of(event.body))
        else:
            raise ProtocolError(f"{name_of(event)} came where messages are confirmed")

    def _answered(self, *, accepted: bool) -> None:
        """RabbitMQ has taken, or refused, the oldest unanswered message."""
        command = self._queue.answered()
        assert command is not None  # `Confirms` has counted
        was_returned = False
        if self._returned:
            number = number_of(command.data, start_of_body(command.data, self._encoded_exchange))
            was_returned = number in self._returned
            self._returned.discard(number)
        if command.accepted is None or command.accepted.done():
            return
        if command.is_query:
            refusal = None if accepted else Refusal(REFUSED, forbidden=False)
            if was_returned:
                refusal = Refusal(UNBOUND, forbidden=False, reached_nobody=True)
            command.accepted.set_result(refusal)
        elif accepted:
            command.accepted.set_result(0 if was_returned else None)
        else:
            self._dropped += 1
            command.fail(f"{REFUSED}.")
            self._refusal = REFUSED
            self._changed()

    def _overdue(self) -> None:
        if self.connected:  # else RabbitMQ has said why it does not answer
            self.abort(f"nothing that was published is confirmed for {self._timeout} s")

    def _state(self) -> str:
        return "connected, but no answer comes" if self.connected else self.why_down

    def close(self) -> None:
        """Fail the callers that still wait."""
        self._queue.close()
