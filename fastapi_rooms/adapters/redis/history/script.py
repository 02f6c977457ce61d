"""The script that numbers, keeps and publishes messages; how it is called, what it answers: pure.

Scripts roll nothing back, so the order of what this one does matters:

* A room's first write is one that Redis refuses for every reason there is: no memory, no disk, no
  replicas, being one. Then nothing has been done, and later writes are refused for none of them.
* A message is published before it is kept: a user can be forbidden a single channel. The number of
  a message that was refused is free again.
* A stream that does not take the next number is none of this numbering, and is deleted.
* The first message of a stream has with it the tag of the one before it. That proves the position
  of who was at the end when the messages before it were forgotten.

Offsets are doubles in Lua, exact up to 2**53. Tags are not: they travel as text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha1
from typing import Any, NamedTuple

import hiredis

from fastapi_rooms.adapters.history import Retention, RoomKey
from fastapi_rooms.adapters.redis.history.keys import keys_of
from fastapi_rooms.adapters.redis.links.link import pack
from fastapi_rooms.core.position import MAX_OFFSET, Position
from fastapi_rooms.wire.kept import BEGINNING

META_TTL = 30 * 24 * 3600 * 1000
"""Milliseconds that a numbering outlives what was last done with it."""

FIELD = b"d"
"""The field of a stream's entry that holds the message."""

PREVIOUS = b"p"
"""The field of a stream's first entry that holds the tag of the message before it."""

_TEMPLATE = b"""
-- KEYS: of each room, its meta and its stream.
-- ARGV: whether this may have been done before; milliseconds that a numbering is kept; an epoch for
--       rooms without one; of each room, its channel; of each message, the number of its room, its
--       tag, how many messages to keep, for how many milliseconds, and itself.
-- Returns for each message 'epoch offset', '-' and an error, or '!' and one if it is sent
-- all the same.
local again, kept_for, new_epoch = ARGV[1] == '1', ARGV[2], ARGV[3]
local first = 4 + #KEYS / 2

local function refusal(reply)
  return type(reply) == 'table' and reply.err
end

local function text(offset)
  return string.format('%.0f', offset)
end

-- The offsets of messages that are in a room already, by tag. A stream whose end is not the room's
-- is not believed.
local function offsets_in(room, number)
  local wanted, missing, found = {}, 0, {}
  for at = first, #ARGV, 5 do
    if tonumber(ARGV[at]) == number then
      wanted[ARGV[at + 1]] = true
      missing = missing + 1
    end
  end
  local from, is_end = '+', true
  while missing > 0 do
    local entries = redis.pcall('XREVRANGE', room.stream, from, '-', 'COUNT', 100)
    if refusal(entries) or #entries == 0 then break end
    local offset, tag
    for _, entry in ipairs(entries) do
      offset, tag = string.match(entry[1], '^(%d+)-(%d+)$')
      if is_end and (offset ~= text(room.offset) or tag ~= room.tag) then return found end
      is_end = false
      if wanted[tag] then
        found[tag], wanted[tag], missing = offset, nil, missing - 1
      end
    end
    from = text(tonumber(offset) - 1)
  end
  return found
end

local function enter(number)
  local room = {
    meta = KEYS[2 * number - 1], stream = KEYS[2 * number], channel = ARGV[3 + number], found = {}
  }
  local meta = redis.pcall('HMGET', room.meta, 'epoch', 'offset', 'tag')
  room.refusal = refusal(meta)
  if room.refusal then return room end
  local epoch, offset, tag = meta[1] or '', meta[2] or '0', meta[3] or '0'
  room.epoch, room.offset, room.tag = epoch, tonumber(offset), tag
  if #epoch ~= 16 or string.find(epoch, '[^0-9a-f]') or string.find(offset, '%D')
    or not room.offset or room.offset >= 2^53 or #tag > 20 or not string.find(tag, '^%d+$')
    or (room.offset == 0) ~= (tag == '0') then
    room.epoch, room.offset, room.tag = new_epoch, 0, '0'
  end
  room.refusal = refusal(redis.pcall('HSET', room.meta, 'epoch', room.epoch))
    or refusal(redis.pcall('PEXPIRE', room.meta, kept_for))
  if room.refusal then return room end
  if room.offset == 0 then
    room.refusal = refusal(redis.pcall('DEL', room.stream))
  elseif again then
    room.found = offsets_in(room, number)
  end
  return room
end

local function add(room, size, id, data)
  if room.is_empty then
    return refusal(redis.pcall(
      'XADD', room.stream, 'MAXLEN', '=', size, id, '<FIELD>', data, '<PREVIOUS>', room.tag))
  end
  return refusal(redis.pcall('XADD', room.stream, 'MAXLEN', '=', size, id, '<FIELD>', data))
end

local function append(room, tag, size, ttl, data)
  if room.refusal then return '-' .. room.refusal end
  if room.found[tag] then return room.epoch .. ' ' .. room.found[tag] end
  if not room.ttl then
    room.is_empty = redis.pcall('PEXPIRE', room.stream, ttl) == 0
    room.expires = not room.is_empty and ttl
  end
  local offset = text(room.offset + 1)
  local place = room.epoch .. ' ' .. offset .. ' ' .. tag .. ' ' .. room.tag .. '\\n'
  local refused = refusal(redis.pcall('PUBLISH', room.channel, '<BEGINNING>' .. place .. data))
  if refused then return '-' .. refused end
  local id = offset .. '-' .. tag
  refused = add(room, size, id, data)
  if refused then
    redis.pcall('DEL', room.stream)
    room.is_empty, room.expires = true, false
    refused = add(room, size, id, data)
  end
  room.offset, room.tag, room.ttl, room.is_empty = room.offset + 1, tag, ttl, refused
  if refused then return '!' .. refused end
  return room.epoch .. ' ' .. offset
end

local rooms, results = {}, {}
for at = first, #ARGV, 5 do
  local number = tonumber(ARGV[at])
  local room = rooms[number]
  if not room then
    room = enter(number)
    rooms[number] = room
  end
  results[#results + 1] = append(room, ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4])
end
for _, room in pairs(rooms) do
  if room.ttl then
    redis.pcall('HSET', room.meta, 'offset', text(room.offset), 'tag', room.tag)
    if room.expires ~= room.ttl then redis.pcall('PEXPIRE', room.stream, room.ttl) end
  end
end
return results
"""

SCRIPT = (
    _TEMPLATE.replace(b"<FIELD>", FIELD)
    .replace(b"<PREVIOUS>", PREVIOUS)
    .replace(b"<BEGINNING>", b"".join(b"\\%03d" % b for b in BEGINNING))
)

SHA = sha1(SCRIPT, usedforsecurity=False).hexdigest().encode()

EVAL = (b"EVAL", SCRIPT)
EVALSHA = (b"EVALSHA", SHA)


class Calls(NamedTuple):
    """How the script is called that publishes by one kind of pub/sub."""

    publish: bytes
    """The command that it publishes by."""
    eval: tuple[bytes, bytes]
    """The command with the script."""
    evalsha: tuple[bytes, bytes]
    """The command where Redis knows the script."""


PLAIN = Calls(b"PUBLISH", EVAL, EVALSHA)

_SHARDED_SCRIPT = SCRIPT.replace(b"'PUBLISH'", b"'SPUBLISH'")
_SHARDED_SHA = sha1(_SHARDED_SCRIPT, usedforsecurity=False).hexdigest().encode()

SHARDED = Calls(b"SPUBLISH", (b"EVAL", _SHARDED_SCRIPT), (b"EVALSHA", _SHARDED_SHA))


class Message(NamedTuple):
    """A message to be appended."""

    room: RoomKey
    tag: int
    retention: Retention
    data: bytes


class Outcome(NamedTuple):
    """What has become of a message."""

    position: Position | None
    """Where it is now; `None` if it was refused."""
    refusal: str = ""
    """Why, in Redis' words."""
    is_sent: bool = False
    """Whether it was published all the same, or may have been."""


def encode(
    call: tuple[bytes, bytes],
    prefix: bytes,
    messages: Sequence[Message],
    epoch: str,
    *,
    again: bool,
) -> bytes:
    """The command that appends the messages, in their order.

    Args:
        call: how the script is called: `EVAL` or `EVALSHA`.
        prefix: the first part of every key.
        messages: what to append; none is a way to try whether scripts can be called.
        epoch: one that never was, for rooms that have none.
        again: whether this may have been done before, so that the messages have to be looked for.
    """
    keys, arguments = parts_of(prefix, messages, epoch, again=again)
    return pack(*call, b"%d" % len(keys), *keys, *arguments)


def parts_of(
    prefix: bytes, messages: Sequence[Message], epoch: str, *, again: bool
) -> tuple[list[bytes], list[bytes]]:
    """The script's `KEYS` and `ARGV`: see `encode`."""
    keys: list[bytes] = []
    channels: list[bytes] = []
    numbers: dict[bytes, bytes] = {}
    arguments: list[bytes] = []
    for room, tag, (size, ttl), data in messages:
        number = numbers.get(room.name)
        if number is None:
            number = numbers[room.name] = b"%d" % (len(numbers) + 1)
            keys += keys_of(prefix, room.name)
            channels.append(room.channel)
        milliseconds = max(round(ttl * 1000), 1)
        arguments += (number, b"%d" % tag, b"%d" % (size + 1), b"%d" % milliseconds, data)
    fixed = (b"1" if again else b"0", b"%d" % META_TTL, epoch.encode())
    return keys, [*fixed, *channels, *arguments]


_PLACE = re.compile(rb"([0-9a-f]{16}) ([1-9][0-9]{0,15})")
_SENSELESS = Outcome(None, "its answer makes no sense", is_sent=True)


def decode(reply: Any, messages: Sequence[Message]) -> list[Outcome]:
    """What has become of each message, by Redis' reply to the command."""
    if isinstance(reply, hiredis.ReplyError):
        return [Outcome(None, str(reply))] * len(messages)
    if not isinstance(reply, list) or len(reply) != len(messages):
        return [_SENSELESS] * len(messages)
    return [_outcome(each, message.tag) for each, message in zip(reply, messages, strict=True)]


def _outcome(result: Any, tag: int) -> Outcome:
    if not isinstance(result, bytes):
        return _SENSELESS
    if result[:1] in (b"-", b"!"):
        return Outcome(None, result[1:].decode(errors="replace"), result[:1] == b"!")
    match = _PLACE.fullmatch(result)
    if match is None or int(match[2]) > MAX_OFFSET:
        return _SENSELESS
    return Outcome(Position(match[1].decode(), int(match[2]), tag))
