"""Endpoints as a test client runs them, behind an edge: the same tests, the same outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from fastapi_rooms import MemoryAdapter, RoomManager
from tests.behind_edge import BehindEdge
from tests.unit import test_application_endpoints

OTHERWISE = {
    "test_a_sid_in_use_is_said_before_the_connection_is_accepted": "its edge knows it, and later",
    "test_an_endpoint_that_raises_leaves_nothing_and_the_error_is_the_applications": "as on a "
    "server, the client hears 1011 and not the error",
    "test_an_endpoint_that_is_cancelled_leaves_nothing": "looks for it in the backend's rooms",
    "test_a_join_that_the_adapter_refuses_closes_with_try_again_later": "has an adapter of its own",
}
"""Which are about what is not the same behind an edge, and why."""


def _cases() -> Iterator[Any]:
    for name, test in vars(test_application_endpoints).items():
        if not name.startswith("test_") or name in OTHERWISE:
            continue
        marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
        if not marks:
            yield pytest.param(test, {}, id=name)
        for mark in marks:
            names = mark.args[0]
            if isinstance(names, str):
                names = [one.strip() for one in names.split(",")]
            for number, values in enumerate(mark.args[1]):
                several = values if len(names) > 1 else (values,)
                yield pytest.param(
                    test, dict(zip(names, several, strict=True)), id=f"{name}-{number}"
                )


class ClientOfEdge(TestClient):
    """Starlette's client, of an application behind an edge."""

    __test__ = False

    def __init__(self, app: Any, **options: Any) -> None:
        rooms = app.router.lifespan_context.__self__
        assert isinstance(rooms, RoomManager)
        adapter = rooms._runtime.adapter
        assert isinstance(adapter, MemoryAdapter)
        super().__init__(BehindEdge(app, rooms, MemoryAdapter(adapter.bus)), **options)


@pytest.mark.parametrize(("test", "arguments"), list(_cases()))
def test_behind_an_edge(
    test: Callable[..., None], arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_application_endpoints, "TestClient", ClientOfEdge)
    test(**arguments)


def test_every_exception_is_the_name_of_a_test() -> None:
    assert vars(test_application_endpoints).keys() >= OTHERWISE.keys()
