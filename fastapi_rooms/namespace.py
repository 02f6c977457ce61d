"""A namespace: its own rooms and sids, and the verbs over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager
from typing import Any, Self

from starlette.websockets import WebSocket

from fastapi_rooms.core.names import check_event, check_is_text, check_rooms, new_sid
from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.core.patterns import check_pattern
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import ConfigurationError, RequestError, RequestTimeout, UsageError
from fastapi_rooms.operators.broadcast import BroadcastOperator
from fastapi_rooms.operators.dispatcher import ClusterRequest
from fastapi_rooms.operators.remote import REPLIES, ROOMS, ServerReply
from fastapi_rooms.operators.sync import SyncOperator
from fastapi_rooms.servers import edge_of
from fastapi_rooms.types import NodeId, Room, Sid
from fastapi_rooms.wire.verbs import Verb
from fastapi_rooms.worker.authorization import AuthorizeHandler
from fastapi_rooms.worker.connection import Connection
from fastapi_rooms.worker.edge_namespace import EdgeNamespace
from fastapi_rooms.worker.events import EventName, Handler
from fastapi_rooms.worker.history_verbs import HistoryVerbs
from fastapi_rooms.worker.listener import Listener
from fastapi_rooms.worker.listening import listening
from fastapi_rooms.worker.local_namespace import LocalNamespace
from fastapi_rooms.worker.presence_verbs import PresenceVerbs
from fastapi_rooms.worker.resume import Resume


class Namespace(BroadcastOperator, HistoryVerbs, PresenceVerbs):
    """Sockets and rooms that know nothing of those in other namespaces.

    It is the operator that addresses everyone in it, and a dependency too:
    `Annotated[Namespace, Depends(rooms.of("/chat"))]`.
    """

    def __init__(self, here: LocalNamespace) -> None:
        self.name = here.name
        """Its name, with the leading slash: `/` for the manager itself."""
        self._runtime = here.runtime
        self._handlers = here.handlers
        self._here = here
        super().__init__(here)

    async def __call__(self) -> Self:
        """What `Depends` calls: the namespace itself."""
        return self

    # Starlette calls a lifespan with the application; so Python's error tells what to give.
    __call__.__qualname__ = "A lifespan is given by lifespan=rooms.lifespan. Namespace.__call__"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], Any]) -> Any:
        """What pydantic calls for a field of this type; FastAPI for a parameter without `Depends`.

        Raises:
            ConfigurationError: the parameter needs `Depends`.
        """
        try:
            return handler(source)  # of a model with arbitrary_types_allowed
        except Exception:  # noqa: BLE001 -- pydantic is not imported here
            raise ConfigurationError(
                f"A parameter of type {cls.__name__} needs Depends: "
                f"`rooms: Annotated[{cls.__name__}, Depends(rooms)]`, where the second `rooms` is "
                "the one that you made."
            ) from None

    @property
    def rooms(self) -> Mapping[Room, AbstractSet[Sid]]:
        """This worker's rooms and the sids in them: a live, read-only view."""
        return self._here.rooms

    @property
    def sids(self) -> Mapping[Sid, AbstractSet[Room]]:
        """This worker's sids and the rooms they are in: a live, read-only view."""
        return self._here.sids

    @property
    def outbox(self) -> OutboxPolicy:
        """What happens to sockets and listeners that do not keep up."""
        return self._here.outbox

    def connect(
        self,
        websocket: WebSocket,
        *,
        sid: Sid | None = None,
        data: dict[str, Any] | None = None,
        subprotocol: str | None = None,
        headers: Iterable[tuple[bytes, bytes]] | None = None,
    ) -> Connection:
        """Connect a client for the time of an `async with` block, which gives its `Socket`.

        Accepts the connection unless it is accepted already. The socket has left every room at the
        end of the block, whichever way it ends, and as soon as its connection is known to be lost.
        The block ends quietly when the client goes (`WebSocketDisconnect`); when the client sends
        what cannot be read (`InvalidMessage`: closed with 1003 or 1007); when the manager's adapter
        is unavailable (closed with 1013); by an `HTTPException` (closed with 4000 plus its status:
        4404); and by text that cannot be used or sent, as it may be the client's (4400), or a
        message that is too large (1009). An error about another socket or manager is an exception
        like any other.

        Args:
            websocket: Starlette's object, which stays yours: read from it and write to it freely.
            sid: an id of your own choice for the socket, else one that nobody can guess is drawn.
            data: what to know the socket by; JSON values. Where an endpoint runs again behind an
                edge, what the one before it had in `socket.data` outranks it; and there it may have
                no other values.
            subprotocol: the one to accept the connection with.
            headers: more headers to accept it with.

        Raises:
            NotStarted: the manager is not running.
            InvalidRoomName: `sid` is not a string of 1 to 255 UTF-8 bytes. Unless the endpoint
                catches it, for a string the client gets HTTP status 400 where the server can send
                one before it accepts, else close code 4400.
            UsageError: the client is held by an edge, and `data` has what JSON does not give back;
                or this manager is on another carrier than its backend, or has another prefix.
            SidInUse: a socket of this worker has that sid. Unless the endpoint catches it, the
                client gets HTTP status 409, or close code 4409, likewise. To reach all sockets of a
                user, use a room: `user:ann`.
        """
        node, edge = self._runtime.run.node, edge_of(websocket.scope)
        data = {} if data is None else data
        host: LocalNamespace | EdgeNamespace = self._here
        drawn = new_sid(node) if edge is None else edge.sid
        if edge is not None:
            self._runtime.edge_carrier.check(websocket.scope)
            host = EdgeNamespace(self._here, edge)
            data.update(edge.kept.get(self.name, {}))
        sid = drawn if sid is None else check_is_text(sid)  # the block checks the rest
        return Connection(host, websocket, sid, data, subprotocol, headers)

    def listen(
        self,
        *names: Room,
        everyone: bool = False,
        outbox: OutboxPolicy | None = None,
        since: str | None = None,
        recent: int | None = None,
    ) -> AbstractAsyncContextManager[Listener]:
        """Hear what is sent to some rooms, without a socket, for the time of an `async with` block.

        A message to several of the rooms is heard once.

        Args:
            names: the rooms, at least one.
            everyone: hear what is sent to everyone in the namespace as well, or, without names,
                only that.
            outbox: how much may wait for this listener and what happens past that; the manager's
                policy when left out. `close` ends the iteration with `ListenerOverflow`, and that
                ends the block: quietly, with a line in the log.
            since: a position in one room with a history, as of `socket.join`; such as a
                `Last-Event-ID`. `Listener.recovered` tells whether all since then is heard.
            recent: how many of its last messages are heard first.

        Raises:
            AdapterUnavailable: the adapter did not confirm the rooms within the join timeout.
            ShuttingDown: this worker is draining. A listener that exists already ends then.
        """
        if not (names or everyone):
            raise UsageError("listen() needs the name of at least one room, or everyone=True.")
        rooms = tuple(dict.fromkeys(check_rooms(names)))
        return listening(self._here, rooms, outbox, Resume(since, recent), everyone=everyone)

    def on(self, event: EventName) -> Callable[[Handler], Handler]:
        """Decorate a handler, plain or async, of what happens on this worker.

        | event | handler gets | when |
        |---|---|---|
        | `connect`, `disconnect` | the `Socket` | it has connected; it has left every room |
        | `create-room`, `delete-room` | the room | its first member has joined; its last has left |
        | `join-room`, `leave-room` | the room, the `Socket` | it has joined or left |
        | `gap` | a `Gap` | messages from other workers may have been missed |
        | `worker-lost` | a `WorkerLost` | another worker has crashed, was killed, or is cut off |

        The room that a socket has by its own sid makes no events. A handler that raises is logged
        and harms nothing else. `off` takes a handler back. Raises `ConfigurationError` for an event
        that does not exist.
        """
        return self._handlers.on(event)

    def off(self, event: EventName, handler: Callable[..., Any]) -> None:
        """Take back a handler that `on` has registered.

        Raises:
            ConfigurationError: there is no such event, or the handler is not one of it.
        """
        self._handlers.off(event, handler)

    def authorize(self, pattern: str = "*") -> Callable[[AuthorizeHandler], AuthorizeHandler]:
        """Have a handler asked before a socket of this namespace joins certain rooms.

            @rooms.authorize("private-*")
            async def is_member(socket: Socket, room: str) -> bool:
                return await membership.exists(user=socket.data["user"], room=room)

        The handler may be plain or async. It is called with the socket and the name of a room, for
        every room that `socket.join` names and the socket is not in yet, before the adapter is
        asked for any of them. The join is allowed when the handler returns a true value. Where
        several patterns match, every handler has to allow it; they are asked in the order of their
        registration. A room that no pattern matches is open to everyone.

        Otherwise `join` raises `JoinRefused` and no room is joined; unless the endpoint catches it,
        the socket is closed with 1008. A handler that raises denies the join, and the error is
        logged. It can choose what the client is told by raising a `ClientError`, such as
        `JoinRefused("room", "banned")`.

        An answer holds until the join is done, unless the socket leaves the room meanwhile, or is
        taken out of it: to withdraw a right, first have handlers say no, then use `sockets_leave`.
        A handler, too, can have the socket leave a room that the same join names.

        Only `socket.join` asks. The room of a socket's own sid, `rooms.listen`, and joins that the
        application makes by `sockets_join` need no authorization.

        Args:
            pattern: a room's name; or how names begin, followed by a `*` that stands for any rest,
                the empty one too. Names are compared as they are: no case is folded, nothing is
                normalized.

        Raises:
            ConfigurationError: the pattern matches no name that a room can have, or has a `*`
                before its end.
        """

        def register(handler: AuthorizeHandler) -> AuthorizeHandler:
            return self._handlers.authorize(checked, handler)

        checked = check_pattern(pattern, "authorize", "Look at the room's name in the handler.")
        return register

    @property
    def sync(self) -> SyncNamespace:
        """The same operators for threads and `def` routes: they block, and need no `await`."""
        return SyncNamespace(self)

    # The whole cluster.

    @property
    def node(self) -> NodeId:
        """This worker's id, as the others know it: new at every start.

        It is what `nodes()`, `RemoteSocket.node`, `ServerReply.node` and the `silent` of a
        `RequestTimeout` call it. Raises `NotStarted` if the manager is not running.
        """
        return self._runtime.running.node

    def nodes(self) -> frozenset[NodeId]:
        """The ids of the workers that live, this one among them, as far as they are known now."""
        return self._runtime.running.cluster.nodes

    async def all_rooms(self, *, timeout: float | None = None) -> set[Room]:
        """The rooms of this namespace on every worker; a socket's own sid is one.

        Raises what `fetch_sockets` does.
        """
        return await self._here.request(ClusterRequest(Verb.ROOMS, Target(), {}), ROOMS, timeout)

    def on_server_side(self, event: str) -> Callable[[Handler], Handler]:
        """Decorate the handler, plain or async, of what other workers `server_side_emit`.

        What it returns is the reply to `server_side_emit_with_ack`; if it raises, its error is.
        Raises `ConfigurationError` if the event has a handler already, `UsageError` if it is no
        string.
        """
        name = check_event(event)

        def register(handler: Handler) -> Handler:
            return self._handlers.on_server_side(name, handler)

        return register

    async def server_side_emit(self, event: str, *args: Any) -> None:
        """Have every other worker call its handler of an event with these JSON values.

        Returns when the adapter has accepted it. Raises `AdapterUnavailable` when it did not in
        time, `MessageTooLarge` for values over the manager's limit, `TypeError` for what is not
        JSON, `UsageError` for an event that is no string.
        """
        request = ClusterRequest(Verb.EMIT, Target(()), self._event(event, args))
        await self._runtime.notify(self.name, request)

    async def server_side_emit_with_ack(
        self, event: str, *args: Any, timeout: float = 5.0
    ) -> list[ServerReply]:
        """As `server_side_emit`, and return what each handler has returned.

        A worker without a handler, or whose handler raised, replies with that error. A Node server
        of Socket.IO without one does not reply: it is waited for as long as `timeout`, and then
        has a reply that says so.

        Raises:
            RequestTimeout: workers did not reply in `timeout` seconds; `partial` holds the others'.
            AdapterUnavailable: the adapter did not accept it in time.
            MessageTooLarge: the values are over the manager's limit; nobody has them.
        """
        arguments = self._event(event, args)
        request = ClusterRequest(Verb.EMIT, Target(()), arguments, here=False)
        try:
            return await self._here.request(request, REPLIES, timeout)
        except RequestError as error:
            failed = [ServerReply(node, None, why) for node, why in error.refusals.items()]
            error.partial += failed
            if isinstance(error, RequestTimeout):
                raise
            return list(error.partial)

    def _event(self, event: str, args: tuple[Any, ...]) -> dict[str, Any]:
        arguments = {"event": check_event(event), "args": list(args)}
        self._runtime.run.check_size(len(Payload.of_json(arguments).data))
        return arguments

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class SyncNamespace(SyncOperator):
    """A namespace for other threads: `rooms.sync`, `rooms.of("/chat").sync`.

    It is the operator that addresses everyone in it. All verbs raise what `SyncOperator` says.
    """

    __slots__ = ("_namespace",)

    def __init__(self, namespace: Namespace) -> None:
        super().__init__(namespace._here, namespace._runtime)
        self._namespace = namespace

    @property
    def name(self) -> str:
        """Its name, with the leading slash."""
        return self._namespace.name

    def all_rooms(self, *, timeout: float | None = None) -> set[Room]:
        """The rooms of this namespace on every worker: see `Namespace.all_rooms`."""
        return self._caller.call(lambda: self._namespace.all_rooms(timeout=timeout), timeout)

    def server_side_emit(self, event: str, *args: Any) -> None:
        """Have every other worker call its handler: see `Namespace.server_side_emit`."""
        self._caller.call(lambda: self._namespace.server_side_emit(event, *args), None)

    def server_side_emit_with_ack(
        self, event: str, *args: Any, timeout: float = 5.0
    ) -> list[ServerReply]:
        """The same, and what each handler returned."""
        return self._caller.call(
            lambda: self._namespace.server_side_emit_with_ack(event, *args, timeout=timeout),
            timeout,
        )
