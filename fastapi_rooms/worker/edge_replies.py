"""What an edge has answered, as far as it can be read: of the rest, nothing."""

from __future__ import annotations

from typing import Any

from fastapi_rooms.worker.resume import Joined


def text_or_none(said: dict[str, Any], name: str) -> str | None:
    """A field, if it is text."""
    found = said.get(name)
    return found if isinstance(found, str) else None


def joined_of(reply: dict[str, Any]) -> Joined:
    """What it says of a join."""
    recovered, replayed = reply.get("recovered"), reply.get("replayed", 0)
    positions = reply.get("positions")
    return Joined(
        recovered if isinstance(recovered, bool) else None,
        replayed if type(replayed) is int else 0,
        {room: text for room, text in positions.items() if isinstance(text, str)}
        if isinstance(positions, dict)
        else {},
    )
