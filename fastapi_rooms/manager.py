"""The application's manager: its namespaces, and when they run."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from threading import RLock
from types import MappingProxyType, TracebackType
from typing import Annotated, Any, Self, Unpack

from fastapi_rooms.adapters import AdapterLike, adapter_of
from fastapi_rooms.adapters.memory import MemoryAdapter
from fastapi_rooms.cluster.description import WORKERS, Worker
from fastapi_rooms.cluster.heartbeat import HeartbeatSettings
from fastapi_rooms.core.checks import check_positive
from fastapi_rooms.core.compression import Compression, compression_of
from fastapi_rooms.core.drain_schedule import DrainSchedule
from fastapi_rooms.core.json_codec import DEFAULT_JSON, JsonCodec
from fastapi_rooms.core.names import check_namespace
from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import ConfigurationError, UsageError
from fastapi_rooms.namespace import Namespace
from fastapi_rooms.operators.dispatcher import ClusterRequest
from fastapi_rooms.servers import count_workers_here
from fastapi_rooms.wire.socketio.settings import SocketIO
from fastapi_rooms.wire.verbs import Verb
from fastapi_rooms.worker.blocks import Lifespan
from fastapi_rooms.worker.handlers import HandlerRegistry
from fastapi_rooms.worker.local_namespace import LocalNamespace
from fastapi_rooms.worker.namespaces import Namespaces
from fastapi_rooms.worker.peer_run import check_socketio
from fastapi_rooms.worker.runtime import Health, Runtime
from fastapi_rooms.worker.settings import (
    MAX_ROOMS_PER_SOCKET,
    ManagerSettings,
    Settings,
    WhenUnavailable,
)

logger = logging.getLogger("fastapi_rooms")


class _Made:
    """Marks a parameter of which FastAPI asks pydantic only for `Depends(RoomManager)`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        raise ConfigurationError(
            "Depends(RoomManager) would make a manager for each request. Depend on the one that "
            "you made, and that your lifespan starts: `Annotated[RoomManager, Depends(rooms)]`."
        )


class RoomManager(Namespace):
    """The rooms of an application, and its namespace `/`.

        rooms = RoomManager("redis://localhost:6379")
        app = FastAPI(lifespan=rooms.lifespan)
        Rooms = Annotated[RoomManager, Depends(rooms)]

    Making one opens nothing, so it may stand at the top of a module that is imported before a fork.
    It may be started again after it was closed, in the same event loop or another. Without
    a lifespan, `async with rooms:` runs it, or `await rooms.start()` and `await rooms.stop()`.

    Args:
        adapter: what carries messages between workers: a URL (`memory://`, `memory://name` shared
            within the process, `redis://`, `rediss://`, `unix://`, `redis+sentinel://`,
            `rediss+sentinel://`, `redis+cluster://`, `rediss+cluster://`, `amqp://`, `amqps://`),
            an adapter, or a `redis.asyncio.Redis` or `RedisCluster` of your own, whose settings
            are used.
        outbox: what happens to sockets and listeners that do not keep up.
        prefix: the first part of every channel, so that applications can share one carrier;
            `rooms` unless the adapter was made with another.
        join_timeout: seconds that the adapter has to confirm a join.
        publish_timeout: seconds that it has to accept a message; for an adapter made here.
        linger: seconds that a room's channel is kept after its last member has left.
        max_lag: seconds that messages may wait while this worker writes earlier ones to its
            clients. What other workers send beyond that is dropped, and a `gap` tells of it.
        max_message_bytes: the longest message that may be sent, in bytes.
        max_rooms_per_socket: how many rooms one socket can be in, besides that of its own sid, as
            every room that someone is in costs memory here and a subscription in the adapter.
        request_timeout: seconds that other workers have to answer `fetch_sockets` and the like.
        heartbeat: seconds between the heartbeats of this worker, up to 3600. A worker that misses
            three is taken for dead.
        observer: take part without being counted as a worker: for a tool that only asks.
        drain_window: seconds over which the clients of a draining worker are closed when there are
            many of them: up to 100 in a second, or faster where the window would not be enough.
        drain_timeout: seconds that each of them has then to take what is left for it, before its
            connection is aborted; and that async event handlers have to finish.
        direct_writes: write finished frames to the connection itself where that is known to be
            sound (uvicorn), else through ASGI, which works on every server. `socket.transport`
            tells. It also is how the manager learns in time that uvicorn is stopping.
        compression: which messages are compressed, once for all clients that negotiated it, where
            they are written directly; `True`: as `Compression()`; `False` or `None`: none.
        json: an object with `dumps(value) -> bytes` and `loads(data) -> value`, by which messages
            are written and read as JSON. The default takes what Starlette's does, and more: see
            `BroadcastOperator.send_json`.
        when_unavailable: what becomes of clients and listeners that come while the adapter is not
            connected, and of joins. `refuse`: they wait for it up to `join_timeout`, then raise
            `AdapterUnavailable`, which closes a client with 1013. `admit`: they are in at once, or,
            if it looks connected and does not answer, after `join_timeout`; they hear this worker,
            and the others when it is back, with a `gap` event for the time since they joined.
        socketio: the Socket.IO servers and emitters on the same Redis, if there are any.

    Raises:
        ConfigurationError: these settings cannot be.
    """

    def __init__(
        self,
        adapter: AdapterLike = "memory://",
        *,
        outbox: OutboxPolicy = OutboxPolicy(),  # noqa: B008 -- immutable
        prefix: str | None = None,
        join_timeout: float = 5.0,
        publish_timeout: float = 5.0,
        linger: float = 1.0,
        max_lag: float = 0.5,
        max_message_bytes: int = 16 * 1024 * 1024,
        max_rooms_per_socket: int = MAX_ROOMS_PER_SOCKET,
        request_timeout: float = 5.0,
        heartbeat: float = 3.0,
        observer: bool = False,
        drain_window: float = 5.0,
        drain_timeout: float = 3.0,
        direct_writes: bool = True,
        compression: Compression | bool | None = True,
        json: JsonCodec = DEFAULT_JSON,
        when_unavailable: WhenUnavailable = "refuse",
        socketio: SocketIO | None = None,
    ) -> None:
        self._set_up(
            adapter,
            ManagerSettings(
                outbox=outbox,
                prefix=prefix,
                join_timeout=join_timeout,
                publish_timeout=publish_timeout,
                linger=linger,
                max_lag=max_lag,
                max_message_bytes=max_message_bytes,
                max_rooms_per_socket=max_rooms_per_socket,
                request_timeout=request_timeout,
                heartbeat=heartbeat,
                observer=observer,
                drain_window=drain_window,
                drain_timeout=drain_timeout,
                direct_writes=direct_writes,
                compression=compression,
                json=json,
                when_unavailable=when_unavailable,
                socketio=socketio,
            ),
        )

    def _set_up(
        self, adapter: AdapterLike, given: ManagerSettings, original: RoomManager | None = None
    ) -> None:
        """What `__init__` does, and `clone`: that has all settings at hand, and handlers."""
        settings = Settings(
            outbox=given["outbox"],
            join_timeout=given["join_timeout"],
            linger=given["linger"],
            max_lag=given["max_lag"],
            max_message_bytes=given["max_message_bytes"],
            max_rooms_per_socket=given["max_rooms_per_socket"],
            request_timeout=given["request_timeout"],
            heartbeat=HeartbeatSettings(given["heartbeat"], given["observer"]),
            drain_schedule=DrainSchedule(given["drain_window"], given["drain_timeout"]),
            direct_writes=given["direct_writes"],
            compression=compression_of(given["compression"]),
            json=given["json"],
            when_unavailable=given["when_unavailable"],
            socketio=given["socketio"],
        )
        prefix, publish_timeout = given["prefix"], given["publish_timeout"]
        check_positive("publish_timeout", publish_timeout)
        adapter = adapter_of(
            adapter, prefix="rooms" if prefix is None else prefix, publish_timeout=publish_timeout
        )
        if prefix is not None and prefix != adapter.prefix:
            raise ConfigurationError(
                f"The adapter was made with the prefix {adapter.prefix!r}, the manager is given "
                f"{prefix!r}. Give the prefix to the adapter only."
            )
        socketio, is_test = given["socketio"], original is not None
        if socketio is not None and not (is_test and isinstance(adapter, MemoryAdapter)):
            check_socketio(adapter, socketio)
        self._given = given
        self._starts = 0
        self._is_started = False  # by `start`, and not stopped
        self._started_in: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._lock = asyncio.Lock()
        self._registry: HandlerRegistry = (
            HandlerRegistry() if original is None else original._registry
        )
        runtime = Runtime(adapter, settings)
        runtime.manager = self
        here = LocalNamespace("/", runtime, self._registry.of("/"), lambda _: self)
        here.settle()
        super().__init__(here)
        self._namespaces = Namespaces(runtime, self._registry, Namespace)

    def of(self, name: str) -> Namespace:
        """Another namespace. `of("/")` is the manager itself.

        It is the same object as long as anybody holds it. An unused one costs nothing: one that
        nobody holds, and that has neither clients, listeners nor handlers here, is gone, so that
        names may be made of what clients ask for.

        Raises:
            InvalidNamespace: the name is not a string of 1 to 255 UTF-8 bytes without `#`.
        """
        return self._namespaces.public(check_namespace(name))

    @property
    def namespaces(self) -> Mapping[str, Namespace]:
        """Those that there are now, by their names, itself among them."""
        return MappingProxyType(self._namespaces.all_public())

    def clone(
        self, adapter: AdapterLike = "memory://", **settings: Unpack[ManagerSettings]
    ) -> Self:
        """Another manager with the same handlers, not started: for tests of an application.

            instead = rooms.clone()
            app.dependency_overrides[rooms] = instead

        The handlers of events and of other workers' events, and those that authorize, are the same
        in every namespace, whichever of the managers registers them, and when. They are told of
        sockets of both, so they should answer by `socket.namespace` rather than by the manager
        they are registered with: that may not be running.

        Args:
            adapter: as of `RoomManager`. It shares none with this manager.
            settings: what is to be different from this manager's.

        Raises:
            ConfigurationError: these settings cannot be.
        """
        given = self._given | settings
        if isinstance(adapter, str):
            if given["prefix"] is None:
                given["prefix"] = self._runtime.adapter.prefix
        elif "prefix" not in settings:
            given["prefix"] = None  # it has one of its own
        clone = type(self).__new__(type(self))
        clone._set_up(adapter, given, self)
        return clone

    async def workers(self, *, timeout: float | None = None) -> list[Worker]:
        """What every live worker says of itself.

        Raises what `fetch_sockets` does; `partial` has the workers that answered.
        """
        here = not self._runtime.settings.heartbeat.observer
        request = ClusterRequest(Verb.DESCRIBE, Target(), {}, here=here)
        return await self._here.request(request, WORKERS, timeout)

    @property
    def health(self) -> Health:
        """How the manager is, for a readiness route; never raises."""
        return self._runtime.health

    async def drain(self) -> None:
        """Drain this worker, for servers that announce their stop too late, or never.

        From now on no client can connect (it is closed with 1012), join or listen: that raises
        `ShuttingDown`. `health.ready` is false. The clients that are connected are closed with
        1012, each behind what was sent to it, over `drain_window`; listeners end. Returns when
        that is done.

        uvicorn tells the manager when it stops, and the end of the lifespan drains, too. A drained
        manager has to be stopped and started again before it accepts clients.

        Raises:
            NotStarted: the manager is not running.
        """
        await self._runtime.run.drain()

    def lifespan(self, app: Any = None) -> AbstractAsyncContextManager[None]:  # noqa: ARG002 -- Starlette passes it
        """The application's lifespan: `FastAPI(lifespan=rooms.lifespan)`."""
        return Lifespan(self)

    async def __aenter__(self) -> Self:
        """Start, in a lifespan of your own.

        Started twice, by an application and one mounted in it, it runs until both have ended.

        Raises:
            AdapterUnavailable: the adapter rejects the login. One that is merely out of reach is
                tried again in the background, and `health.ready` is false until then.
            ConfigurationError: it is running in another event loop, or another manager is running
                on its adapter.
        """
        self._forget_another_loop()
        async with self._lock:
            await self._start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Drain, and close; leave no connection, task or subscription."""
        async with self._lock:
            await self._stop()

    async def start(self) -> None:
        """Start, where there is no place for a block; `stop` ends it.

        Prefer `async with rooms:`, or the lifespan, which stops whatever happens.

        Raises:
            UsageError: it is running already.
            ConfigurationError: another manager is running on its adapter.
            AdapterUnavailable: as for `async with`.
        """
        self._forget_another_loop()
        async with self._lock:
            if self._starts:
                raise UsageError(
                    "This RoomManager is running already: `start` is for one that is not. "
                    "`async with rooms:`, as in a lifespan, may be entered more than once."
                )
            await self._start()
            self._is_started = True

    async def stop(self) -> None:
        """End what `start` began: drain, and close. Does nothing if that has ended already.

        Raises:
            UsageError: it runs by `async with` or a lifespan, and ends with that.
        """
        self._forget_another_loop()
        async with self._lock:
            if self._is_started:
                self._is_started = False
                await self._stop()
            elif self._starts:
                raise UsageError(
                    "This RoomManager was not started by `start`: it stops at the end of its "
                    "`async with` block, or lifespan. `drain` closes its clients before that."
                )

    async def _start(self) -> None:
        if self._starts == 0:
            self._warn_of_workers()
            await self._runtime.start()
        self._starts += 1

    async def _stop(self) -> None:
        self._starts -= 1
        if self._starts == 0:
            await self._runtime.stop()

    def _forget_another_loop(self) -> None:
        """What was started before a fork, or in a loop that is gone, cannot be closed any more."""
        here = (os.getpid(), asyncio.get_running_loop())
        if self._started_in not in (None, here):
            pid, loop = self._started_in
            if self._starts and pid == here[0] and loop.is_running():
                raise ConfigurationError(
                    "This RoomManager is running in another event loop. Make one for each; "
                    "`memory://name` or a shared MemoryBus lets them hear each other."
                )
            self._registry.lock = RLock()  # another thread may have had it at the fork
            self._runtime.abandon()
            self._starts, self._is_started = 0, False
            self._lock = asyncio.Lock()
        self._started_in = here

    def _warn_of_workers(self) -> None:
        workers = count_workers_here()
        if workers > 1 and isinstance(self._runtime.adapter, MemoryAdapter):
            logger.warning(
                "RoomManager keeps its rooms in memory, but this application runs in %d worker "
                "processes: people in one room will not hear those on another worker. Give it a "
                'Redis, RoomManager("redis://localhost:6379"), or run one worker.',
                workers,
            )


# Not as a string: older FastAPI looks up the names of a class's annotations nowhere.
RoomManager.__init__.__annotations__["adapter"] = Annotated[AdapterLike, _Made()]
