"""What can be done with the sockets an operator addresses, on whichever worker they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi_rooms.core.close_codes import check_close
from fastapi_rooms.core.names import check_rooms
from fastapi_rooms.operators.dispatcher import Dispatcher, Part, ResponseReader, T
from fastapi_rooms.operators.remote import COUNT, NOTHING, RemoteSocket, sockets_for
from fastapi_rooms.types import Room
from fastapi_rooms.wire.verbs import Verb


class SocketCommands:
    """Methods for the addressed sockets, on any worker.

    Where the manager has `socketio` in mode `peer`, those of Node servers are among them. In mode
    `send` they are told to join, leave and disconnect, and not asked.

    Each waits for every live worker. `timeout` is in seconds; when left out it is the manager's
    `request_timeout`. All of them raise:

    * `RequestTimeout` when workers did not answer in time. It has their ids, and what the others
      answered.
    * `RequestRefused` when workers would not or could not do it. It says why.
    * `AdapterUnavailable` when the adapter did not confirm a join on this worker in time: then no
      other worker was asked. Or when it did not accept the request in time: then this worker has
      done its part.
    * `NotStarted` when the manager is not running, or is closed meanwhile.

    None takes longer than its `timeout`, whatever the manager's other timeouts are.
    """

    __slots__ = ()

    _dispatcher: Dispatcher

    async def _request(
        self,
        verb: Verb,
        arguments: Mapping[str, Any],
        reader: ResponseReader[Part, T],
        timeout: float | None,
    ) -> T:
        raise NotImplementedError

    async def fetch_sockets(self, *, timeout: float | None = None) -> list[RemoteSocket]:
        """The sockets: their sids, rooms and data, and the workers they are on.

        Data that has no JSON form comes as an empty dict; the log of the socket's worker says so.
        """
        return await self._request(Verb.FETCH, {}, sockets_for(self._dispatcher), timeout)

    async def count(self, *, timeout: float | None = None) -> int:
        """How many sockets there are."""
        return await self._request(Verb.COUNT, {}, COUNT, timeout)

    async def sockets_join(self, *names: Room, timeout: float | None = None) -> None:
        """Put the sockets into rooms.

        Returns when they are in, wherever they are: what anybody sends to those rooms from then on
        reaches them.
        """
        await self._request(Verb.JOIN, {"rooms": list(check_rooms(names))}, NOTHING, timeout)

    async def sockets_leave(self, *names: Room, timeout: float | None = None) -> None:
        """Take the sockets out of rooms; returns when they are out.

        Those whose `join` of an addressed room is under way are addressed, too; and a room that
        they are on the way into is left as one that they are in. So nobody comes in by a right that
        was withdrawn after a handler of `authorize` was asked.
        """
        await self._request(Verb.LEAVE, {"rooms": list(check_rooms(names))}, NOTHING, timeout)

    async def disconnect_sockets(
        self, code: int = 1000, reason: str = "", *, timeout: float | None = None
    ) -> None:
        """Close the sockets.

        They have left every room when this returns, and are closed once they have what was sent to
        them before. So are those whose `join` of an addressed room is under way. Raises
        `UsageError` for a code or reason that cannot be sent.
        """
        check_close(code, reason)
        arguments = {"code": code, "reason": reason}
        await self._request(Verb.DISCONNECT, arguments, NOTHING, timeout)
