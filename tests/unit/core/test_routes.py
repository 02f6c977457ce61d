"""Paths and the backends that serve them."""

from __future__ import annotations

from typing import Any

import pytest

from fastapi_rooms import ConfigurationError
from fastapi_rooms.core.routes import Routes, has_dots


def test_whole_segments_match_and_the_longest_route_wins() -> None:
    routes = Routes({"/chat": "chat", "/chat/admin": "admin", "/game/": "game"})
    assert routes.find("/chat") == "chat"
    assert routes.find("/chat/tea") == "chat"
    assert routes.find("/chat/admin/x") == "admin"
    assert routes.find("/chatter") is None
    assert routes.find("/game") == "game"
    assert routes.find("/") is None
    assert Routes({"/": "all"}).find("/any/thing") == "all"


@pytest.mark.parametrize(
    "routes",
    [
        *({}, {"chat": "chat"}, {"/chat": ""}, {"/chat": 5}, {"/chat": "x" * 101}),
        *({"/a/../b": "x"}, {"/caf%C3%A9": "x"}, {"/chat?room=tea": "x"}),
        {"/chat": "one", "/chat/": "two"},
    ],
)
def test_routes_that_cannot_be_are_refused(routes: Any) -> None:
    with pytest.raises(ConfigurationError):
        Routes(routes)


@pytest.mark.parametrize(("path", "dots"), [("/a/../b", True), ("/./a", True), ("/a..b/.c", False)])
def test_dot_segments_are_recognized(path: str, dots: bool) -> None:
    assert has_dots(path) is dots
