"""A connection to RabbitMQ over a plain socket, for a sender that blocks.

It sends no heartbeats, as no thread would: RabbitMQ is told to expect none.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from time import monotonic

from fastapi_rooms.adapters.rabbitmq.links.access import Access
from fastapi_rooms.adapters.rabbitmq.links.frames import (
    Confirmed,
    Event,
    FrameReader,
    Method,
    ProtocolError,
    Returned,
    commands,
    method,
    name_of,
)
from fastapi_rooms.adapters.rabbitmq.links.link import CLOSE_TIMEOUT
from fastapi_rooms.adapters.rabbitmq.links.reasons import Refused, said
from fastapi_rooms.adapters.rabbitmq.links.steps import Broker, Steps, log_in_to_publish, refusal

_CHUNK = 64 * 1024


class Wire:
    """An open connection, on which one message at a time is published.

    Raises:
        Refused, ProtocolError, OSError: it cannot be opened by the deadline, on any of the hosts.
    """

    def __init__(self, access: Access, exchange: str, deadline: float) -> None:
        self._access = access._replace(heartbeat=0)
        self._exchange = exchange
        self._reader = FrameReader()
        self._blocked = ""
        self._published = 1  # on this connection, with what `begin_publishing` published
        self._socket = self._open(deadline)

    def _open(self, deadline: float) -> socket.socket:
        first: Exception | None = None
        for number, (host, port) in enumerate(self._access.hosts):
            hosts_left = len(self._access.hosts) - number
            by = monotonic() + max(deadline - monotonic(), 0) / hosts_left
            self._reader, self._blocked = FrameReader(), ""
            try:
                raw = socket.create_connection((host, port), _left(by))
            except OSError as error:
                first = first or error
                continue
            try:
                if self._access.tls is not None:
                    raw = self._access.tls.wrap_socket(raw, server_hostname=host)
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._take(raw, log_in_to_publish(self._access, self._exchange), by)
            except BaseException as error:
                raw.close()
                if not isinstance(error, (Refused, ProtocolError, OSError)):
                    raise
                first = first or error
            else:
                return raw
        assert first is not None
        raise first

    def _take(self, raw: socket.socket, steps: Steps[Broker], deadline: float) -> None:
        """Take the steps."""
        data = next(steps)
        while True:
            _send(raw, data, deadline)
            try:
                data = steps.send(self._next(raw, deadline))
            except StopIteration:
                return

    def publish(self, data: bytes, deadline: float) -> bool:
        """Send what is one message, and return whether RabbitMQ has accepted it.

        Raises:
            Refused, ProtocolError, OSError: it did not say so by the deadline.
        """
        self._wait_unblocked(deadline)
        self._published += 1
        _send(self._socket, data, deadline)
        while True:
            try:
                event = self._next(self._socket, deadline)
            except TimeoutError:
                self._raise_if_blocked()
                raise
            if isinstance(event, Confirmed) and event.tag == self._published:
                return event.accepted
            if not isinstance(event, Confirmed | Returned):
                raise _unexpected(event)

    def _wait_unblocked(self, deadline: float) -> None:
        """Have read what has come, and wait while RabbitMQ takes nothing."""
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self._read(self._socket)
        while True:
            event = self._event()
            if event is not None:
                raise _unexpected(event)
            if not self._blocked:
                return
            try:
                self._socket.settimeout(_left(deadline))
                self._read(self._socket)
            except TimeoutError:
                self._raise_if_blocked()
                raise

    def _raise_if_blocked(self) -> None:
        if self._blocked:
            raise TimeoutError(
                f"it takes nothing that is published until this is over: {self._blocked}"
            ) from None

    def _next(self, raw: socket.socket, deadline: float) -> Event:
        while (event := self._event()) is None:
            raw.settimeout(_left(deadline))
            self._read(raw)
        return event

    def _event(self) -> Event | None:
        """The first event that is not about the connection as a whole, if one has come."""
        for event in self._reader.events():
            if event is not None and not self._is_about_all(event):
                return event
        return None

    def _is_about_all(self, event: Event) -> bool:
        if not isinstance(event, Method):
            return False
        frame = event.frame
        if isinstance(frame, commands.Connection.Blocked):
            self._blocked = said(frame.reason or "no reason given")
        elif isinstance(frame, commands.Connection.Unblocked):
            self._blocked = ""
        else:
            return False
        return True

    def _read(self, raw: socket.socket) -> None:
        try:
            data = raw.recv(_CHUNK)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        if not data:
            raise ConnectionResetError("closed by RabbitMQ")
        self._reader.feed(data)

    def close(self) -> None:
        """Say goodbye, and close the socket."""
        with suppress(OSError, ProtocolError, Refused):
            deadline = monotonic() + CLOSE_TIMEOUT
            _send(self._socket, method(commands.Connection.Close(200, "closed", 0, 0), 0), deadline)
            while not isinstance(self._next(self._socket, deadline), Method):
                pass
        self._socket.close()

    def abort(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __del__(self) -> None:
        """Close the socket: a process that was forked has no other use for it."""
        if hasattr(self, "_socket"):
            self._socket.close()


def _unexpected(event: Event) -> Exception:
    """Why RabbitMQ closes the connection or its channel, or that nobody understands it."""
    if isinstance(event, Method) and isinstance(
        event.frame, commands.Connection.Close | commands.Channel.Close
    ):
        return refusal(event.frame)
    return ProtocolError(f"{name_of(event)} came where messages are confirmed")


def _left(deadline: float) -> float:
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _send(raw: socket.socket, data: bytes, deadline: float) -> None:
    if data:
        raw.settimeout(_left(deadline))
        raw.sendall(data)
