"""The script that repairs what is made of the truth about a room: pure.

The sids and the users in their grace can be evicted apart from the truth. Here each of them is
compared with it by itself, in one step: what changes meanwhile is right as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastapi_rooms.adapters.history import RoomKey
from fastapi_rooms.adapters.presence import Terms
from fastapi_rooms.adapters.redis.presence.calls import Script
from fastapi_rooms.adapters.redis.presence.keys import TTL, keys_of

SCRIPT = Script(
    b"""
-- KEYS: the truth about a room, its sids, and who is in their grace.
-- ARGV: milliseconds of grace; how many sids, and these; users.
local truth, sids, gone = KEYS[1], KEYS[2], KEYS[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local first = 3 + tonumber(ARGV[2])
for at = 3, first - 1 do
  local sid = ARGV[at]
  if redis.call('HEXISTS', truth, '=' .. sid) == 1
    or #sid == 33 and redis.call('HEXISTS', truth, 's' .. string.sub(sid, 1, 16) .. sid) == 1 then
    redis.call('SADD', sids, sid)
  else
    redis.call('SREM', sids, sid)
  end
end
for at = first, #ARGV do
  if redis.call('HGET', truth, 'u' .. ARGV[at]) == '0' then
    redis.call('ZADD', gone, 'NX', now + ARGV[1], ARGV[at])
  end
end
redis.call('PEXPIRE', sids, <TTL>)
redis.call('PEXPIRE', gone, <TTL>)
return 1
""".replace(b"<TTL>", b"%d" % TTL)
)


def encode(
    prefix: bytes,
    room: RoomKey,
    terms: Terms,
    sids: Sequence[bytes],
    users: Sequence[bytes],
    *,
    whole: bool,
) -> bytes:
    """The command that compares sids, and users who may be in their grace, with the truth."""
    numbers = (b"%d" % max(round(terms.grace * 1000), 0), b"%d" % len(sids))
    return SCRIPT.call(keys_of(prefix, room.name), (*numbers, *sids, *users), whole=whole)
