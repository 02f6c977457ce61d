"""The publishing connection: what is published in one turn of the event loop travels together.

Strategy: `publish` adds a command to a [queue][fastapi_rooms.adapters.command_queue] and returns
the future of its reply. The queue is written once per turn, in one write, without waiting for
earlier replies. What is unanswered when the connection breaks is written again on the next one;
receivers know each envelope by its origin and rising sequence, and drop what they have seen.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import hiredis

from fastapi_rooms.adapters.command_queue import ByteBudget, Command, CommandQueue
from fastapi_rooms.adapters.link_owner import LinkOwner
from fastapi_rooms.adapters.probe import Refusal
from fastapi_rooms.adapters.redis.links import role
from fastapi_rooms.adapters.redis.links.link import FORBIDDEN, Link, pack
from fastapi_rooms.adapters.redis.links.owner import Opening
from fastapi_rooms.adapters.redis.links.source import Source
from fastapi_rooms.adapters.redis.pubsub.failover_gaps import NodeChanges, Span
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Channel


class RedirectHandler(Protocol):
    """Moves commands between the publishers of several nodes."""

    def answered(
        self, publisher: Publisher, command: Command, error: hiredis.ReplyError | None
    ) -> bool:
        """A message with a shard is answered; returns whether the handler sends it again."""


def command_queue(
    verb: bytes,
    budget: ByteBudget,
    *,
    timeout: float,
    why_waiting: Callable[[], str],
    on_overdue: Callable[[], None] = lambda: None,
) -> CommandQueue:
    """A queue of commands that publish by `verb`; see `CommandQueue`."""
    return CommandQueue(
        partial(pack, verb),
        budget,
        timeout=timeout,
        carrier="Redis",
        why_waiting=why_waiting,
        on_overdue=on_overdue,
    )


class Publisher(Opening, LinkOwner[Link]):
    """Publishes in order over one supervised link, through short outages.

    Args:
        source: opens the links.
        changed: called when a link came or went, or Redis has begun to refuse messages.
        connect_timeout: seconds that opening a link may take.
        timeout: seconds that a message may take to be accepted, outages included.
        budget: how many bytes may wait to be accepted.
        verb: the command to publish by.
        redirects: takes over messages that the node does not serve.
    """

    def __init__(
        self,
        source: Source,
        changed: Callable[[], None],
        *,
        connect_timeout: float,
        timeout: float,
        budget: ByteBudget,
        verb: bytes = b"PUBLISH",
        redirects: RedirectHandler | None = None,
    ) -> None:
        super().__init__(changed, connect_timeout)
        self._source = source
        self._timeout = timeout
        self._verb = verb
        self._redirects = redirects
        self.queue = command_queue(
            verb, budget, timeout=timeout, why_waiting=self._state, on_overdue=self._overdue
        )
        """The commands on their way. Messages of a lost link wait here for the next one."""
        self._node_changes = NodeChanges()
        self._refusal = ""
        self._dropped = 0

    @property
    def connected(self) -> bool:
        """Whether there is a link."""
        return self._link is not None

    @property
    def dropped(self) -> int:
        """How many messages were not accepted."""
        return self._dropped + self.queue.dropped

    # Messages.

    def publish(
        self, channel: Channel, data: bytes, shard: int | None = None, *, once: bool = False
    ) -> asyncio.Future[int]:
        """Publish; the future is done when Redis has accepted the message.

        Its result is the number of subscribers that Redis reports. It fails with
        `AdapterUnavailable` if Redis refuses the message, or does not accept it in time; what is to
        be written `once`, when the connection is lost.
        """
        accepted = self.queue.publish(channel, data, shard, once=once)
        if not self._is_flush_scheduled:
            self._schedule_flush()
        return accepted

    def publish_volatile(self, channel: Channel, data: bytes, shard: int | None = None) -> None:
        """Send the message in this turn, or drop it if there is no link or the link is behind."""
        if self._link is None or not self._link.writable:
            self._dropped += 1
        else:
            self.queue.publish_volatile(channel, data, shard)
            self._schedule_flush()

    def put(self, commands: Iterable[Command]) -> None:
        """Take over commands of another queue: the oldest goes first."""
        self.queue.put(commands)
        self._schedule_flush()

    def _flush(self) -> None:
        if self._link is not None and self._link.writable and (batch := self.queue.next_batch()):
            self._link.write(batch)

    # Queries.

    async def ask(self, *command: bytes) -> Any:
        """Redis' reply to any command. Raises `AdapterUnavailable` for an error, or none."""
        reply = await self._query(*command)
        if isinstance(reply, hiredis.ReplyError):
            raise AdapterUnavailable(f"Redis refused it: {reply}")
        return reply

    async def try_publish(self, channel: Channel, data: bytes) -> Refusal | None:
        """Publish a message that may be lost; return the refusal, if it is refused."""
        reply = await self._query(self._verb, channel, data)
        if not isinstance(reply, hiredis.ReplyError):
            return None
        return Refusal(str(reply), str(reply).startswith(FORBIDDEN))

    async def why_unfit(self) -> str:
        """Why the node is no master; empty if it is one. Raises `AdapterUnavailable`."""
        link = self._link
        if link is None:
            return ""
        asked = time.time()
        problem = await role.ask(self._query, link.protocol)
        if problem:
            self._node_changes.demoted()
            return role.unusable(link.address, problem)
        if link is self._link:
            self._node_changes.still_master(asked)
        return ""

    async def _query(self, *command: bytes) -> Any:
        """The reply, errors included. Raises `AdapterUnavailable` if none comes in time."""
        answer = self.queue.query(pack(*command))
        self._schedule_flush()
        return await answer

    # Events that its owner reads.

    def take_refusal(self) -> str:
        """Why Redis has refused a message since the last call; empty if it has not.

        Redis may refuse everything for a while, with BUSY while it runs a script for example. A
        missing permission is left out, as it concerns one channel only.
        """
        refusal, self._refusal = self._refusal, ""
        return refusal

    def take_failover_span(self) -> Span | None:
        """When messages may have been lost, as they went to a node that has been left for another.

        `None` if there is nothing new to tell the other workers.
        """
        return self._node_changes.take_span()

    # What the link and its supervisor call.

    def link_up(self, link: Link) -> None:
        """Write what waits, beginning with what the last link left unanswered."""
        self._node_changes.connected((link.address, link.peer), time.time())
        self._link = link
        link.on_writable = self._flush
        self._flush()
        self._changed()

    def link_down(self, reason: str) -> None:
        """Keep what is unanswered for the next link."""
        if self._link is not None:
            self._node_changes.disconnected(self._link.last_received)
        self._link = None
        self.why_down, self.refused = reason, False
        self.queue.rewind()
        self._changed()

    def reply(self, reply: Any) -> None:
        """Redis' answer to the oldest unanswered command."""
        if isinstance(reply, hiredis.PushNotification):
            return  # not an answer: a maintenance notice of a hosted Redis, for example
        command = self.queue.answered()
        if command is None:
            return
        error = reply if isinstance(reply, hiredis.ReplyError) else None
        if (
            command.shard is not None
            and self._redirects is not None
            and self._redirects.answered(self, command, error)
        ):
            return
        if error is not None and not command.is_query:
            self._dropped += 1
            command.fail(f"Redis refused to publish: {error}")
            self._note_refusal(str(error))
        elif command.accepted is not None and not command.accepted.done():
            command.accepted.set_result(reply if command.is_query or isinstance(reply, int) else 0)

    def _note_refusal(self, refusal: str) -> None:
        if not self._refusal and not refusal.startswith("NOPERM"):
            self._refusal = refusal
            self._changed()

    def _overdue(self) -> None:
        self.abort(f"no answer to {self._verb.decode()} for {self._timeout} s")

    def _state(self) -> str:
        return "connected, but no answer comes" if self.connected else self.why_down

    def close(self) -> None:
        """Fail the callers that still wait."""
        self.queue.close()
