"""Edges hold the clients, backends run their endpoints: the application deploys, clients stay."""

from __future__ import annotations

from fastapi_rooms.gateway.backend import Backend
from fastapi_rooms.gateway.edge import Gateway
from fastapi_rooms.gateway.health import BackendHealth, GatewayHealth

__all__ = ["Backend", "BackendHealth", "Gateway", "GatewayHealth"]
