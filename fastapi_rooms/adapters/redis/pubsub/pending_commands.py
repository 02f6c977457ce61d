"""The commands of a subscriber that Redis has not fully answered, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fastapi_rooms.types import Channel

BATCH = 512
"""Channels per command, so that one command never occupies Redis for long."""


class SubscriptionCommand(NamedTuple):
    """A command that subscribes or unsubscribes; Redis confirms each channel by itself."""

    verb: bytes
    channels: set[Channel]
    """The channels that are not confirmed yet."""
    shard: int | None = None

    def halves(self) -> tuple[SubscriptionCommand, SubscriptionCommand]:
        """The same, in two commands."""
        channels = sorted(self.channels)
        half = len(channels) // 2
        return (
            self._replace(channels=set(channels[:half])),
            self._replace(channels=set(channels[half:])),
        )


def commands_for(
    verb: bytes, parts: Iterable[tuple[int | None, list[Channel]]]
) -> Iterator[SubscriptionCommand]:
    """Commands about channels, each with a bounded number of those of one part."""
    for shard, channels in parts:
        for start in range(0, len(channels), BATCH):
            yield SubscriptionCommand(verb, set(channels[start : start + BATCH]), shard)


class PendingCommands:
    """The commands that are not fully answered, the oldest first."""

    def __init__(self) -> None:
        self._commands: deque[SubscriptionCommand] = deque()

    def __bool__(self) -> bool:
        return bool(self._commands)

    def add(self, command: SubscriptionCommand) -> None:
        """The command has been sent."""
        self._commands.append(command)

    def clear(self) -> None:
        """The link is lost, and no command will be answered."""
        self._commands.clear()

    def answered(self, verb: bytes, channel: Channel) -> bool:
        """A confirmation has come; returns whether it answers the oldest command.

        Redis confirms in the order of the commands. A node may also unsubscribe by itself.
        """
        if not self._commands or self._commands[0].verb != verb:
            return False
        missing = self._commands[0].channels
        if channel not in missing:
            return False
        missing.discard(channel)
        if not missing:
            self._commands.popleft()
        return True

    def refused(self) -> SubscriptionCommand:
        """An error has come: returns the oldest command, which it answers."""
        return self._commands.popleft() if self._commands else SubscriptionCommand(b"", set())

    def redirected(self, shard: int | None) -> SubscriptionCommand | None:
        """A redirection has come: returns the oldest command of that shard, which it answers."""
        for command in self._commands:
            if shard is None or command.shard == shard:
                self._commands.remove(command)
                return command
        return None
