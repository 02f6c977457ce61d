"""A backend as a server: it runs endpoints for clients that edges hold."""

from __future__ import annotations

from fastapi_rooms.servers.gateway.connection import VirtualConnection, edge_of

__all__ = ["VirtualConnection", "edge_of"]
