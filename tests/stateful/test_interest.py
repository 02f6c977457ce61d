"""Interest against an oracle: a list of holders, and when each channel was last let go."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastapi_rooms.core.interest import Interest
from tests.stateful.settings import UNHURRIED

CHANNELS = [b"a", b"b", b"c", b"d"]
LINGER = 10
channel_lists = st.lists(st.sampled_from(CHANNELS), max_size=4)


class InterestMachine(RuleBasedStateMachine):
    """Holds, releases, and time that passes; whatever is neither held nor lingering is expired."""

    def __init__(self) -> None:
        super().__init__()
        self.interest = Interest(LINGER)
        self.now = 0
        self.holds: list[list[bytes]] = []
        self.idle_since: dict[bytes, int] = {}
        self.subscribed: set[bytes] = set()

    def held(self) -> set[bytes]:
        return {channel for hold in self.holds for channel in hold}

    @rule(channels=channel_lists)
    def hold(self, channels: list[bytes]) -> None:
        self.interest.hold(channels)
        self.holds.append(channels)
        self.subscribed |= set(channels)
        for channel in channels:
            self.idle_since.pop(channel, None)

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.holds) - 1), label="which hold")
        channels = self.holds.pop(number)
        self.interest.release(channels, self.now)
        for channel in set(channels) - self.held():
            self.idle_since[channel] = self.now

    @rule(seconds=st.integers(0, 15))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def sweep(self) -> None:
        due = {c for c, since in self.idle_since.items() if since + LINGER <= self.now}
        expired = self.interest.expired(self.now)
        assert len(expired) == len(set(expired))
        assert set(expired) == due
        for channel in due:
            del self.idle_since[channel]
        self.subscribed -= due

    @invariant()
    def every_channel_held_is_wanted_and_no_other(self) -> None:
        assert {channel for channel in CHANNELS if channel in self.interest} == self.held()

    @invariant()
    def the_next_expiry_is_the_earliest(self) -> None:
        ends = [since + LINGER for since in self.idle_since.values()]
        assert self.interest.next_expiry() == min(ends, default=None)

    @invariant()
    def a_subscription_is_left_only_when_nobody_holds_it(self) -> None:
        assert self.subscribed == self.held() | self.idle_since.keys()


TestInterest = InterestMachine.TestCase
TestInterest.settings = UNHURRIED
