"""Who is present, at an edge: it has the sockets, and backends know them, and have handlers.

Who a socket is comes with each of its joins, and ahead of those that others ask for. Who came or
left by what the edge has done is handed to one backend, whose handlers it may be for: of all
workers one is to be told. That is done once; if the backend is gone before it has it, and the
carrier did not say so, nobody is told, as where the answer to a worker is lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any
from zlib import crc32

from fastapi_rooms.concurrency import Tasks
from fastapi_rooms.core.patterns import Patterns
from fastapi_rooms.core.presence import Entry, UserEvent
from fastapi_rooms.errors import RoomsError, UsageError
from fastapi_rooms.gateway.socket import EdgeSocket, owner_of
from fastapi_rooms.gateway.users import NOBODY, read_patterns
from fastapi_rooms.presence.host import Name
from fastapi_rooms.types import NodeId, Room, Sid
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.worker.runtime import Runtime
from fastapi_rooms.worker.socket import Socket

logger = logging.getLogger("fastapi_rooms")

KEPT = 60.0
"""Seconds that what is to be handed to a backend waits for one."""

MAX_KEPT = 10_000
"""So many wait at most; of more, the last."""

TOLD_AT_ONCE = 100
"""Events in one frame, so that none is too long."""

MAX_GONE = 1000
"""So many backends that are gone are remembered at most."""

REMEMBERED = 10.0
"""Seconds, at least, that it is known whose joining may make somebody come."""

Publish = Callable[[NodeId, bytes], Awaitable[object]]
"""Sends a backend a frame about users; gives how many have got it, if the carrier knows."""


class EdgePresence:
    """That of one edge, while it runs. It is the `PresenceEdge` of its manager.

    Args:
        runtime: the manager's.
        publish: sends to a backend.
    """

    def __init__(self, runtime: Runtime, publish: Publish) -> None:
        self._runtime = runtime
        self._publish = publish
        self._told: dict[NodeId, dict[str, Patterns[bool]]] = {}
        self._told_as: dict[NodeId, list[Any]] = {}
        self._told_before: deque[tuple[float, dict[str, Patterns[bool]]]] = deque(maxlen=MAX_GONE)
        self._entering: dict[tuple[str, Room, str], NodeId] = {}
        self._entering_before: dict[tuple[str, Room, str], NodeId] = {}
        self._next_turn = 0.0
        self._waiting: deque[tuple[float, wire.Users]] = deque(maxlen=MAX_KEPT)
        self._tasks = Tasks()

    async def close(self, timeout: float) -> None:
        """Hand over what can be, and no more."""
        await self._tasks.wait(timeout)
        await self._tasks.cancel(timeout)

    # Who a socket is.

    def holds(self, socket: Socket) -> bool:
        """Whether the endpoint of a socket is in a backend."""
        return owner_of(socket) is not None

    def user_of(self, socket: Socket, room: Room) -> str | None:
        """Who a socket is, as its backend says; `None` if that does not know of presence there.

        Raises `UsageError` if the backend does not know who it is.
        """
        found = owner_of(socket)
        user = None if found is None else found.users.find(room)
        if found is None or user is None:
            return None
        if user == NOBODY:
            raise UsageError(
                f"{socket} has nothing by which {room!r} knows who is present: see "
                "rooms.presence(…, user=…), and give it by rooms.connect(websocket, data=…)."
            )
        return user

    def entering(self, name: Name, entries: Sequence[Entry]) -> None:
        """Sockets are about to join a room: handlers in their backends may want to hear of it."""
        for sid, user in entries:
            found = self._find(name.namespace, sid)
            node = None if found is None else found.owner.backend
            if found is not None and node is not None and _has(self._told.get(node, {}), name):
                self._entering[*name, user] = node
                if not found.claims.knows(name.room):  # others have it join
                    found.owner.tell("joining", found, name.room)

    def absent(self, name: Name, sids: Iterable[Sid]) -> None:
        """Sockets that were about to join a room have not come in."""
        for sid in sids:
            found = self._find(name.namespace, sid)
            if found is not None and not found.claims.knows(name.room):
                found.owner.tell("leave-room", found, name.room)

    def _find(self, namespace: str, sid: Sid) -> EdgeSocket | None:
        here = self._runtime.living.get(namespace)
        client = None if here is None else here.clients.get(sid)
        return None if client is None else owner_of(client.socket)

    # Who is to be told.

    def heard(self, node: NodeId, about: dict[str, Any]) -> None:
        """A backend lives, and says for which rooms it has handlers.

        Raises `MalformedEnvelope` if it cannot be so.
        """
        told_as = about.get("told", [])
        if self._told_as.get(node) == told_as:
            return
        self._told[node] = read_patterns({"told": told_as})
        self._told_as[node] = told_as
        waiting, self._waiting = self._waiting, deque(maxlen=MAX_KEPT)
        for since, users in waiting:
            self._hand_over_to(None, users, since)

    def gone(self, node: NodeId) -> None:
        """A backend is gone."""
        self._told_as.pop(node, None)
        told = self._told.pop(node, None)
        if told:
            self._told_before.append((asyncio.get_running_loop().time(), told))

    def tick(self, now: float) -> None:
        """Forget what is old."""
        while self._waiting and self._waiting[0][0] < now - KEPT:
            _, users = self._waiting.popleft()
            logger.warning("No backend was there to be told of %s", users)
        while self._told_before and self._told_before[0][0] < now - KEPT:
            self._told_before.popleft()
        if now >= self._next_turn:
            self._next_turn = now + REMEMBERED
            self._entering, self._entering_before = {}, self._entering

    def made(self, name: Name, events: Sequence[UserEvent]) -> None:
        """Users came or left by what this edge has done."""
        here = self._runtime.living.get(name.namespace)
        rule = None if here is None else here.presences.rule_of(name.room)
        if rule is not None and rule.has_handlers:
            return  # the edge's own have been told
        for start in range(0, len(events), TOLD_AT_ONCE):
            self._hand_over(name, events[start : start + TOLD_AT_ONCE])

    def _hand_over(self, name: Name, events: Sequence[UserEvent]) -> None:
        """Hand events to the backends that have the clients who come, or else to any one.

        Who has some of them gets all, and so has no hole among them: it may be just about to hear
        of the room.
        """
        candidates = self._candidates(name)
        anyone = candidates[0] if candidates else None
        once: dict[NodeId | None, set[int]] = {}
        has_some = set[NodeId | None]()
        for event in events:
            key, node = (*name, event.user), None
            if event.kind == "join":
                earlier = self._entering_before.pop(key, None)
                node = self._entering.pop(key, earlier)
            if node in candidates:
                has_some.add(node)
            else:
                node = anyone
            once.setdefault(node, set()).add(event.version)
        now = asyncio.get_running_loop().time()
        for node, versions in once.items():
            told = [event for event in events if node in has_some or event.version in versions]
            self._hand_over_to(node, wire.Users(*name, told, frozenset(versions)), now)

    def _candidates(self, name: Name) -> list[NodeId]:
        """The backends that have handlers for a room, in the order in which they are told.

        It is the same as long as the first lives, so that it hears of the room in order.
        """
        found = [node for node, told in self._told.items() if _has(told, name)]
        return sorted(found, key=lambda node: crc32(f"{node} {name}".encode()))

    def _hand_over_to(self, first: NodeId | None, users: wire.Users, since: float) -> None:
        name = Name(users.namespace, users.room)
        candidates = sorted(self._candidates(name), key=lambda node: node != first)
        if candidates:
            self._tasks.start(self._publish_to(candidates, users, since), "fastapi_rooms presence")
        elif not self._told or any(_has(told, name) for _, told in self._told_before):
            self._waiting.append((since, users))

    async def _publish_to(self, nodes: list[NodeId], users: wire.Users, since: float) -> None:
        body = wire.pack_users(users)
        for node in nodes:
            try:
                if await self._publish(node, body) != 0:
                    return
                self._told_as.pop(node, None)  # with its next heartbeat it is tried again
            except RoomsError as error:  # it may have it: another must not be told, too
                logger.warning("A backend could not be told of %s: %s", users, error)
                return
        self._waiting.append((since, users))


def _has(told: dict[str, Patterns[bool]], name: Name) -> bool:
    patterns = told.get(name.namespace)
    return patterns is not None and patterns.find(name.room) is not None
