"""Recognizes envelopes that were received before.

A publisher whose connection breaks cannot know whether Redis processed the messages it has no reply
to, so it sends them again. No origin gives a number twice, so a message whose number was received
from its origin before is a repetition.

Anyone who may publish to Redis can forge envelopes in the name of any origin. So nothing is
concluded from one number about another: a message is dropped only because its very own number was
received, and a forged one costs its origin at most the message with the same number. The numbers
are bits, in pages: one origin has a bounded number of pages, and the number of origins is bounded.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi_rooms.types import NodeId

PAGE = 4096
"""Numbers in one page: 512 bytes."""

MAX_PAGES = 32
"""Pages of one origin: about 20 KiB. A repetition is recognized as long as its page is remembered:
for 131,072 numbers, or 5 seconds at 26,000 messages a second."""

MAX_ORIGINS = 8192
"""Twice as many as there can be workers; about 7 MiB of memory if each has sent a little, and 150
if each has sent as much as is remembered, which takes 260,000 messages that somebody invents."""


class Duplicates:
    """The numbers received from each origin, as far back as repetitions can reach.

    Args:
        limit: how many origins are remembered; of more, those that came first are forgotten.
        is_kept: whether an origin is to be remembered all the same: one that is known to live, for
            whoever invents origins would drive out the others.
        on_doubt: called with an origin of which a number came that it can hardly have given, after
            those that came before.
    """

    def __init__(
        self,
        limit: int = MAX_ORIGINS,
        *,
        is_kept: Callable[[NodeId], bool] = lambda _: False,
        on_doubt: Callable[[NodeId], None] = lambda _: None,
    ) -> None:
        self._limit = limit
        self._is_kept = is_kept
        self._on_doubt = on_doubt
        self._origins: dict[NodeId, dict[int, bytearray]] = {}
        self.count = 0
        """How many repetitions there were."""

    def is_new(self, origin: NodeId, sequence: int) -> bool:
        """Whether this is the first time that `sequence` arrives from `origin`; remembers it."""
        try:  # what is nearly always there: this runs for every message
            page = self._origins[origin][sequence // PAGE]
        except KeyError:
            page = self._add_page(origin, sequence // PAGE)
        index, bit = sequence % PAGE >> 3, 1 << (sequence & 7)
        byte = page[index]
        if byte & bit:
            self.count += 1
            return False
        page[index] = byte | bit
        return True

    def _add_page(self, origin: NodeId, number: int) -> bytearray:
        pages = self._origins.get(origin)
        if pages is None:
            pages = self._add_origin(origin)
        elif number < max(pages) - MAX_PAGES:
            self._on_doubt(origin)
        page = pages[number] = bytearray(PAGE // 8)
        if len(pages) > MAX_PAGES:
            del pages[next(iter(pages))]
        return page

    def _add_origin(self, origin: NodeId) -> dict[int, bytearray]:
        if len(self._origins) >= self._limit:
            self._forget_one()
        pages = self._origins[origin] = {}
        return pages

    def _forget_one(self) -> None:
        """Forget the first origin that need not be kept; if all are kept, the first of them."""
        origins = self._origins
        for _ in range(len(origins)):
            first = next(iter(origins))
            pages = origins.pop(first)
            if not self._is_kept(first):
                return
            origins[first] = pages  # its turn comes again after all the others
        del origins[next(iter(origins))]
