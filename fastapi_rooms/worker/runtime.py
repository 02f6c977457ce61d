"""What the namespaces of one manager share, and the run they are in, if they are."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

from fastapi_rooms.adapters.base import Adapter, SupportsShards
from fastapi_rooms.adapters.declarations import SupportsDeclarations
from fastapi_rooms.adapters.history import SupportsHistory
from fastapi_rooms.core.names import Channels
from fastapi_rooms.errors import (
    AdapterUnavailable,
    ConfigurationError,
    NotStarted,
    ShuttingDown,
    UsageError,
)
from fastapi_rooms.operators.dispatcher import ClusterRequest, Part, ResponseReader, T
from fastapi_rooms.types import Channel
from fastapi_rooms.worker.declaring import Declaring, declarations_of
from fastapi_rooms.worker.edge_carrier import EdgeCarrier
from fastapi_rooms.worker.managed import ManagedNamespace
from fastapi_rooms.worker.peer_run import PeerRun, carries_socketio
from fastapi_rooms.worker.presence_run import PresenceRun
from fastapi_rooms.worker.run import Run
from fastapi_rooms.worker.settings import Settings
from fastapi_rooms.worker.shared_requests import is_shared, notify, request_both

if TYPE_CHECKING:
    from fastapi_rooms.worker.local_namespace import LocalNamespace

E = TypeVar("E", bound=AdapterUnavailable | ShuttingDown)

LOOP_TIMEOUT = 30.0
"""Seconds that a thread waits for the event loop, beside what the work itself may take."""


@dataclass(frozen=True, slots=True)
class Health:
    """How a manager is, for a readiness route. Times are seconds since the epoch."""

    ready: bool
    """Whether new clients may be sent here: it runs and is not draining, and is connected, unless
    it is to `admit` clients all the same."""
    connected: bool
    """Whether the adapter is connected and has confirmed every room that it may have."""
    since: float
    """Since when `connected` has been what it is."""
    last_received: float | None
    """When anything last came from the other side of the adapter."""
    reconnects: int
    """How many times it was lost and made whole again."""
    buffered: int
    """Bytes that wait to be published; each message counts its length and 256 bytes."""
    dropped: int
    """Messages that could not be published, or came in and were not understood, or came in faster
    than they could be written to the clients here."""
    reason: str
    """Why it is not connected, for people; empty when it is, or when nothing is known yet."""
    forbidden: int
    """Rooms with members here that Redis has come to forbid: they hear this worker only."""
    lag: float
    """Seconds since the oldest broadcast came that has not been written to all its members here."""
    duplicates: int
    """Messages that came in once more, and were dropped: their sender had lost its connection."""
    healed: int
    """How often this worker had missed messages of a room with a history, and had them again."""
    unhealed: int
    """How often they were gone for good: then a `gap` told so."""
    unkept: int
    """Messages for rooms with a history that came in without a place in it: they were delivered
    here, and cannot be recovered. Their sender does not know of the history, or may not use it."""


_runs: WeakValueDictionary[int, Run] = WeakValueDictionary()
"""The present run of each adapter, by its `id`; a run keeps its adapter, so that the id holds."""


def _claim(adapter: Adapter, run: Run) -> None:
    """Give an adapter to a run. Raises `ConfigurationError` if another has it.

    A run that was started before a fork, or in an event loop that is gone, has it no more.
    """
    other = _runs.setdefault(id(adapter), run)
    if other is not run:
        if other.pid == os.getpid() and other.loop.is_running():
            raise ConfigurationError(
                f"This {type(adapter).__name__} serves another RoomManager, which is running. An "
                "adapter has one manager at a time: give each one of its own, or use one manager "
                'and its namespaces, `rooms.of("/admin")`.'
            )
        _runs[id(adapter)] = run


class Runtime:
    """The adapter, the settings, the namespaces, and the present run."""

    def __init__(self, adapter: Adapter, settings: Settings) -> None:
        self.adapter = adapter
        self.settings = settings
        self.sharded = isinstance(adapter, SupportsShards)
        """Whether the adapter's channels are in shards, which can be lost one by one."""
        self.channels = Channels(adapter.prefix, sharded=self.sharded)
        self.namespaces: dict[str, ManagedNamespace] = {}
        """Those that have clients, listeners or handlers, and `/`: all that runs have to know."""
        self.living: WeakValueDictionary[str, LocalNamespace] = WeakValueDictionary()
        """Those that anybody holds, too: see `worker.namespaces`."""
        self.manager: object = None
        """The `RoomManager` that this is the runtime of; errors say so."""
        self._run: Run | None = None
        self._declaring: Declaring | None = None
        self.presence = PresenceRun(self)
        """Who is present, in the present run."""
        self.edge_carrier = EdgeCarrier(self)
        """Whether it reaches the edges of clients, in the present run."""

    def keep(self, namespace: LocalNamespace, needed: bool) -> None:
        """Have a namespace among those that runs know, or no longer. `/` always is."""
        if needed or namespace.name == "/":
            self.namespaces[namespace.name] = namespace
        else:
            self.namespaces.pop(namespace.name, None)

    def all_namespaces(self) -> list[LocalNamespace]:
        """Those that there are now."""
        return [found for known in self.living.valuerefs() if (found := known()) is not None]

    @property
    def run(self) -> Run:
        """The present run, in the event loop that it belongs to.

        Raises:
            NotStarted: there is none.
            UsageError: this is another event loop, thread or process.
        """
        run = self._run
        if run is None:
            raise NotStarted
        try:
            here = asyncio.get_running_loop() is run.loop
        except RuntimeError:
            here = False
        if not here:
            self._check_process(run)
            raise UsageError(
                "This RoomManager runs in another event loop. From a thread, or a `def` route, use "
                "`rooms.sync`, which has the same operators and needs no `await`. An event loop of "
                "its own needs a manager of its own."
            )
        return run

    def check_here(self) -> None:
        """Raise `UsageError` where there is a run, in another event loop, thread or process."""
        if self._run is not None:
            _ = self.run

    @property
    def is_running(self) -> bool:
        """Whether there is a run, in this process."""
        return self._run is not None and self._run.pid == os.getpid()

    @property
    def running(self) -> Run:
        """The present run, readable from anywhere. Raises `NotStarted` if there is none."""
        if self._run is None:
            raise NotStarted
        return self._run

    def call(self, work: Callable[[], Awaitable[T]], timeout: float | None) -> T:
        """Have the event loop run something while this thread waits: see `LoopCaller`."""
        run = self.running
        self._check_process(run)
        if threading.get_ident() == run.thread:
            raise UsageError(
                "`rooms.sync` would block the event loop that the RoomManager runs in. Here, use "
                "the manager itself: `await rooms.to(…)`."
            )

        async def carry_out() -> T:
            return await work()

        limit = LOOP_TIMEOUT + (self.settings.request_timeout if timeout is None else timeout)
        done = asyncio.run_coroutine_threadsafe(carry_out(), run.loop)
        try:
            return done.result(limit)
        except FutureTimeoutError:
            if done.done():
                raise  # it is what the work raised
            done.cancel()
            late = AdapterUnavailable(
                f"The event loop of this RoomManager did not do it in {limit:g} s: it is blocked, "
                "or has ended. It may be done still."
            )
            raise self.own(late) from None

    async def request(
        self,
        namespace: str,
        request: ClusterRequest,
        reader: ResponseReader[Part, T],
        timeout: float | None,
    ) -> T:
        """Have workers carry out a request: see `Cluster.request`."""
        if timeout is None:
            timeout = self.settings.request_timeout
        run = self.run
        work = run.cluster.request(namespace, request, reader, timeout)
        if isinstance(run, PeerRun) and is_shared(run.peer, namespace, request):
            work = request_both(run.peer, namespace, request, reader, timeout, work)
        return await self.attribute(work)

    async def notify(self, namespace: str, request: ClusterRequest) -> None:
        """Ask for something that nobody is to answer: see `Cluster.notify`."""
        run = self.run
        if isinstance(run, PeerRun) and run.peer.shares(namespace):
            await self.attribute(notify(run.peer, namespace, request.arguments))
        await self.attribute(run.cluster.notify(namespace, request))

    async def attribute(self, work: Awaitable[T]) -> T:
        """Await something, and say of its error that it is about this manager."""
        try:
            return await work
        except (AdapterUnavailable, ShuttingDown) as error:
            raise self.own(error) from error.__cause__

    def own(self, error: E) -> E:
        """The error, which says that it is about this manager."""
        error.manager = self.manager
        return error

    @staticmethod
    def _check_process(run: Run) -> None:
        if run.pid != os.getpid():
            raise UsageError(
                f"This RoomManager runs in process {run.pid}, and this one, {os.getpid()}, was "
                "forked from it. Use an `Emitter` here, or start the manager in this process."
            )
        if run.loop.is_closed():
            raise NotStarted

    @property
    def health(self) -> Health:
        """How it is now; never raises."""
        run, adapter = self._run, self.adapter.health
        return Health(
            ready=run is not None
            and not run.draining
            and (adapter.connected or self.settings.admits),
            connected=adapter.connected,
            since=adapter.since,
            last_received=adapter.last_received,
            reconnects=adapter.reconnects,
            buffered=adapter.buffered,
            dropped=adapter.dropped + (run.dropped if run is not None else 0),
            reason=adapter.reason,
            forbidden=adapter.forbidden,
            lag=run.fanout.lag if run is not None else 0.0,
            duplicates=run.duplicates if run is not None else 0,
            healed=run.healed if run is not None else 0,
            unhealed=run.unhealed if run is not None else 0,
            unkept=run.unkept if run is not None else 0,
        )

    def release(self, channels: Iterable[Channel]) -> None:
        """Release channels that the present run holds; harmless when there is none."""
        if self._run is not None:
            self._run.release(channels)

    async def start(self) -> None:
        """Begin a run.

        Raises `ConfigurationError` if another manager runs on this adapter, or it keeps no messages
        though rooms with a history are declared.
        """
        has_history, has_presence = self._check_history(), self.presence.check()
        run = self._new_run()
        _claim(self.adapter, run)
        self._run = run
        try:
            await self._run.start()
            await self._start_declaring()
            if has_history:
                await self._try_history()
            if has_presence:
                self.presence.start()
        except BaseException:
            await self._close()
            raise

    def _new_run(self) -> Run:
        socketio, adapter = self.settings.socketio, self.adapter
        if socketio is not None and carries_socketio(adapter):
            return PeerRun(adapter, self.settings, self.channels, self.namespaces, socketio)
        return Run(adapter, self.settings, self.channels, self.namespaces)

    async def _try_history(self) -> None:
        """Find out now, and not at the first message, what the carrier does not allow."""
        adapter = self.adapter
        if isinstance(adapter, SupportsHistory) and adapter.health.connected:
            with suppress(AdapterUnavailable):  # the adapter says so in its log
                await adapter.tops([])

    def _check_history(self) -> bool:
        """Whether any rooms remember. Raises `ConfigurationError` if the adapter cannot."""
        patterns = [p for here in self.all_namespaces() for p in here.handlers.history]
        if patterns and not isinstance(self.adapter, SupportsHistory):
            raise ConfigurationError(
                f"history({patterns[0]!r}) needs an adapter that keeps messages, which "
                f"{type(self.adapter).__name__} does not. In memory and on Redis it can be had."
            )
        return bool(patterns)

    async def _start_declaring(self) -> None:
        """Tell others what rooms have; an observer knows it from workers."""
        adapter, observes = self.adapter, self.settings.heartbeat.observer
        declared = list(declarations_of(self.all_namespaces()))
        if declared and isinstance(adapter, SupportsDeclarations) and not observes:
            self._declaring = Declaring(adapter, declared)
            await self._declaring.start(connected=adapter.health.connected)

    @property
    def has_declared(self) -> bool:
        """Whether others can know what rooms have."""
        return self._declaring is None or self._declaring.is_told

    def declare_again(self) -> None:
        """Tell once more what rooms have: the carrier may have forgotten it."""
        if self._declaring is not None:
            self._declaring.again()

    async def stop(self) -> None:
        """Drain, and end the run; leave no connection, task or subscription."""
        try:
            await self.run.drain()
        finally:  # also if the drain was cut short: nobody may leave in the middle of the next run
            try:
                await self._leave()
            finally:
                await self._close()

    async def _leave(self) -> None:
        """Take out whoever is left, and let handlers finish: those of the last leaves, too.

        Until then they may send and ask, so the run goes on.
        """
        namespaces, timeout = list(self._everywhere()), self.settings.drain_schedule.timeout
        for namespace in namespaces:
            namespace.leave_everyone()
        try:
            await self.presence.stop(timeout)
        finally:
            await asyncio.gather(*(namespace.close(timeout) for namespace in namespaces))

    async def _close(self) -> None:
        run, self._run = self._run, None
        declaring, self._declaring = self._declaring, None
        timeout = self.settings.drain_schedule.timeout
        try:
            try:
                if declaring is not None:
                    await declaring.stop(timeout)
            finally:
                try:
                    await self.edge_carrier.stop(timeout)
                finally:
                    await self.presence.stop(timeout)
        finally:
            if run is not None:
                await self._end(run)

    async def _end(self, run: Run) -> None:
        try:
            await run.close()
        finally:
            if _runs.get(id(self.adapter)) is run:
                del _runs[id(self.adapter)]

    def abandon(self) -> None:
        """Forget a run whose event loop is gone, and with it everything that could be closed."""
        for namespace in self._everywhere():
            namespace.forget()
        self._run = self._declaring = None
        self.presence.forget()
        self.edge_carrier.forget()

    def _everywhere(self) -> Iterable[ManagedNamespace]:
        """All namespaces: a join may be under way in one that nobody is in yet, or any more."""
        return dict.fromkeys([*self.namespaces.values(), *self.all_namespaces()])
