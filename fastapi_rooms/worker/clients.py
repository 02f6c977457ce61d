"""Who is connected to a namespace on this worker, and who is on the way out."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi_rooms.errors import SidInUse
from fastapi_rooms.types import Sid
from fastapi_rooms.worker.disconnects import Client, Disconnects
from fastapi_rooms.worker.socket import Socket


class Clients:
    """The clients of one namespace. One that has left is still here until its block is over."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._by_sid: dict[Sid, Client] = {}
        self._open: dict[Client, None] = {}  # whose block is not over, though they may have left
        self.disconnects = Disconnects()
        """Those who are out of their rooms, and about to be closed."""

    def __bool__(self) -> bool:
        return bool(self._open)

    def __getitem__(self, sid: Sid) -> Client:
        return self._by_sid[sid]

    def connected(self) -> list[Client]:
        """Those who have not left."""
        return list(self._by_sid.values())

    @property
    def open(self) -> Iterable[Client]:
        """Those whose block is not over."""
        return self._open

    def get(self, sid: Sid) -> Client | None:
        """The client that has a sid, if it has not left."""
        return self._by_sid.get(sid)

    def socket(self, sid: Sid) -> Socket | None:
        """The socket that has a sid, unless it is about to be closed."""
        if sid not in self._by_sid or sid in self.disconnects:
            return None
        return self._by_sid[sid].socket

    def lost(self, socket: Socket) -> None:
        """The client of a socket is gone: its connection sees to that it leaves."""
        socket.is_lost = True
        client = self.get(socket.sid)
        if client is not None and client.socket is socket:
            client.lost()

    def is_in(self, socket: Socket) -> bool:
        """Whether a socket is in, and not about to be closed."""
        if socket.sid in self.disconnects:
            return False
        client = self._by_sid.get(socket.sid)
        return client is not None and client.socket is socket

    def check_free(self, sid: Sid) -> None:
        """Raise `SidInUse` if one of them has the sid."""
        if sid in self._by_sid:
            raise SidInUse(
                f"A socket of this worker in {self._namespace} has the sid {sid!r} already."
            )

    def add(self, client: Client) -> None:
        """A client has come in."""
        self._by_sid[client.socket.sid] = client
        self._open[client] = None

    def remove(self, client: Client) -> bool:
        """A client leaves; returns whether it was in. Its block may go on."""
        if self._by_sid.get(client.socket.sid) is not client:
            return False
        del self._by_sid[client.socket.sid]
        return True

    def ended(self, client: Client) -> None:
        """The block of a client is over."""
        self._open.pop(client, None)

    def clear(self) -> None:
        """Forget those of an event loop that is gone."""
        self._by_sid.clear()
        self._open.clear()
        self.disconnects.clear()
