"""What a place in a queue costs beside the message in it.

A limit in bytes that counted the messages alone would let empty ones wait without end. So every
queue counts a fixed cost for each entry, too.
"""

from __future__ import annotations

ENTRY_BYTES = 256
"""How many bytes each entry of a queue counts beside its message.

Measured on CPython with `tracemalloc`: a queued message of a few bytes takes 100 to 280 bytes if it
is queued for this reader alone (its place in the queue, the objects that make it a message, its
frame, its text), and with the future of a sender that waits, or of a publish, up to 300. A message
that many readers share is counted in full for each of them.
"""
