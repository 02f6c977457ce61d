"""What a subscriber has asked Redis for and has not been fully answered, as commands in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from fastapi_rooms.adapters.redis.slots import NO_SLOT, group_by_slot
from fastapi_rooms.types import Channel

BATCH = 512
"""Channels per command, so that Redis never works on ours for long."""


class Dialect(NamedTuple):
    """The words of one kind of pub/sub."""

    subscribe: bytes
    unsubscribe: bytes
    message: bytes
    subscribed: bytes
    unsubscribed: bytes


PLAIN = Dialect(b"SUBSCRIBE", b"UNSUBSCRIBE", b"message", b"subscribe", b"unsubscribe")
SHARDED = Dialect(b"SSUBSCRIBE", b"SUNSUBSCRIBE", b"smessage", b"ssubscribe", b"sunsubscribe")


class Command(NamedTuple):
    """One that is not fully answered: there is a confirmation for each channel."""

    verb: bytes
    channels: set[Channel]
    slot: int = NO_SLOT

    def halves(self) -> tuple[Command, Command]:
        """The same, in two commands."""
        channels = sorted(self.channels)
        half = len(channels) // 2
        return (
            self._replace(channels=set(channels[:half])),
            self._replace(channels=set(channels[half:])),
        )


def commands_for(verb: bytes, channels: list[Channel], *, sharded: bool) -> Iterator[Command]:
    """In bounded batches; a cluster takes the channels of one slot in a command, and no others."""
    by_slot = group_by_slot(channels) if sharded else {NO_SLOT: channels}
    for slot, some in by_slot.items():
        for start in range(0, len(some), BATCH):
            yield Command(verb, set(some[start : start + BATCH]), slot)


class PendingCommands:
    """The commands that are not fully answered, the oldest first."""

    def __init__(self) -> None:
        self._commands: deque[Command] = deque()

    def __bool__(self) -> bool:
        return bool(self._commands)

    def add(self, command: Command) -> None:
        """It has been sent."""
        self._commands.append(command)

    def clear(self) -> None:
        """None will be answered."""
        self._commands.clear()

    def answered(self, verb: bytes, channel: Channel) -> bool:
        """Whether that is an answer: they come in the order of the commands, one for a channel."""
        if not self._commands or self._commands[0].verb != verb:
            return False
        missing = self._commands[0].channels
        if channel not in missing:
            return False
        missing.discard(channel)
        if not missing:
            self._commands.popleft()
        return True

    def refused(self) -> Command:
        """An error has come: the oldest is done by that."""
        return self._commands.popleft() if self._commands else Command(b"", set())

    def redirected(self, slot: int | None) -> Command | None:
        """One of that slot is for another node: the oldest is done by that, if there is one."""
        for command in self._commands:
            if slot is None or command.slot == slot:
                self._commands.remove(command)
                return command
        return None
