"""The script that changes who is present in a room, and tells of it: pure.

It follows `fastapi_rooms.core.presence.RoomPresence`, by the clock of Redis. Scripts roll nothing
back, so the order of what this one does matters: it reads everything, writes everything, and tells
of it then. What is no hash is refused by the first read; what there is no memory or disk for, by
the first write. What follows is refused for none of these reasons.

Versions are doubles in Lua, exact up to 2**53. A count begins at the time in microseconds: so it is
above where an earlier one has ended. One that is below what a worker knows of has fallen, with
writes that were lost, and begins anew; and while workers put in again what is lost, nobody leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fastapi_rooms.adapters.history import RoomKey
from fastapi_rooms.adapters.presence import Terms
from fastapi_rooms.adapters.redis.presence.calls import Script
from fastapi_rooms.adapters.redis.presence.keys import TTL
from fastapi_rooms.core.presence import FENCE_TTL, SWEPT_AT_ONCE, Entry, Lease
from fastapi_rooms.types import Sid
from fastapi_rooms.wire.presence import BEGINNING

MAX_AT_ONCE = 200
"""Sockets that one call has leave or enter: some two milliseconds of Redis."""

_TEXT = b"""
-- KEYS: the truth about a room, its sids, and who is in their grace; of a worker, where it may have
--       sockets; and where they are of the same node: of each socket that leaves, its rooms, and of
--       each that enters, its rooms and its user's.
-- ARGV: the room's name; its channel; what to do; node and number of a lease; the grace in
--       milliseconds; the highest version known, and heard of; milliseconds that a repair takes;
--       whether joins are told; how many leave, and their sids; of each who enters, the sid and
--       the user.
-- Returns whether it was fenced; the version; milliseconds to the end of the next grace, or -1, or
-- -2 if that is lost; how many sockets of the worker there are; why it may not publish; why it
-- cannot write what leads to the room; of each event its kind, user and version.
local truth, sids, gone = KEYS[1], KEYS[2], KEYS[3]
local name, channel, what, node, lease = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local grace, is_told, leaving = tonumber(ARGV[6]), ARGV[10] == '1', tonumber(ARGV[11])
local first_sid, first = 12, 12 + leaving
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local start = time[1] * 1000000 + time[2]

local function int(text)
  return text and #text < 17 and string.find(text, '^%d+$') and tonumber(text) or 0
end

local function text(number)
  return string.format('%.0f', number)
end

local function is_chosen(sid)
  return #sid ~= 33 or string.sub(sid, 1, 17) ~= node .. '.'
end

-- What the truth has, read at once, and what is to be written there; false is for none.
local asked = {'v', 'n', 'm', 'g', 'f', 'r', 'w' .. node}
for at = first_sid, #ARGV do
  if at < first or (at - first) % 2 == 0 then
    asked[#asked + 1] = 's' .. node .. ARGV[at]
    if is_chosen(ARGV[at]) then asked[#asked + 1] = '=' .. ARGV[at] end
  else
    asked[#asked + 1] = 'u' .. ARGV[at]
  end
end
local fields, written = {}, {}
for at, value in ipairs(redis.call('HMGET', truth, unpack(asked))) do fields[asked[at]] = value end

local function get(field)
  if fields[field] == nil then fields[field] = redis.call('HGET', truth, field) end
  return fields[field]
end

local function set(field, value)
  if fields[field] ~= value then fields[field], written[field] = value, true end
end

local version, users, sockets, waiting = int(fields.v), int(fields.n), int(fields.m), int(fields.g)
local fences, own = fields.f or '', 'w' .. node
local own_lease, count, sum = string.match(fields[own] or '', '^(%d+) (%d+) (%d+)$')
own_lease, count, sum = int(own_lease), int(count), int(sum)
local fence = node ~= '' and string.match(fences, node .. ' (%d+) %d+;')
local in_grace = redis.call('ZCARD', gone)
if KEYS[4] then redis.call('SCARD', KEYS[4]) end -- it has to be a set, before anything is written
local is_in, ends = {}, {} -- the sids that come and go, and the graces that begin and are over

local answer = {0, version, -1, count, '', ''}

local function lead(how, key) -- one of them that cannot be written keeps no other from being so
  local done = redis.pcall(how, key, name)
  if type(done) == 'table' and done.err then
    answer[6] = done.err
  elseif how == 'SADD' then
    redis.call('PEXPIRE', key, <TTL>)
  end
end

local function finish()
  answer[4] = count
  if in_grace > 0 or next(ends) then
    local next_end = redis.call('ZRANGE', gone, 0, 0, 'WITHSCORES')[2]
    if next_end then answer[3] = math.max(next_end - now, 0) end
  end
  if answer[3] < 0 and waiting > 0 then answer[3] = -2 end
  return answer
end

if own_lease > lease and what ~= 'sweep' or what == 'change' and int(fence) >= lease then
  answer[1] = 1
  if what == 'reap' then lead('SREM', KEYS[4]) end
  return finish()
end

-- What was only heard of may be forged: so it is believed up to where a count might be.
local known, heard = int(ARGV[7]), int(ARGV[8])
local changed = version > 0 and version < math.max(known, heard <= start and heard or 0)
if version == 0 or changed then version = math.max(known, start) end
if changed then set('r', text(now)) end
grace = math.max(grace, math.min(int(fields.r), now) + ARGV[9] - now)

local function tell(kind, user)
  version = version + 1
  answer[#answer + 1] = kind
  answer[#answer + 1] = user
  answer[#answer + 1] = version
end

local function counts_as(sid, user)
  return tonumber(string.sub(redis.sha1hex(sid .. '\\0' .. user), 1, 8), 16)
end

local function leave(sid)
  local field = 's' .. node .. sid
  local user = get(field)
  if not user then return end
  changed = true
  set(field, false)
  count, sum = count - 1, (sum - counts_as(sid, user)) % 4294967296
  local held = is_chosen(sid) and int(get('=' .. sid)) - 1 or 0
  if is_chosen(sid) then set('=' .. sid, held > 0 and tostring(held)) end
  if held <= 0 then is_in[sid], sockets = false, sockets - 1 end
  local tabs = int(get('u' .. user)) - 1
  if tabs > 0 then
    set('u' .. user, tostring(tabs))
  elseif grace > 0 then
    set('u' .. user, '0')
    ends[user], waiting = now + grace, waiting + 1
  else
    set('u' .. user, false)
    users = users - 1
    tell('leave', user)
  end
end

local function enter(sid, user)
  local field = 's' .. node .. sid
  local known = get(field)
  if known == user then return end
  if known then leave(sid) end
  changed = true
  set(field, user)
  count, sum = count + 1, (sum + counts_as(sid, user)) % 4294967296
  local held = is_chosen(sid) and int(get('=' .. sid)) or 0
  if is_chosen(sid) then set('=' .. sid, tostring(held + 1)) end
  if held == 0 then is_in[sid], sockets = true, sockets + 1 end
  local expected = ends[user]
  if expected == nil then expected = in_grace > 0 and redis.call('ZSCORE', gone, user) end
  if expected then ends[user] = false end
  local tabs = get('u' .. user)
  set('u' .. user, tostring(int(tabs) + 1))
  if not tabs then
    users = users + 1
    if is_told and not expected then tell('join', user) end
  elseif int(tabs) == 0 then
    waiting = waiting - 1
  end
end

local function drop_old_fences()
  local kept, last = {}, 0
  for each, since in string.gmatch(fences, '(%x+ %d+ (%d+);)') do
    if int(since) > now - <FENCE_TTL> then
      kept[#kept + 1], last = each, math.max(last, int(since))
    end
  end
  fences = table.concat(kept)
  return last + <FENCE_TTL> - now
end

if what == 'reap' then
  drop_old_fences()
  fences = string.gsub(fences, node .. ' %d+ %d+;', '')
  fences = fences .. node .. ' ' .. text(math.max(lease, int(fence))) .. ' ' .. text(now) .. ';'
  changed = true
elseif fence then
  is_told = true
end
for at = first_sid, first - 1 do leave(ARGV[at]) end
for at = first, #ARGV, 2 do enter(ARGV[at], ARGV[at + 1]) end
if in_grace > 0 then
  for _, user in ipairs(redis.call('ZRANGEBYSCORE', gone, '-inf', now, 'LIMIT', 0, <SWEPT>)) do
    if ends[user] == nil then
      changed = true
      ends[user] = false
      local tabs = get('u' .. user)
      if tabs and int(tabs) == 0 then
        set('u' .. user, false)
        users, waiting = users - 1, waiting - 1
      end
      if int(tabs) == 0 then tell('leave', user) end
    end
  end
end

-- What is removed is so first: even where no memory is left for more.
local function write_all(key, remove, add, changes)
  local less, more = {}, {}
  for item, value in pairs(changes) do
    if value then
      if add == 'ZADD' then more[#more + 1] = value end
      more[#more + 1] = item
      if add == 'HSET' then more[#more + 1] = value end
    else
      less[#less + 1] = item
    end
  end
  local call = key == sids and redis.pcall or redis.call
  if #less > 0 then call(remove, key, unpack(less)) end
  if #more > 0 then
    call(add, key, unpack(more))
    if key ~= truth then redis.call('PEXPIRE', key, <TTL>) end
  end
end

if changed and users <= 0 then
  local left = drop_old_fences()
  redis.call('DEL', truth, sids)
  waiting = 0
  if fences ~= '' then
    redis.call('HSET', truth, 'v', text(version), 'f', fences)
    redis.call('PEXPIRE', truth, left)
    answer[2] = version
  else
    answer[2] = #answer > 6 and version or 0
  end
  write_all(gone, 'ZREM', 'ZADD', ends)
elseif changed or count > 0 then
  answer[2] = version
  local number = what == 'change' and lease or own_lease
  set(own, count > 0 and text(number) .. ' ' .. text(count) .. ' ' .. text(sum))
  set('v', text(version))
  set('n', tostring(users))
  set('m', tostring(sockets))
  set('g', tostring(waiting))
  set('f', fences ~= '' and fences)
  for field in pairs(written) do written[field] = fields[field] end
  write_all(truth, 'HDEL', 'HSET', written)
  redis.call('PEXPIRE', truth, <TTL>)
  write_all(sids, 'SREM', 'SADD', is_in)
  write_all(gone, 'ZREM', 'ZADD', ends)
end

for at = 7, #answer, 3 do
  local kind, user = answer[at], answer[at + 1]
  local header = kind .. ' ' .. text(answer[at + 2]) .. ' ' .. #name .. ' ' .. #user .. '\\n'
  local told = redis.pcall('PUBLISH', channel, '<BEGINNING>' .. header .. name .. user)
  if type(told) == 'table' and told.err then answer[5] = told.err end
end
finish()

-- What leads to the room. A reaper that finds it there has something to do, or had.
if KEYS[4] then
  if count == 0 and answer[3] == -1 then
    lead('SREM', KEYS[4])
  elseif what == 'change' and (first <= #ARGV or leaving == 0) then
    lead('SADD', KEYS[4])
  end
end
if KEYS[5] then
  for at = first_sid, first - 1 do
    local sid = ARGV[at]
    local stays = is_chosen(sid) and int(get('=' .. sid)) > 0 or get('s' .. node .. sid)
    if not stays then lead('SREM', KEYS[at - 7]) end
  end
  for at = first, #ARGV do lead('SADD', KEYS[at - 7]) end
end
return answer
"""

_VALUES = {
    b"<BEGINNING>": b"".join(b"\\%03d" % byte for byte in BEGINNING),
    b"<FENCE_TTL>": b"%d" % FENCE_TTL,
    b"<SWEPT>": b"%d" % SWEPT_AT_ONCE,
    b"<TTL>": b"%d" % TTL,
}


def _filled(text: bytes) -> bytes:
    for place, value in _VALUES.items():
        text = text.replace(place, value)
    return text


PLAIN = Script(_filled(_TEXT))
"""It publishes by `PUBLISH`."""

SHARDED = Script(PLAIN.text.replace(b"'PUBLISH'", b"'SPUBLISH'"))
"""It publishes by `SPUBLISH`."""


class Step(NamedTuple):
    """What the script is to do in a room."""

    what: str
    """`change`, `reap` or `sweep`."""
    room: RoomKey
    lease: Lease
    terms: Terms
    enter: Sequence[Entry] = ()
    leave: Sequence[Sid] = ()
    quiet: bool = False


NOBODY = Lease("", 0)
"""In place of a lease where none is needed."""


def encode(script: Script, keys: Sequence[bytes], step: Step, *, whole: bool) -> bytes:
    """The command that does a step."""
    what, room, lease, terms, enter, leave, quiet = step
    entering = [text.encode() for entry in enter for text in entry]
    arguments = (
        room.name,
        room.channel,
        what.encode(),
        lease.node.encode(),
        b"%d" % lease.number,
        b"%d" % max(round(terms.grace * 1000), 0),
        b"%d" % terms.floor,
        b"%d" % terms.heard,
        b"%d" % max(round(terms.repair * 1000), 0),
        b"0" if quiet else b"1",
        b"%d" % len(leave),
        *(sid.encode() for sid in leave),
        *entering,
    )
    return script.call(keys, arguments, whole=whole)
