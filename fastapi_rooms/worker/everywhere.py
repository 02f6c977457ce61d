"""Sending to, and asking, the sockets of a namespace on all workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from inspect import isawaitable
from typing import Any, Protocol

import orjson

from fastapi_rooms.cluster.commands import VERBS, CommandTarget, reason_of
from fastapi_rooms.cluster.pending import PendingRequest
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import AdapterUnavailable, ClientError
from fastapi_rooms.operators.commands import ClusterRequest, Part, ResponseReader, T, collect
from fastapi_rooms.worker.fanout import Delivery
from fastapi_rooms.worker.runtime import Runtime


class Here(CommandTarget[Any], Protocol):
    """The namespace on this worker."""

    name: str

    def deliver_here(self, target: Target, payload: Payload, *, volatile: bool) -> Delivery | None:
        """Deliver to this worker's members and listeners."""


class Everywhere:
    """A namespace on all workers, as far as operators need it."""

    __slots__ = ("_here", "_runtime")

    def __init__(self, here: Here, runtime: Runtime) -> None:
        self._here = here
        self._runtime = runtime

    async def deliver(
        self, target: Target, payload: Payload, *, local: bool, volatile: bool
    ) -> None:
        """Deliver here, and to the other workers.

        Those come first: while this worker writes to a crowd, the message is on its way to them.
        """
        runtime = self._runtime
        runtime.check(payload)
        if target.rooms == ():
            return
        accepted: Awaitable[object] | None = None
        try:
            if local or runtime.alone:
                pass
            elif volatile:
                runtime.publish_volatile(self._here.name, target, payload)
            else:
                accepted = runtime.publish(self._here.name, target, payload)
        finally:  # an adapter that raises keeps it from nobody here
            delivery = self._here.deliver_here(target, payload, volatile=volatile)
        try:
            if accepted is not None:
                await accepted
        finally:
            if delivery is not None:
                await delivery.written()
        if runtime.spend_turn(payload):
            await asyncio.sleep(0)

    async def ask(
        self, ask: ClusterRequest, answer: ResponseReader[Part, T], timeout: float | None
    ) -> T:
        """Ask this worker and the others, and make one answer of theirs."""
        runtime = self._runtime
        if timeout is None:
            timeout = runtime.settings.request_timeout
        cluster = runtime.cluster
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        mine = refusal = None
        if ask.here and ask.node in (None, runtime.node):
            try:
                async with asyncio.timeout_at(deadline):
                    done = VERBS[ask.verb](self._here, ask.target, ask.arguments)
                    mine = orjson.dumps(await done if isawaitable(done) else done)
            except TimeoutError:
                raise AdapterUnavailable(
                    f"{ask.verb!r} was not done on this worker in {timeout:g} s: the adapter did "
                    "not confirm a room, or there is much to do. The others were not asked."
                ) from None
            except (ClientError, TypeError) as error:  # one socket's, as on any other worker
                refusal = reason_of(error)
        if ask.elsewhere and ask.node != runtime.node:
            question = await cluster.ask(self._here.name, ask, deadline - loop.time())
        else:
            question = PendingRequest(())
        if mine is not None:
            question.answers[runtime.node] = mine
        if refusal is not None:
            question.refusals[runtime.node] = refusal
        return await collect(ask, answer, question, timeout)

    async def tell(self, ask: ClusterRequest) -> None:
        """Ask the other workers without wanting to know what becomes of it."""
        await self._runtime.cluster.tell(self._here.name, ask)
