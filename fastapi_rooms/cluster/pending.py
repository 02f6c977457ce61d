"""A request under way: who was asked, what they answered, and who has yet to answer. No I/O.

A request to everyone may reach workers that this one does not know, as they were too busy to answer
its greeting. The carrier says how many it gave the request to. As many answers are waited for, so
an answer that looks complete is complete. A worker that starts while the request is under way did
not get it.

A large answer comes in pieces, so that no message between workers is large. They come in order, as
everything from one worker does; an answer with a piece missing is ignored.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastapi_rooms.cluster.peers import MAX_PEERS
from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.printable import printable
from fastapi_rooms.types import NodeId
from fastapi_rooms.wire.envelope import Reply

PIECE_BYTES = 256 * 1024
"""The most that one reply carries."""

MAX_RESPONSE_BYTES = 256 * 1024 * 1024
"""How long the responses to one request may be together; what passes it is refused.

Each piece counts its length and `ENTRY_BYTES`.
"""

MAX_REASON_BYTES = 4096
"""How much is kept of the reason of a refusal, which becomes part of an error."""


def pieces_of(response: bytes) -> list[bytes]:
    """A response in pieces, at least one."""
    return [
        response[start : start + PIECE_BYTES] for start in range(0, len(response) or 1, PIECE_BYTES)
    ]


class PendingRequest:
    """What one request asked of some workers, or of everyone whom it reaches."""

    def __init__(self, asked: Iterable[NodeId], *, everyone: bool = False) -> None:
        self.missing = set(asked)
        """Those that have yet to answer."""
        self.responses: dict[NodeId, bytes] = {}
        """The complete responses, as JSON."""
        self.refusals: dict[NodeId, str] = {}
        """Why some would or could not do it."""
        self.unsupported: set[NodeId] = set()
        """Those among them whose version does not know the verb."""
        self._everyone = everyone
        self._reached: int | None = None if everyone else 0
        self._expected = 0
        self._finished: set[NodeId] = set()
        self._abandoned: set[NodeId] = set()  # what still comes of them is late, not malformed
        self._departed: set[NodeId] = set()
        self._newcomers: set[NodeId] = set()
        self._discounted: set[NodeId] = set()
        self._pieces: dict[NodeId, list[bytes]] = {}
        self._size = 0

    def is_done(self) -> bool:
        """Whether nobody is left to wait for."""
        return self._reached is not None and not self.missing and not self.unidentified

    @property
    def unidentified(self) -> int:
        """How many more got the request and have not said yet who they are."""
        return max(self._expected - len(self._finished) - len(self.missing), 0)

    @property
    def responded(self) -> frozenset[NodeId]:
        """Those that have answered, and live as far as is known."""
        return frozenset(self._finished - self._departed)

    def reached(self, receivers: int) -> None:
        """So many workers got it. Nothing is done before this is known."""
        if self._everyone:
            self._reached = self._expected = receivers

    def recounted(self, receivers: int) -> None:
        """So many workers would get it now: those that have gone since need not be waited for."""
        have_nothing_to_say = self.responded | self._newcomers
        still_to_answer = max(receivers - len(have_nothing_to_say), 0)
        self._expected = min(self._expected, len(self._finished) + still_to_answer)
        self._discounted = set(self._newcomers)

    def met(self, node: NodeId, *, new: bool) -> None:
        """A worker that was not known says who it is, and whether it is new.

        One that is not new may be one of the unidentified that got the request.
        """
        if new:
            if len(self._newcomers) < MAX_PEERS:
                self._newcomers.add(node)
        elif self.unidentified and node not in self._finished and node not in self._newcomers:
            self.missing.add(node)

    def take(self, reply: Reply) -> bool:
        """Take a piece of a response; false if it fits nothing that was asked."""
        node = reply.origin
        if node in self._finished:
            return node in self._abandoned
        if reply.piece != len(self._pieces.get(node, ())):
            return node in self._abandoned
        if node not in self.missing:
            is_believed = self._everyone and len(self._finished) + len(self.missing) < MAX_PEERS
            if not is_believed and node not in self._abandoned:
                return False
            self.missing.add(node)
            self._unmark_newcomer(node)
        pieces = self._pieces.setdefault(node, [])
        pieces.append(reply.data)
        self._size += len(reply.data) + ENTRY_BYTES
        if self._size > MAX_RESPONSE_BYTES:
            self._finish(node)
            self._abandoned.add(node)
            self.refusals[node] = f"the answers are longer than {MAX_RESPONSE_BYTES} bytes"
        elif reply.last:
            whole = b"".join(self._finish(node))
            if reply.refused:
                reason = whole[:MAX_REASON_BYTES].decode(errors="replace")
                self.refusals[node] = printable(reason)
            else:
                self.responses[node] = whole
            if reply.unsupported:
                self.unsupported.add(node)
        return True

    def _unmark_newcomer(self, node: NodeId) -> None:
        """It has just started, and got the request before it could say so."""
        self._newcomers.discard(node)
        if node in self._discounted and self._reached is not None:
            self._discounted.discard(node)
            self._expected = min(self._expected + 1, self._reached)

    def gone(self, node: NodeId, *, left: bool) -> None:
        """A worker has stopped, or died: no answer is expected of it.

        One that has left after the request was accepted got it. One that left before, or died, may
        not have: it must not be counted in place of an unidentified one that did.
        """
        if len(self._departed) < MAX_PEERS:
            self._departed.add(node)
        self._newcomers.discard(node)
        if node in self.missing:
            self._abandoned.add(node)
            self._finish(node)
            if not left or self._reached is None:
                self._finished.discard(node)

    def _finish(self, node: NodeId) -> list[bytes]:
        self.missing.discard(node)
        self._finished.add(node)
        return self._pieces.pop(node, [])
