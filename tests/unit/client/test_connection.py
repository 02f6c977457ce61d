"""How a connection ended, by the close frames that either side has sent."""

from __future__ import annotations

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from fastapi_rooms.client.connection import End, _end_of

SERVER, CLIENT = Close(4003, "logged out"), Close(1009, "too big")


@pytest.mark.parametrize(
    ("received", "sent", "received_first", "end"),
    [
        (SERVER, Close(4003, ""), True, End(4003, "logged out")),
        (SERVER, None, None, End(4003, "logged out")),
        (Close(1000, ""), CLIENT, False, End(1009, "too big")),
        (None, CLIENT, None, End(1009, "too big")),
        (None, None, None, End(1006, "")),
    ],
)
def test_it_ended_by_the_close_frame_that_came_first(
    received: Close | None, sent: Close | None, received_first: bool | None, end: End
) -> None:
    assert _end_of(ConnectionClosedError(received, sent, received_first)) == end


def test_a_connection_that_broke_says_how() -> None:
    closed = ConnectionClosedError(None, None)
    closed.__cause__ = ConnectionResetError("reset by peer")
    assert _end_of(closed) == End(1006, "reset by peer")
