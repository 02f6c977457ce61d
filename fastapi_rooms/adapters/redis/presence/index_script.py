"""The script that adds a room to many sets that lead to it, or removes it from them: pure.

It does no more than the plain commands would. But it is one command with one answer, which is what
they cost a worker where very many sockets come at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fastapi_rooms.adapters.redis.presence.calls import Script

SCRIPT = Script(
    b"""
-- KEYS: sets. ARGV: SADD or SREM; the name of a room; milliseconds that a set is kept.
-- A set that cannot be written keeps none of the others from being so; its error is the answer.
local refused
for _, key in ipairs(KEYS) do
  local done = redis.pcall(ARGV[1], key, ARGV[2])
  if type(done) == 'table' and done.err then
    refused = done
  elseif ARGV[1] == 'SADD' then
    redis.call('PEXPIRE', key, ARGV[3])
  end
end
return refused or #KEYS
"""
)


def encode(
    what: Literal[b"SADD", b"SREM"], keys: Sequence[bytes], name: bytes, kept: bytes, *, whole: bool
) -> bytes:
    """The command that has a room added to sets, or removed."""
    return SCRIPT.call(keys, (what, name, kept), whole=whole)
