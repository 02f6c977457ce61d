"""Litestar's channels plugin: a subscription in the background of a WebSocket's handler."""
# mypy: disable-error-code="import-not-found, untyped-decorator, unused-ignore"

from __future__ import annotations

from litestar import Litestar, WebSocket, websocket
from litestar.channels import ChannelsPlugin
from litestar.channels.backends.memory import MemoryChannelsBackend
from litestar.channels.backends.redis import RedisChannelsPubSubBackend
from litestar.exceptions import WebSocketDisconnect
from redis.asyncio import Redis

from benchmarks.servers.options import read_options, serve

options = read_options()


@websocket("/ws/{room:str}")
async def chat(socket: WebSocket, room: str, channels: ChannelsPlugin) -> None:
    await socket.accept()
    async with (
        channels.start_subscription([room]) as subscriber,
        subscriber.run_in_background(socket.send_text),
    ):
        await socket.send_text("ready")
        try:
            while True:
                channels.publish(await socket.receive_text(), room)
        except WebSocketDisconnect:
            return


if options.redis:
    backend = RedisChannelsPubSubBackend(redis=Redis.from_url(options.redis))
else:
    backend = MemoryChannelsBackend()
plugin = ChannelsPlugin(backend=backend, arbitrary_channels_allowed=True)
app = Litestar([chat], plugins=[plugin])

if __name__ == "__main__":
    serve(app, options)
