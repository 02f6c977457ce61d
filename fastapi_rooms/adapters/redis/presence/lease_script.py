"""The script that renews the lease of a worker, and declares others dead: pure.

It follows `fastapi_rooms.core.presence.Leases`, by the clock of Redis.
"""

from __future__ import annotations

import re
from typing import Any

import hiredis

from fastapi_rooms.adapters.presence import Beat
from fastapi_rooms.adapters.redis.history.refusals import explain
from fastapi_rooms.adapters.redis.presence.calls import Script
from fastapi_rooms.adapters.redis.presence.keys import TTL, workers_key
from fastapi_rooms.core.presence import Lease
from fastapi_rooms.errors import AdapterUnavailable

MAX_OVERDUE = 100
"""How many that are to be reaped are told at once."""

SCRIPT = Script(
    b"""
-- KEYS: the leases. ARGV: node and number of one; milliseconds that it lasts, 0 to give it back;
--       how many of those that have ended to declare dead; whether any, or who gave theirs back.
-- Returns the number of the lease, whether it had run down, and 'node:number' of each that was
-- declared dead.
local leases, node, number = KEYS[1], ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function member() return node .. ':' .. string.format('%.0f', number) end

local ends = number > 0 and redis.call('ZSCORE', leases, member())
local late = number > 0 and (not ends or ends - now < ARGV[3] / 2)
if not ends then
  repeat number = number + 1 until not redis.call('ZSCORE', leases, member() .. ':dead')
end
redis.call('ZADD', leases, ARGV[3] == '0' and 0 or now + ARGV[3], member())
redis.call('PEXPIRE', leases, <TTL>)
local answer = {number, late and 1 or 0}
local last = not late and ARGV[5] == '1' and now or 0
local ended = redis.call('ZRANGEBYSCORE', leases, '-inf', last, 'WITHSCORES', 'LIMIT', 0, ARGV[4])
for at = 1, #ended, 2 do
  local lease, rest = string.match(ended[at], '^(%x+:%d+)(.*)$')
  if not lease or rest ~= '' and rest ~= ':dead' then
    redis.call('ZREM', leases, ended[at])
  else
    if rest == '' then
      redis.call('ZREM', leases, lease)
      redis.call('ZADD', leases, ended[at + 1], lease .. ':dead')
    end
    answer[#answer + 1] = lease
  end
end
return answer
""".replace(b"<TTL>", b"%d" % TTL)
)

_LEASE = re.compile(rb"([0-9a-f]{16}):([1-9][0-9]{0,14})")


def encode(
    prefix: bytes,
    lease: Lease,
    ttl: float,
    *,
    reaps: bool,
    whole: bool,
    limit: int = MAX_OVERDUE,
) -> bytes:
    """The command that renews a lease, or gives it back."""
    lasts = max(round(ttl * 1000), 1) if ttl else 0
    numbers = (lease.number, lasts, limit, reaps)
    arguments = (lease.node.encode(), *(b"%d" % number for number in numbers))
    return SCRIPT.call([workers_key(prefix)], arguments, whole=whole)


def decode(reply: Any, lease: Lease) -> Beat:
    """The lease, and who is dead. Raises `AdapterUnavailable` if Redis refused."""
    if isinstance(reply, hiredis.ReplyError):
        raise AdapterUnavailable(f"Redis refused to renew a lease: {explain(str(reply))}")
    match reply:
        case [int(number), 0 | 1 as late, *others] if number >= 1:
            pass
        case _:
            raise AdapterUnavailable("Redis' answer about a lease makes no sense")
    found = (_LEASE.fullmatch(text) for text in others if isinstance(text, bytes))
    overdue = [Lease(match[1].decode(), int(match[2])) for match in found if match is not None]
    return Beat(Lease(lease.node, number), tuple(overdue), late == 1)


def members_of(lease: Lease) -> tuple[bytes, bytes]:
    """A lease among the others, as long as it lasts, and when it is to be reaped."""
    member = f"{lease.node}:{lease.number}".encode()
    return member, member + b":dead"
