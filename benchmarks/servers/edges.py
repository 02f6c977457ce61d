"""fastapi_rooms, with the endpoints of `ours` behind an edge.

Variants: `edge`, which holds the clients; `backend`, which runs the endpoints. That listens, too,
but only so that the runner knows that it is there.
"""

from __future__ import annotations

import asyncio
import signal

from benchmarks.servers.options import Options, read_options, serve
from fastapi_rooms import Backend, Gateway, RoomManager


async def backend(options: Options) -> None:
    from benchmarks.servers.ours import app, rooms

    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    listener = asyncio.start_server(lambda _, to: to.close(), "127.0.0.1", options.port)
    async with rooms, Backend(app, name="chat", adapter=rooms), await listener:
        await stopped.wait()


if __name__ == "__main__":
    options = read_options()
    if options.variant == "edge":
        serve(Gateway(RoomManager(options.redis), routes={"/": "chat"}), options)
    else:
        import uvloop

        uvloop.run(backend(options))
