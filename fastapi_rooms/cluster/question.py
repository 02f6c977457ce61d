"""A request under way: who has been asked, what they have answered, and who is still to answer.

A large answer comes in pieces, so that no message between workers is large. They come in order, as
everything from one worker does; an answer with a piece missing is no answer.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastapi_rooms.envelope import Reply
from fastapi_rooms.types import NodeId

PIECE_BYTES = 256 * 1024
"""The most that one reply carries."""

MAX_ANSWER_BYTES = 256 * 1024 * 1024
"""The answers to one request may be this long together; what passes it is refused."""


def pieces_of(answer: bytes) -> list[bytes]:
    """An answer in pieces, at least one."""
    return [
        answer[start : start + PIECE_BYTES] for start in range(0, len(answer) or 1, PIECE_BYTES)
    ]


class Question:
    """What one request asked of some workers."""

    def __init__(self, asked: Iterable[NodeId]) -> None:
        self.missing = set(asked)
        """Those that have yet to answer."""
        self.answers: dict[NodeId, bytes] = {}
        """What came back, whole, in JSON."""
        self.refusals: dict[NodeId, str] = {}
        """Why some would or could not answer."""
        self._pieces: dict[NodeId, list[bytes]] = {}
        self._size = 0

    def is_done(self) -> bool:
        """Whether nobody is left to wait for."""
        return not self.missing

    def answered(self, reply: Reply) -> bool:
        """Take a piece of an answer; false if it fits nothing that was asked."""
        node = reply.origin
        if node not in self.missing:
            return False
        pieces = self._pieces.setdefault(node, [])
        if reply.piece != len(pieces):
            return False
        pieces.append(reply.data)
        self._size += len(reply.data)
        if self._size > MAX_ANSWER_BYTES:
            self._settle(node)
            self.refusals[node] = f"the answers are longer than {MAX_ANSWER_BYTES} bytes"
        elif reply.last:
            whole = b"".join(self._settle(node))
            if reply.refused:
                self.refusals[node] = whole.decode(errors="replace")
            else:
                self.answers[node] = whole
        return True

    def gone(self, node: NodeId) -> None:
        """A worker is no more: nothing is to be expected of it, and nothing is missing without."""
        self.missing.discard(node)
        self._pieces.pop(node, None)

    def _settle(self, node: NodeId) -> list[bytes]:
        self.missing.discard(node)
        return self._pieces.pop(node, [])
