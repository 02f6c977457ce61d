"""What workers tell of their sockets, and what can be done with one of them."""

from __future__ import annotations

from typing import Any

import pytest

from fastapi_rooms.operators.remote import sockets_for
from tests.unit.support import OTHER_NODE, RecordingDispatcher


@pytest.mark.parametrize(
    "row",
    [
        ["", [], {}],
        ["x" * 256, [], {}],
        [5, [], {}],
        ["ann", [""], {}],
        ["ann", [5], {}],
        ["ann", {}, {}],
        ["ann", [], []],
        ["ann", []],
        None,
    ],
)
def test_a_malformed_socket_is_refused(row: Any) -> None:
    answer: Any = sockets_for(RecordingDispatcher())
    [found] = answer.read(OTHER_NODE, [["ann", ["tea"], {"a": 1}]])
    assert (found.sid, found.rooms, found.data) == ("ann", {"tea"}, {"a": 1})
    with pytest.raises(ValueError, match=r"expected sid|room name"):
        answer.read(OTHER_NODE, [row])
