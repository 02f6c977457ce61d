"""What a namespace can ask of, and tell, all workers."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable
from typing import Any, Self

import orjson

from fastapi_rooms.broadcast import Everyone
from fastapi_rooms.envelope import Target
from fastapi_rooms.errors import ConfigurationError, RequestError, RequestTimeout, UsageError
from fastapi_rooms.events import Handler
from fastapi_rooms.frames import Payload
from fastapi_rooms.question import Question
from fastapi_rooms.remote import REPLIES, ROOMS, Answer, Ask, Part, ServerReply, T, conclude
from fastapi_rooms.runtime import Runtime
from fastapi_rooms.types import NodeId, Room
from fastapi_rooms.verbs import VERBS, Place


class ClusterWide(Everyone):
    """The verbs of a namespace over every worker, and its workers' talk with each other."""

    def __init__(self, name: str, runtime: Runtime) -> None:
        self.name = name
        """Its name, with the leading slash: `/` for the manager itself."""
        self._runtime = runtime
        self._server_side: dict[str, Callable[..., Any]] = {}

    @property
    def _asker(self) -> Self:
        return self

    async def deliver(
        self, target: Target, payload: Payload, *, local: bool, volatile: bool
    ) -> None:
        """Deliver a message to a target, wherever it is."""
        raise NotImplementedError

    def nodes(self) -> frozenset[NodeId]:
        """The ids of the workers that live, this one among them, as far as they are known now."""
        return self._runtime.cluster.nodes

    async def all_rooms(self, *, timeout: float | None = None) -> set[Room]:
        """The rooms of this namespace on every worker; a socket's own sid is one.

        Raises what `fetch_sockets` does.
        """
        return await self.ask(Ask("rooms", Target(), {}), ROOMS, timeout)

    def on_server_side(self, event: str) -> Callable[[Handler], Handler]:
        """Decorate the handler, plain or async, of what other workers `server_side_emit`.

        What it returns is the reply to `server_side_emit_with_ack`; if it raises, its error is.
        Raises `ConfigurationError` if the event has a handler already.
        """

        def register(handler: Handler) -> Handler:
            if event in self._server_side:
                raise ConfigurationError(f"There is a handler of {event!r} already.")
            self._server_side[event] = handler
            return handler

        return register

    async def server_side_emit(self, event: str, *args: Any) -> None:
        """Have every other worker call its handler of an event with these JSON values.

        Returns when the adapter has accepted it. Raises `AdapterUnavailable` when it did not in
        time, `TypeError` for what is not JSON.
        """
        arguments = {"event": event, "args": list(args)}
        await self._runtime.cluster.tell(self.name, Ask("emit", Target(()), arguments))

    async def server_side_emit_with_ack(
        self, event: str, *args: Any, timeout: float = 5.0
    ) -> list[ServerReply]:
        """As `server_side_emit`, and return what each handler has returned.

        A worker without a handler, or whose handler raised, replies with that error.

        Raises:
            RequestTimeout: workers did not reply in `timeout` seconds; `partial` holds the others'.
            AdapterUnavailable: the adapter did not accept it in time.
        """
        ask = Ask("emit", Target(()), {"event": event, "args": list(args)}, here=False)
        try:
            return await self.ask(ask, REPLIES, timeout)
        except RequestError as error:
            failed = [ServerReply(node, None, why) for node, why in error.refusals.items()]
            error.partial += failed
            if isinstance(error, RequestTimeout):
                raise
            return list(error.partial)

    async def ask(self, ask: Ask, answer: Answer[Part, T], timeout: float | None) -> T:
        """Ask this worker and the others, and make one answer of theirs. Operators call this."""
        runtime = self._runtime
        if timeout is None:
            timeout = runtime.settings.request_timeout
        cluster = runtime.cluster
        mine = None
        if ask.here and ask.node in (None, runtime.node):
            done = VERBS[ask.verb](self._here, ask.target, ask.arguments)
            mine = orjson.dumps(await done if isawaitable(done) else done)
        if ask.elsewhere and ask.node != runtime.node:
            question = await cluster.ask(self.name, ask, timeout)
        else:
            question = Question(())
        if mine is not None:
            question.answers[runtime.node] = mine
        return conclude(ask, answer, question, timeout)

    def handle(self, event: str, args: list[Any]) -> Any:
        """Call the handler of a server-side event."""
        handler = self._server_side.get(event)
        if handler is None:
            raise UsageError(f"There is no handler of {event!r} here.")
        return handler(*args)

    @property
    def _here(self) -> Place[Any]:
        """This worker's half."""
        raise NotImplementedError
