"""What comes for the edges and backends of a process, and harms nobody."""

from __future__ import annotations

from typing import Any

import pytest

from fastapi_rooms import RoomManager
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import Frame, FrameKind
from fastapi_rooms.worker.frames import Frames


class Receiver:
    """Takes frames, or fails; everything that it is told is written down."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.told: list[str] = []

    def _tell(self, what: str) -> None:
        self.told.append(what)
        if self.fails:
            raise RuntimeError("on purpose")

    def received(self, frame: Frame) -> bool:
        self._tell("received")
        return False

    def unknown(self, frame: Frame) -> None:
        self._tell("unknown")

    def gap(self) -> None:
        self._tell("gap")

    def role(self) -> dict[str, Any]:
        return {}


@pytest.fixture
async def frames() -> Any:
    async with RoomManager("memory://") as rooms:
        yield rooms._runtime.run.frames


async def test_a_frame_over_which_a_receiver_fails_ends_there(
    frames: Frames, caplog: pytest.LogCaptureFixture
) -> None:
    frames.receivers += [Receiver(fails=True)]
    data = wire.encode(Frame(FrameKind.RESET, frames.node, bytes(8), 0, b""))
    assert frames.took(data)
    assert "on purpose" in caplog.text
    assert frames.malformed == 0  # it was ours to take


async def test_a_gap_is_told_to_all_though_one_of_them_fails(
    frames: Frames, caplog: pytest.LogCaptureFixture
) -> None:
    receivers = [Receiver(fails=True), Receiver()]
    frames.receivers += receivers
    frames.gap()
    assert [one.told for one in receivers] == [["gap"], ["gap"]]
    assert "on purpose" in caplog.text


async def test_what_is_no_frame_of_a_known_kind_is_counted_and_dropped(frames: Frames) -> None:
    receiver = Receiver()
    frames.receivers.append(receiver)
    assert frames.took(wire.BEGINNING)
    assert frames.took(wire.BEGINNING + bytes([99]) + bytes(20))
    assert frames.malformed == 2
    assert receiver.told == []


@pytest.mark.parametrize("volatile", [True, False])
async def test_a_broadcast_without_edges_costs_nothing(frames: Frames, volatile: bool) -> None:
    assert frames.publish_local(b"envelope", volatile=volatile) is None
