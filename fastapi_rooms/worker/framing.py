"""The clients of one namespace that speak the framing, and what they are told beside messages."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from fastapi_rooms.core.membership import Membership
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.transports import Transport
from fastapi_rooms.types import Room, Sid
from fastapi_rooms.wire import client_framing
from fastapi_rooms.worker.client_heartbeat import ClientHeartbeat
from fastapi_rooms.worker.framed_transport import FramedTransport


class FramedClients:
    """Those who are connected. With none of them, nothing is done."""

    __slots__ = ("_aliases", "_by_sid", "_heartbeat", "_members")

    def __init__(self, members: Membership[Transport]) -> None:
        self._members = members
        self._by_sid: dict[Sid, FramedTransport] = {}
        self._aliases: dict[Sid, list[Room]] = {}
        self._heartbeat = ClientHeartbeat(self._by_sid)

    def __bool__(self) -> bool:
        return bool(self._by_sid)

    def add(self, sid: Sid, transport: Transport) -> None:
        """A client has come; most speak no framing."""
        if isinstance(transport, FramedTransport):
            self._by_sid[sid] = transport
            self._heartbeat.start()
            self.know(sid, transport.alias)

    def remove(self, sid: Sid) -> None:
        """A client has left."""
        transport = self._by_sid.pop(sid, None)
        if transport is not None:
            self.forget(sid, transport.alias)
            if not self._by_sid:
                self._heartbeat.stop()

    def know(self, sid: Sid, alias: Room) -> None:
        """A client has a name by which messages leave it out; it may be connected to an edge."""
        self._aliases.setdefault(sid, []).append(alias)

    def forget(self, sid: Sid, alias: Room) -> None:
        """It has left."""
        self._aliases[sid].remove(alias)
        if not self._aliases[sid]:
            del self._aliases[sid]

    def clear(self) -> None:
        """Forget those of an event loop that is gone."""
        self._by_sid.clear()
        self._aliases.clear()
        self._heartbeat.forget()

    def with_aliases(self, target: Target) -> Target:
        """A target that leaves out the same clients when they come again, with other sids."""
        found = (self._aliases.get(name, ()) for name in target.except_)
        aliases = tuple(chain.from_iterable(found))
        return target.excluding(aliases) if aliases else target

    def left_out(self, target: Target) -> tuple[Sid, ...]:
        """The framed clients that are in the addressed room, and get nothing."""
        if not target.except_:
            return ()
        members = self._members.select(target.rooms)
        excluded = self._members.excluded(target)
        some, others = sorted((self._by_sid.keys(), excluded), key=len)
        return tuple(sid for sid in some if sid in others and sid in members)

    def among(self, sids: Iterable[Sid]) -> tuple[Sid, ...]:
        """Those of some sids that are framed clients'."""
        return tuple(sid for sid in sids if sid in self._by_sid)


def put_in_place(room: Room, position: str, payload: Payload) -> Payload:
    """Have framed clients get a message in its place; it is framed once."""
    if payload.framed is None:
        payload.framed = client_framing.in_place(room, position, payload)
    return payload
