"""A request under way: who has been asked, what they have answered, and who is still to answer.

A request to everyone may reach workers that we do not know: they were too busy to answer our
greeting. The carrier says how many it gave the request to, so as many answers are waited for, and
an answer that looks complete is. Who starts while the request is under way did not get it.

A large answer comes in pieces, so that no message between workers is large. They come in order, as
everything from one worker does; an answer with a piece missing is no answer.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastapi_rooms.cluster.peers import MAX_PEERS
from fastapi_rooms.types import NodeId
from fastapi_rooms.wire.envelope import Reply

PIECE_BYTES = 256 * 1024
"""The most that one reply carries."""

MAX_ANSWER_BYTES = 256 * 1024 * 1024
"""The answers to one request may be this long together; what passes it is refused."""


def pieces_of(answer: bytes) -> list[bytes]:
    """An answer in pieces, at least one."""
    return [
        answer[start : start + PIECE_BYTES] for start in range(0, len(answer) or 1, PIECE_BYTES)
    ]


class PendingRequest:
    """What one request asked of some workers, or of everyone whom it reaches."""

    def __init__(self, asked: Iterable[NodeId], *, everyone: bool = False) -> None:
        self.missing = set(asked)
        """Those that have yet to answer."""
        self.answers: dict[NodeId, bytes] = {}
        """What came back, whole, in JSON."""
        self.refusals: dict[NodeId, str] = {}
        """Why some would or could not answer."""
        self._everyone = everyone
        self._reached: int | None = None if everyone else 0
        self._expected = 0
        self._over: set[NodeId] = set()
        self._given_up: set[NodeId] = set()  # what still comes of them is late, and no nonsense
        self._departed: set[NodeId] = set()
        self._newcomers: set[NodeId] = set()
        self._passed_over: set[NodeId] = set()
        self._pieces: dict[NodeId, list[bytes]] = {}
        self._size = 0

    def is_done(self) -> bool:
        """Whether nobody is left to wait for."""
        return self._reached is not None and not self.missing and not self.unidentified

    @property
    def unidentified(self) -> int:
        """How many have yet to answer of whom nothing is known but that they got the request."""
        return max(self._expected - len(self._over) - len(self.missing), 0)

    @property
    def heard_out(self) -> frozenset[NodeId]:
        """Those that have answered, and live as far as is known."""
        return frozenset(self._over - self._departed)

    def reached(self, receivers: int) -> None:
        """So many workers got it. Nothing is done before this is known."""
        if self._everyone:
            self._reached = self._expected = receivers

    def counted(self, receivers: int) -> None:
        """So many workers would get it now: those that have gone since need not be waited for."""
        have_nothing_to_say = self.heard_out | self._newcomers
        still_to_answer = max(receivers - len(have_nothing_to_say), 0)
        self._expected = min(self._expected, len(self._over) + still_to_answer)
        self._passed_over = set(self._newcomers)

    def met(self, node: NodeId, *, new: bool) -> None:
        """A worker that was not known says who it is, and whether it is new.

        One that is not may be a stranger that got the request.
        """
        if new:
            self._newcomers.add(node)
        elif self.unidentified and node not in self._over and node not in self._newcomers:
            self.missing.add(node)

    def answered(self, reply: Reply) -> bool:
        """Take a piece of an answer; false if it fits nothing that was asked."""
        node = reply.origin
        if node in self._over:
            return node in self._given_up
        if reply.piece != len(self._pieces.get(node, ())):
            return node in self._given_up
        if node not in self.missing:
            is_believed = self._everyone and len(self._over) + len(self.missing) < MAX_PEERS
            if not is_believed and node not in self._given_up:
                return False
            self.missing.add(node)
            self._is_no_newcomer(node)
        pieces = self._pieces.setdefault(node, [])
        pieces.append(reply.data)
        self._size += len(reply.data)
        if self._size > MAX_ANSWER_BYTES:
            self._settle(node)
            self._given_up.add(node)
            self.refusals[node] = f"the answers are longer than {MAX_ANSWER_BYTES} bytes"
        elif reply.last:
            whole = b"".join(self._settle(node))
            if reply.refused:
                self.refusals[node] = whole.decode(errors="replace")
            else:
                self.answers[node] = whole
        return True

    def _is_no_newcomer(self, node: NodeId) -> None:
        """It has just started, and got the request before it could say so."""
        self._newcomers.discard(node)
        if node in self._passed_over and self._reached is not None:
            self._passed_over.discard(node)
            self._expected = min(self._expected + 1, self._reached)

    def gone(self, node: NodeId, *, left: bool) -> None:
        """A worker is no more: nothing is to be expected of it, and nothing is missing without.

        One that has left after the request was accepted got it. One that did so before, or died,
        may not have: it must not stand for a stranger that did.
        """
        self._departed.add(node)
        self._newcomers.discard(node)
        if node in self.missing:
            self._given_up.add(node)
            self._settle(node)
            if not left or self._reached is None:
                self._over.discard(node)

    def _settle(self, node: NodeId) -> list[bytes]:
        self.missing.discard(node)
        self._over.add(node)
        return self._pieces.pop(node, [])
