"""Django channels, on uvicorn. Variants: `daphne`; `core`, the older of the Redis layers."""
# mypy: disable-error-code="import-not-found, import-untyped, misc, unused-ignore"

from __future__ import annotations

from typing import Any

import django
from django.conf import settings

from benchmarks.servers.options import read_options, serve

options = read_options()
variants = options.variant.split("+")


def layer() -> dict[str, Any]:
    if not options.redis:
        return {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    kind = "core.RedisChannelLayer" if "core" in variants else "pubsub.RedisPubSubChannelLayer"
    return {"BACKEND": f"channels_redis.{kind}", "CONFIG": {"hosts": [options.redis]}}


settings.configure(
    SECRET_KEY="benchmark",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["channels"],
    CHANNEL_LAYERS={"default": layer()},
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import re_path  # noqa: E402


class ChatConsumer(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()
        await self.send(text_data="ready")

    async def disconnect(self, _: int) -> None:
        await self.channel_layer.group_discard(self.room, self.channel_name)

    async def receive(self, text_data: str) -> None:
        message = {"type": "chat.message", "message": text_data}
        await self.channel_layer.group_send(self.room, message)

    async def chat_message(self, event: dict[str, str]) -> None:
        await self.send(text_data=event["message"])


routes = [re_path(r"^ws/(?P<room>\w+)$", ChatConsumer.as_asgi())]
application = ProtocolTypeRouter({"websocket": URLRouter(routes)})

if __name__ == "__main__":
    if "daphne" in variants:
        from daphne.server import Server

        Server(application, endpoints=[f"tcp:port={options.port}:interface=127.0.0.1"]).run()
    else:
        serve(application, options)
