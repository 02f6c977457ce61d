"""The client for Python does after each close code what the page says, as the one for browsers."""

from __future__ import annotations

import pytest

from fastapi_rooms.core.reconnection import Reconnection
from tests.unit.client.close_codes import documented


@pytest.mark.parametrize("word", ["returns", "new token", "ends"])
def test_what_it_does_after_a_code_is_what_the_page_says(word: str) -> None:
    for code, documented_word in documented().items():
        if documented_word == word:
            outcomes = []
            for can_refresh in (False, True):
                client = Reconnection(can_refresh=can_refresh, random=lambda: 0.5)
                outcomes += [client.lost(code) is not None, client.lost(code) is not None]
            assert (
                outcomes
                == {
                    "returns": [True, True, True, True],
                    "new token": [False, False, True, False],
                    "ends": [False, False, False, False],
                }[word]
            ), code
