"""Text of clients and of other workers, made fit for a log or a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Escape control characters as Python does: a terminal obeys them, a log has lines of them."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
