"""The receiving connection: a queue of its own, bound to what is wanted, and what it delivers.

What is wanted, and what was missed, is kept by [fastapi_rooms.adapters.receiving][]; this file
binds the queue and reads what comes. The queue is exclusive and new with each connection: so
nothing is delivered twice, and everything between two queues is a gap.

What the queue has no room for is lost, the oldest first, and told: RabbitMQ passes it on to another
queue, which holds one message. Each message there is a gap. Deliveries have a channel apart, as
one that binds thousands of rooms delivers nothing meanwhile.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from fastapi_rooms.adapters.base import Outage, Receiver
from fastapi_rooms.adapters.rabbitmq.links.access import Access
from fastapi_rooms.adapters.rabbitmq.links.frames import (
    Delivered,
    Event,
    Method,
    ProtocolError,
    ack,
    commands,
    method,
    name_of,
)
from fastapi_rooms.adapters.rabbitmq.links.link import Link
from fastapi_rooms.adapters.rabbitmq.links.owner import Opening
from fastapi_rooms.adapters.rabbitmq.links.steps import (
    CHANNEL,
    Broker,
    Steps,
    call,
    find_exchange,
    log_in,
    open_channel,
)
from fastapi_rooms.adapters.rabbitmq.pubsub.lateness import Lateness
from fastapi_rooms.adapters.rabbitmq.pubsub.messages import decode, key_of
from fastapi_rooms.adapters.receiving import ReceivingEnd
from fastapi_rooms.adapters.subscriptions import Losses
from fastapi_rooms.types import Channel

FLUSH: Final = 512
"""Channels that are asked for in one turn of the event loop."""

PREFETCH: Final = 1024
"""Messages that are on their way at once. Without a limit RabbitMQ would push all it has."""

MESSAGES, LOST = CHANNEL + 1, CHANNEL + 2
"""The channels on which messages are delivered, and what was lost is told."""

LOSS_DELAY: Final = 1.0
"""Seconds between two gaps for what the queue had no room for, or what came too late."""


class Subscriber(Opening, ReceivingEnd[Link]):
    """Keeps a queue bound to the wanted channels, over one supervised link.

    Args:
        access: where RabbitMQ is.
        receiver: gets the messages, and the gaps between them.
        changed: called when it becomes connected or disconnected, or the reason changes.
        exchange: what the queue is bound to.
        connect_timeout: seconds that opening a link may take.
        max_queue_bytes: how much may wait in the queue.
        losses: the channels on which messages may have been missed.
    """

    def __init__(
        self,
        access: Access,
        receiver: Receiver,
        changed: Callable[[], None],
        *,
        exchange: str,
        connect_timeout: float,
        max_queue_bytes: int,
        losses: Losses,
    ) -> None:
        super().__init__(receiver, changed, connect_timeout=connect_timeout, losses=losses)
        self._access = access
        self._exchange = exchange
        self._max_queue_bytes = max_queue_bytes
        self._queue = ""
        self._pending: deque[tuple[bool, Channel]] = deque()
        self._lateness = Lateness()
        self._unacknowledged = 0
        self._loss_told_at = -LOSS_DELAY
        self._loss_timer: asyncio.TimerHandle | None = None
        self._proofs: tuple[float, ...] = ()
        self.malformed = 0
        """How many messages came that are none of ours, or were too long."""

    # Its links.

    def steps(self) -> Steps[Broker]:
        """Log in, and have both queues, and what they deliver."""
        self._queue = f"{self._exchange}.{secrets.token_hex(8)}"
        lost = f"{self._queue}.lost"
        declare, bind = commands.Queue.Declare, commands.Queue.Bind
        broker = yield from log_in(self._access)
        yield from find_exchange(self._exchange)
        own = declare(queue=lost, exclusive=True, arguments={"x-max-length": 1})
        yield from call(own, commands.Queue.DeclareOk)
        yield from call(bind(0, lost, self._exchange, f"~{lost}"), commands.Queue.BindOk)
        limits = {
            "x-max-length-bytes": self._max_queue_bytes,
            "x-overflow": "drop-head",
            "x-dead-letter-exchange": self._exchange,
            "x-dead-letter-routing-key": f"~{lost}",
        }
        own = declare(queue=self._queue, exclusive=True, arguments=limits)  # type: ignore[arg-type]
        yield from call(own, commands.Queue.DeclareOk)
        for queue, channel, prefetch in ((lost, LOST, 1), (self._queue, MESSAGES, PREFETCH)):
            yield from open_channel(channel)
            qos = commands.Basic.Qos(prefetch_count=prefetch)
            yield from call(qos, commands.Basic.QosOk, channel)
            consume = commands.Basic.Consume(queue=queue, consumer_tag="", exclusive=True)
            yield from call(consume, commands.Basic.ConsumeOk, channel)
        return broker

    def link_up(self, link: Link) -> None:
        """Bind the new queue to everything."""
        self._pending.clear()
        self._unacknowledged = 0
        self._proofs = ()
        link.on_event = self._happened
        link.on_turn = self._acknowledge
        super().link_up(link)

    def prove(self, until: float) -> None:
        """Note that everything that RabbitMQ took before that time has been received, or lost.

        That something was lost may be told after a proof. So what is proven is what was so when the
        proof before it came.
        """
        before, self._proofs = self._proofs, (*self._proofs[-1:], until)
        super().prove(before[-1] if before else min(self.complete_since, until))

    # What is asked for.

    def _ask(self, link: Link) -> None:
        subscribe, unsubscribe = self._subscriptions.take_due(FLUSH)
        if not (subscribe or unsubscribe):
            return
        if not self._pending:
            self._last_progress = self._loop.time()
        parts = []
        for channel in subscribe:
            self._pending.append((True, channel))
            key = key_of(channel).decode()
            parts.append(method(commands.Queue.Bind(0, self._queue, self._exchange, key), CHANNEL))
        for channel in unsubscribe:
            self._pending.append((False, channel))
            key = key_of(channel).decode()
            parts.append(
                method(commands.Queue.Unbind(0, self._queue, self._exchange, key), CHANNEL)
            )
        link.write(b"".join(parts))

    def _is_owed(self) -> bool:
        return bool(self._pending)

    def _verb(self) -> str:
        return "queue.bind"

    # What comes.

    def _happened(self, event: Event) -> None:
        if isinstance(event, Delivered) and event.channel == MESSAGES:
            self._unacknowledged = event.tag
            self._delivered(event.body)
        elif isinstance(event, Delivered) and event.channel == LOST:
            self._lost(event.tag)
        elif isinstance(event, Method) and isinstance(event.frame, commands.Queue.BindOk):
            self._confirmed(self._answered(bound=True))
            self._after_confirmation()
        elif isinstance(event, Method) and isinstance(event.frame, commands.Queue.UnbindOk):
            self._subscriptions.confirm_unsubscribed(self._answered(bound=False))
            self._after_confirmation()
        elif isinstance(event, Method) and isinstance(event.frame, commands.Basic.Cancel):
            self.abort("its queue was deleted")
        else:
            raise ProtocolError(f"{name_of(event)} came where messages are delivered")

    def _answered(self, *, bound: bool) -> Channel:
        """The channel that the answer is about: RabbitMQ answers in order."""
        self._last_progress = self._loop.time()
        if not self._pending or self._pending[0][0] is not bound:
            raise ProtocolError("it confirms what it was not asked for")
        return self._pending.popleft()[1]

    def _delivered(self, body: bytes | None) -> None:
        if body is None:  # too long to be taken, and its sender was told that it is accepted
            self.malformed += 1
            self._note_loss()
            return
        try:
            message = decode(body)
        except ValueError:
            self.malformed += 1
            return
        now = self._loop.time()
        if self._lateness.is_late(message.publisher, message.sent, message.timeout, now):
            self._note_loss()
        elif message.channel in self._subscriptions.wanted:
            self._receiver.received(message.channel, message.data)

    def _acknowledge(self) -> None:
        """Let RabbitMQ deliver more."""
        if self._unacknowledged and self._link is not None:
            self._link.write(ack(MESSAGES, self._unacknowledged))
            self._unacknowledged = 0

    # What was lost.

    def _lost(self, tag: int) -> None:
        """The queue had no room. While this is not acknowledged, no other loss is told."""
        link = self._link
        if link is not None:
            self._loop.call_later(LOSS_DELAY, link.write, ack(LOST, tag))
        self._note_loss()

    def _note_loss(self) -> None:
        """Tell a gap; where one was told just now, another one soon, for all that is lost by then.

        Each concerns every room, and whoever may publish can cause them.
        """
        if self._loss_timer is None:
            delay = max(self._loss_told_at + LOSS_DELAY - self._loop.time(), 0)
            if delay:
                self._loss_timer = self._loop.call_later(delay, self._tell_loss)
            else:
                self._tell_loss()

    def _tell_loss(self) -> None:
        self._stop_loss_timer()
        self._loss_told_at = self._loop.time()
        since = self._proofs[0] if len(self._proofs) > 1 else self.complete_since
        channels = frozenset(self._subscriptions.live)
        if self._link is not None and channels:
            self._receiver.gap(Outage(since, time.time(), channels))

    def _stop_loss_timer(self) -> None:
        if self._loss_timer is not None:
            self._loss_timer.cancel()
            self._loss_timer = None

    def _link_lost(self) -> None:
        self._stop_loss_timer()  # there is a gap for all that was not proven

    def close(self) -> None:
        """Fail the callers that still wait."""
        self._stop_loss_timer()
        super().close()
