"""Wishes against a simulated carrier, which answers in order, when it likes, or goes away.

The carrier is Redis in small: it works through its commands one after the other, sends a
confirmation for each channel of each, and may refuse a command as a whole. The connection may end
at any time, with commands and answers on the way in both directions.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastapi_rooms.adapters.subscriptions import Subscriptions
from tests.stateful.settings import UNHURRIED

CHANNELS = [b"a", b"b", b"c"]
channel_lists = st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=3, unique=True)

limits = st.integers(1, len(CHANNELS))


class Command(NamedTuple):
    """A command on its way to the carrier."""

    subscribe: bool
    channels: list[bytes]


class Answer(NamedTuple):
    """An answer on its way back: of one channel, or a refusal of a whole command."""

    subscribed: bool
    channels: list[bytes]
    refused: bool = False
    forbidden: bool = False


class Waiter:
    """Somebody who joined, and waits to be told that the channel is live."""

    def __init__(self, channel: bytes) -> None:
        self.channel = channel
        self.told = False


class SubscriptionsMachine(RuleBasedStateMachine):
    """Drives the machine as the Redis subscriber does, with a carrier of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.subscriptions = Subscriptions()
        self.connected = False
        self.wanted: set[bytes] = set()
        self.subscribed: set[bytes] = set()  # what the carrier has, the truth
        self.commands: deque[Command] = deque()
        self.answers: deque[Answer] = deque()
        self.refused: set[bytes] = set()  # on this connection, and not wished for since
        self.forbidden: set[bytes] = set()  # those of them
        self.waiters: list[Waiter] = []

    # The application.

    @rule(channels=channel_lists)
    def want(self, channels: list[bytes]) -> None:
        self.wanted |= set(channels)
        self.refused -= set(channels)
        self.forbidden -= set(channels)
        self.subscriptions.want(channels)
        for channel in channels:  # the wish alone revives what was to be left and is not yet
            if not self.subscriptions.is_live(channel):
                self.waiters.append(Waiter(channel))

    @rule(channels=channel_lists)
    def unwant(self, channels: list[bytes]) -> None:
        self.wanted -= set(channels)
        self.refused -= set(channels)
        self.forbidden -= set(channels)
        self.waiters = [w for w in self.waiters if w.channel not in channels]
        self.subscriptions.unwant(channels)

    # The connection.

    @precondition(lambda self: not self.connected)
    @rule(limit=limits)
    def connect(self, limit: int) -> None:
        self.connected = True
        self.subscriptions.reset()
        self.flush(limit)

    @precondition(lambda self: self.connected)
    @rule()
    def disconnect(self) -> None:
        self.connected = False
        self.subscribed.clear()
        self.refused.clear()
        self.forbidden.clear()
        self.commands.clear()
        self.answers.clear()
        self.subscriptions.reset()

    @precondition(lambda self: self.connected)
    @rule()
    def retry(self) -> None:
        self.subscriptions.retry_refused()
        self.refused &= self.forbidden

    @precondition(lambda self: self.connected)
    @rule()
    def retry_forbidden(self) -> None:
        self.subscriptions.retry_forbidden()
        self.refused -= self.forbidden
        self.forbidden.clear()

    @precondition(lambda self: self.connected)
    @rule(limit=limits)
    def flush(self, limit: int) -> None:
        subscribe, unsubscribe = self.subscriptions.take_due(limit)
        assert len(subscribe) + len(unsubscribe) <= limit
        under_way = self.under_way()
        for wish, channels in ((True, subscribe), (False, unsubscribe)):
            assert not under_way & set(channels), "a second command for a channel under way"
            under_way |= set(channels)
            if channels:
                self.commands.append(Command(wish, channels))

    # The carrier.

    @precondition(lambda self: self.commands)
    @rule()
    def execute(self) -> None:
        command = self.commands.popleft()
        for channel in command.channels:
            if command.subscribe:
                self.subscribed.add(channel)
            else:
                self.subscribed.discard(channel)
            self.answers.append(Answer(command.subscribe, [channel]))

    @precondition(lambda self: self.commands)
    @rule(forbidden=st.booleans())
    def refuse(self, forbidden: bool) -> None:
        command = self.commands.popleft()
        answer = Answer(command.subscribe, command.channels, refused=True, forbidden=forbidden)
        self.answers.append(answer)

    @precondition(lambda self: self.connected and not self.commands and not self.answers)
    @rule(channel=st.sampled_from(CHANNELS))
    def take_away(self, channel: bytes) -> None:
        """A carrier may end a subscription by itself, as a Redis cluster does with a moved slot."""
        if channel in self.subscribed:
            self.subscribed.discard(channel)
            self.subscriptions.confirm_unsubscribed(channel)

    @precondition(lambda self: self.answers)
    @rule()
    def hear(self) -> None:
        answer = self.answers.popleft()
        [*channels] = answer.channels
        if answer.refused:
            revived = self.subscriptions.refused(channels, forbidden=answer.forbidden)
            for channel in revived:
                assert not answer.subscribed
                self.tell(channel)
            refused = set(channels) & self.wanted if answer.subscribed else set(channels)
            self.refused |= refused.difference(revived)
            if answer.forbidden:
                self.forbidden |= refused.difference(revived)
            self.waiters = [w for w in self.waiters if w.channel not in self.refused]
        elif answer.subscribed:
            live = self.subscriptions.confirm_subscribed(channels[0])
            assert live == self.subscriptions.is_live(channels[0])
            if live:
                self.tell(channels[0])
        else:
            self.subscriptions.confirm_unsubscribed(channels[0])

    def tell(self, channel: bytes) -> None:
        """A waiter is told live: the carrier has the channel, and nothing will take it back."""
        assert channel in self.wanted
        assert channel in self.subscribed
        assert channel not in self.under_way()
        for waiter in self.waiters:
            waiter.told |= waiter.channel == channel
        self.waiters = [w for w in self.waiters if not w.told]

    def under_way(self) -> set[bytes]:
        commands = [c.channels for c in self.commands]
        return {
            c for channels in (*commands, *(a.channels for a in self.answers)) for c in channels
        }

    # What always holds.

    @invariant()
    def wishes_are_kept(self) -> None:
        assert self.subscriptions.wanted == self.wanted

    @invariant()
    def only_what_the_carrier_has_is_live(self) -> None:
        live = {channel for channel in CHANNELS if self.subscriptions.is_live(channel)}
        assert live <= self.wanted
        assert live <= self.subscribed

    @invariant()
    def it_is_settled_only_when_all_is_as_wanted(self) -> None:
        if self.connected and self.subscriptions.settled and not self.answers:
            allowed = self.wanted - self.forbidden
            assert allowed <= self.subscribed <= allowed | self.forbidden

    def teardown(self) -> None:
        """Left alone with a carrier that answers, it settles, and live is what is wanted."""
        if not self.connected:
            self.connect(1)
        for _ in range(3):  # what was under way, what was due after that, and nothing more
            while self.subscriptions.is_due:
                self.flush(1)
            while self.commands:
                self.execute()
            while self.answers:
                self.hear()
        assert self.subscriptions.take_due() == ([], []), "it never comes to rest"
        live = {channel for channel in CHANNELS if self.subscriptions.is_live(channel)}
        assert live == self.wanted - self.refused
        assert self.subscribed == live | self.refused - self.wanted, "what may not be left stays"
        assert self.subscriptions.forbidden == self.forbidden
        assert self.subscriptions.settled == (self.refused == self.forbidden)
        assert not self.waiters, "a waiter is never told"


TestSubscriptions = SubscriptionsMachine.TestCase
TestSubscriptions.settings = UNHURRIED
