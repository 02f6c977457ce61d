"""Clients that come back: one for browsers, which an application serves, and one for Python.

browser     the one for browsers: an ASGI application to be mounted, `files`
"""

from __future__ import annotations

from fastapi_rooms.client.browser import files

__all__ = ["files"]
