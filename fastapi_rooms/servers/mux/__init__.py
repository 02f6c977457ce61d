"""A client's connection with channels, as a server: each channel is a WebSocket to the application.

connection  reads from the client, and runs the application for each channel
channel     the ASGI `receive` and `send` of one
transport   writes what a socket is sent to its channel
"""

from __future__ import annotations

from fastapi_rooms.servers.mux.channel import Channel, channel_of
from fastapi_rooms.servers.mux.connection import MuxConnection
from fastapi_rooms.servers.mux.transport import ChannelTransport

__all__ = ["Channel", "ChannelTransport", "MuxConnection", "channel_of"]
