"""The nouns of the package, as type aliases: what a string stands for where it is used."""

from __future__ import annotations

from typing import TypeAlias

Sid: TypeAlias = str
"""Names one socket of a namespace. A sid is a room too: its socket is in it from the start."""

Room: TypeAlias = str
"""Names a set of sockets: any string of 1 to 255 UTF-8 bytes, compared byte for byte."""

Channel: TypeAlias = bytes
"""What an adapter subscribes and publishes to; made by `fastapi_rooms.core.names.Channels`."""

NodeId: TypeAlias = str
"""Names one started worker: sixteen hexadecimal digits, drawn anew at every start."""
