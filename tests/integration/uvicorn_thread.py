"""A uvicorn in a thread of this process, which starts and ends in no time."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import uvicorn
import uvicorn.server

TIMEOUT = 10.0


class Port(int):
    """Where a server listens."""

    server: uvicorn.Server
    stopped: Callable[[], bool]

    def stop(self) -> None:
        """Have it begin to stop, as a signal would."""
        self.server.should_exit = True


class _Hurried:
    """asyncio for uvicorn's server, which looks every tenth of a second what there is to do."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 20)


@contextmanager
def uvicorn_thread(app: Any, **options: Any) -> Iterator[Port]:
    """Serve an application; gives the port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    # The kernel takes little, so that a client which does not read is noticed soon.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    listener.listen()  # so that clients may come before the server has got that far
    server = uvicorn.Server(uvicorn.Config(app, **options))
    thread = threading.Thread(target=server.run, args=([listener],))
    port = Port(listener.getsockname()[1])
    port.server, port.stopped = server, lambda: not thread.is_alive()
    with patch.object(uvicorn.server, "asyncio", _Hurried()):
        thread.start()
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join(TIMEOUT)
            listener.close()
    assert not thread.is_alive(), "the server did not stop"
