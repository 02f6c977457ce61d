"""What a place in a queue costs beside the message in it.

A limit in bytes that counted the messages alone would let empty ones wait without end. So every
queue counts a fixed cost for each entry, too.
"""

from __future__ import annotations

ENTRY_BYTES = 256
"""How many bytes each entry of a queue counts beside its message.

Measured on CPython with `tracemalloc`: the place in a queue takes 100 bytes, which is all if the
message is shared with other readers; with a future that its sender waits for, 240. A message of a
few bytes that nobody shares takes 130 bytes as a frame, 270 to 310 as a payload, 340 to 360 as what
a listener hears or as a command to Redis. So a queue of the shortest messages takes half to one and
a half times its limit.
"""
