"""Clients that come back: one for browsers, which an application serves, and one for Python.

files       the browser client, as an ASGI application to be mounted
"""

from __future__ import annotations

from fastapi_rooms.client.files import files

__all__ = ["files"]
