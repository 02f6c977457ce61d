"""The script that appends one message, for clients that send it again without telling: pure.

redis-py repeats a command whose connection broke, as it was. So this script remembers for a while
what has become of a message, under a key of its own, and gives the same answer again. To look for
the message in the room, as workers do when they know that they repeat one, would take the longer
the more is kept.

What is appended, and how, is [the workers' script][fastapi_rooms.adapters.redis.history.script],
word by word.
"""

from __future__ import annotations

from hashlib import sha1
from typing import NamedTuple

from fastapi_rooms.adapters.redis.history.keys import sent_key
from fastapi_rooms.adapters.redis.history.script import SCRIPT, Message, parts_of

ONCE = b"""
-- KEYS and ARGV: as below, of one message; and one more key, which remembers it, and for how many
--       milliseconds.
local sent, remembered = table.remove(KEYS), table.remove(ARGV)
local is_new = redis.pcall('SET', sent, '', 'NX', 'PX', remembered)
if not is_new or is_new.err then
  local known = redis.pcall('GET', sent)
  if type(known) == 'string' then return {known} end
  return {'-' .. (is_new or known).err}
end
local results = (function()
<SCRIPT>
end)()
if string.sub(results[1], 1, 1) == '-' then
  redis.pcall('DEL', sent)
else
  redis.pcall('SET', sent, results[1], 'PX', remembered)
end
return results
""".replace(b"<SCRIPT>", SCRIPT)


class Calls(NamedTuple):
    """How the script is called that publishes by one kind of pub/sub."""

    eval: tuple[str, bytes]
    """The command with the script."""
    evalsha: tuple[str, bytes]
    """The command where Redis knows the script."""


def _calls_of(script: bytes) -> Calls:
    sha = sha1(script, usedforsecurity=False).hexdigest().encode()
    return Calls(("EVAL", script), ("EVALSHA", sha))


PLAIN = _calls_of(ONCE)
SHARDED = _calls_of(ONCE.replace(b"'PUBLISH'", b"'SPUBLISH'"))


def command(
    call: tuple[str, bytes], prefix: bytes, message: Message, epoch: str, remembered: float
) -> tuple[str | bytes, ...]:
    """The command that appends the message.

    Args:
        call: how the script is called: one of `Calls`.
        prefix: the first part of every key.
        message: what to append.
        epoch: one that never was, for a room that has none.
        remembered: seconds for which the message is known again.
    """
    keys, arguments = parts_of(prefix, (message,), epoch, again=False)
    keys.append(sent_key(prefix, message.room.name, message.tag))
    return (*call, b"%d" % len(keys), *keys, *arguments, b"%d" % (remembered * 1000))
