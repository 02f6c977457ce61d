"""Recognizes envelopes that were received before.

A publisher whose connection breaks cannot know whether Redis processed the messages it has no reply
to, so it sends them again. No origin gives a number twice, so a message whose number was received
from its origin before is a repetition.

Anyone who may publish to Redis can forge envelopes in the name of any origin. So nothing is
concluded from one number about another: a message is dropped only because its very own number was
received, and a forged one costs its origin at most the message with the same number. The numbers
are bits, in pages: one origin has a bounded number of pages, and the number of origins is bounded.

Nor do forged numbers drive out the others. A page is firm if it is the first of its origin, or has
many numbers, or is beside such a page; the rest are loose, and go first. A forged number far from
where the origin is makes a loose page, which takes the place of another of that kind. So what came
of an origin is forgotten only as it goes on itself, or for very many forged messages; but where it
is hardly heard here, as fewer than `FIRM` of thousands of its numbers are for this worker.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi_rooms.types import NodeId

PAGE = 4096
"""Numbers in one page: 512 bytes."""

MAX_PAGES = 32
"""Pages of one origin: about 20 KiB. A repetition is recognized as long as its page is remembered:
for 131,072 numbers, or 5 seconds at 26,000 messages a second; for one page less where somebody
forges numbers."""

FIRM = 32
"""Numbers that make a page firm: it takes `MAX_PAGES` times as many forged messages to have all of
an origin forgotten."""

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
        self._loose: dict[NodeId, dict[int, None]] = {}  # no page of most origins
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
        page = bytearray(PAGE // 8)
        pages = self._origins.get(origin)
        if pages is None:
            self._add_origin(origin)[number] = page
            return page
        if number < max(pages) - MAX_PAGES:
            self._on_doubt(origin)
        loose = self._loose.get(origin, {})
        if not any(map(_is_full, map(pages.get, (number - 1, number + 1)))):
            first = next(iter(pages))
            if first in loose or abs(number - first) > 1:
                self._loose.setdefault(origin, loose)[number] = None
        if len(pages) >= MAX_PAGES:
            self._forget_page(pages, loose, number)
        pages[number] = page
        return page

    @staticmethod
    def _forget_page(pages: dict[int, bytearray], loose: dict[int, None], new: int) -> None:
        """Forget the first page that is loose, or else the first, to have room for a new one."""
        while loose and (number := next(iter(loose))) != new:
            del loose[number]
            if not _is_full(pages[number]):  # else it has become firm
                del pages[number]
                return
        del pages[next(iter(pages))]

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
                self._loose.pop(first, None)
                return
            origins[first] = pages  # its turn comes again after all the others
        first = next(iter(origins))
        del origins[first]
        self._loose.pop(first, None)


def _is_full(page: bytearray | None) -> bool:
    """Whether many numbers of a page have come."""
    return page is not None and int.from_bytes(page, "little").bit_count() >= FIRM
