"""Type aliases that say what a string or bytes stands for."""

from __future__ import annotations

from typing import TypeAlias

Sid: TypeAlias = str
"""Identifies one socket of a namespace. It names a room too, which that socket is always in."""

Room: TypeAlias = str
"""The name of a room: 1 to 255 UTF-8 bytes, compared byte by byte."""

Channel: TypeAlias = bytes
"""The Pub/Sub channel that messages travel on; see `fastapi_rooms.core.names.Channels`."""

NodeId: TypeAlias = str
"""Identifies one run of a worker: 16 random hexadecimal digits, new at every start."""
