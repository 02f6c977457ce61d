"""Which close codes and reasons a server may send."""

from __future__ import annotations

import pytest

from fastapi_rooms import UsageError
from fastapi_rooms.core.close_codes import check_close


@pytest.mark.parametrize("reason", ["x" * 124, "\ud800", None, b"bytes"], ids=ascii)
def test_a_close_reason_that_cannot_be_sent_is_refused(reason: object) -> None:
    assert check_close(1000, "ä" * 61) == (1000, "ä" * 61)
    with pytest.raises(UsageError, match="close reason"):
        check_close(1000, reason)
