"""Real FastAPI and Starlette applications, and whose lifespan runs the manager."""

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict, replace
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount

from fastapi_rooms import Health, MemoryAdapter, MemoryBus, NotStarted, RoomManager, UsageError
from tests.unit.applications import check_chat, fastapi_app, join, starlette_app
from tests.unit.support import FakeAdapter


@pytest.mark.parametrize("make", [fastapi_app, starlette_app])
def test_the_manager_runs_with_the_applications_lifespan(make: Callable[..., Any]) -> None:
    rooms = RoomManager()
    with TestClient(make(rooms, lifespan=rooms.lifespan)) as client:
        check_chat(client, rooms)
    assert not rooms.health.ready


@pytest.mark.parametrize("make", [fastapi_app, starlette_app])
def test_the_manager_runs_within_a_lifespan_of_ones_own(make: Callable[..., Any]) -> None:
    rooms = RoomManager()
    order = []

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[dict[str, str]]:
        order.append("database opened")
        async with rooms:
            yield {"database": "open"}
        order.append("database closed")

    with TestClient(make(rooms, lifespan=lifespan)) as client:
        check_chat(client, rooms)
        assert order == ["database opened"]
    assert order == ["database opened", "database closed"]
    assert not rooms.health.ready


@pytest.mark.parametrize("make", [fastapi_app, starlette_app])
def test_an_application_can_be_run_by_one_test_client_after_the_other(
    make: Callable[..., Any],
) -> None:
    rooms = RoomManager()
    app = make(rooms, lifespan=rooms.lifespan)
    for _ in range(2):
        with TestClient(app) as client:
            check_chat(client, rooms)


async def test_who_uses_the_manager_where_a_clone_runs_is_told_how_to_get_that() -> None:
    rooms = RoomManager()
    async with rooms.clone():
        with pytest.raises(NotStarted, match=r"a clone .* by `Depends\(rooms\)`"):
            await rooms.send_text("hello")


@pytest.mark.parametrize("make", [fastapi_app, starlette_app])
def test_a_client_that_does_not_run_the_lifespan_is_told_how(make: Callable[..., Any]) -> None:
    rooms = RoomManager()
    client = TestClient(make(rooms, lifespan=rooms.lifespan))
    with pytest.raises(NotStarted, match=r"with TestClient\(app\) as client"):
        client.post("/announce/lobby")
    with (
        pytest.raises(NotStarted, match=r"with TestClient\(app\) as client"),
        client.websocket_connect("/chat/lobby"),
    ):
        pytest.fail("it was accepted")


def test_a_routers_lifespan_runs_the_manager_too() -> None:
    rooms = RoomManager()
    router = APIRouter(lifespan=rooms.lifespan)

    @router.get("/ready")
    async def ready() -> bool:
        return rooms.health.ready

    app = FastAPI()
    app.include_router(router)
    with TestClient(app) as client:
        assert client.get("/ready").json() is True


# Mounted applications.


@pytest.mark.parametrize("make", [fastapi_app, starlette_app])
@pytest.mark.parametrize("parent", ["fastapi", "starlette"])
def test_a_mounted_application_works_under_its_parents_lifespan(
    make: Callable[..., Any], parent: str
) -> None:
    rooms = RoomManager()
    mounted = make(rooms)
    app: Starlette
    if parent == "fastapi":
        app = FastAPI(lifespan=rooms.lifespan)
        app.mount("/sub", mounted)
    else:
        app = Starlette(routes=[Mount("/sub", mounted)], lifespan=rooms.lifespan)
    with TestClient(app) as client:
        check_chat(client, rooms, "/sub")


def test_a_mounted_applications_own_lifespan_never_runs_and_the_error_says_so() -> None:
    rooms = RoomManager()
    app = FastAPI()
    app.mount("/sub", fastapi_app(rooms, lifespan=rooms.lifespan))
    with (
        TestClient(app) as client,
        pytest.raises(NotStarted, match="start the manager in the parent"),
        client.websocket_connect("/sub/chat/lobby"),
    ):
        pytest.fail("it was accepted")


def test_two_applications_in_one_process_can_share_one_manager() -> None:
    rooms = RoomManager()
    outer = fastapi_app(rooms, lifespan=rooms.lifespan)
    inner = fastapi_app(rooms, lifespan=rooms.lifespan)
    outer.mount("/sub", inner)

    @asynccontextmanager
    async def both(app: FastAPI) -> AsyncIterator[None]:
        async with rooms.lifespan(app), inner.router.lifespan_context(inner):
            yield

    outer.router.lifespan_context = both
    with TestClient(outer) as client:
        check_chat(client, rooms)
        check_chat(client, rooms, "/sub")
    assert not rooms.health.ready


def test_applications_on_one_bus_are_each_others_workers() -> None:
    bus = MemoryBus()
    one, two = (RoomManager(MemoryAdapter(bus)) for _ in range(2))
    with (
        TestClient(fastapi_app(one, lifespan=one.lifespan)) as first,
        TestClient(fastapi_app(two, lifespan=two.lifespan)) as second,
        ExitStack() as stack,
    ):
        ann = join(first, stack, "/chat/lobby", "lobby")
        bob = join(second, stack, "/chat/lobby", "lobby")
        ann.send_text("hello")
        assert bob.receive_text() == "hello"
        assert second.post("/announce/lobby").status_code == 200
        assert ann.receive_json() == bob.receive_json() == {"hello": "lobby"}


def test_health_serves_a_readiness_route() -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter)
    app = FastAPI(lifespan=rooms.lifespan)

    @app.get("/ready")
    async def ready() -> JSONResponse:
        health: Health = rooms.health
        return JSONResponse(asdict(health), 200 if health.ready else 503)

    with TestClient(app) as client:
        assert client.get("/ready").status_code == 200
        adapter.health = replace(adapter.health, connected=False)
        answer = client.get("/ready")
        assert answer.status_code == 503
        assert answer.json()["connected"] is False


@pytest.mark.parametrize("make", [FastAPI, Starlette])
def test_a_lifespan_that_was_called_already_says_how_it_is_given(make: Callable[..., Any]) -> None:
    lifespan: Any = RoomManager().lifespan()
    with (
        pytest.raises(UsageError, match=r"without calling it: .*lifespan=rooms\.lifespan\)"),
        TestClient(make(lifespan=lifespan)),
    ):
        pass


async def test_a_lifespan_may_be_entered_in_one_of_ones_own() -> None:
    rooms = RoomManager()
    async with rooms.lifespan():
        assert rooms.health.ready
    assert not rooms.health.ready
