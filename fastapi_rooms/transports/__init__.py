"""Transports write to one client each; [fastapi_rooms.transports.base][] is their contract."""

from __future__ import annotations

from fastapi_rooms.transports.asgi import AsgiTransport
from fastapi_rooms.transports.base import Transport

__all__ = ["AsgiTransport", "Transport"]
