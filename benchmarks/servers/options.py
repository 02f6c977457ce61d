"""What the runner tells a server, and uvicorn as all the servers that run on it have it."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple


class Options(NamedTuple):
    port: int
    redis: str
    """URL of a Redis to go through; empty for what is in memory."""
    loop: str
    """`uvloop` or `asyncio`."""
    deflate: bool
    """Whether the server compresses for clients that offer it, which is uvicorn's default."""
    variant: str
    """What else a server is to do differently."""


def read_options() -> Options:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis", default="")
    parser.add_argument("--loop", default="uvloop")
    parser.add_argument("--deflate", action="store_true")
    parser.add_argument("--variant", default="")
    return Options(**vars(parser.parse_args()))


def serve(app: Any, options: Options) -> None:
    """Run an ASGI application until the runner ends the process."""
    import uvicorn

    uvicorn.run(
        app,
        host="127.0.0.1",
        port=options.port,
        loop=options.loop,
        ws="websockets-sansio",
        ws_per_message_deflate=options.deflate,
        log_level="warning",
        backlog=4096,
    )
