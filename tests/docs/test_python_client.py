"""The scripts of the page about the client for Python, and its tables."""

from __future__ import annotations

import asyncio
import inspect
import re
import runpy
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from fastapi import FastAPI, HTTPException, WebSocket

from fastapi_rooms import RoomManager
from fastapi_rooms.client import connect
from fastapi_rooms.testing import eventually
from tests.docs.conftest import Serve
from tests.docs.pages import ROOT, files_of
from tests.integration.servers import wait_until

PAGE = "docs/howto/python-client.md"


def save(directory: Path, title: str, address: str) -> Path:
    path = directory / title
    path.write_text(files_of(PAGE)[title].replace("localhost:8000", address))
    return path


@pytest.fixture
def app() -> FastAPI:
    """An application with `rooms` in its state."""
    rooms = RoomManager()
    app = FastAPI(lifespan=rooms.lifespan)
    app.state.rooms = rooms
    return app


def test_the_first_script_sends_and_prints_what_it_hears(
    app: FastAPI, tmp_path: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    @app.websocket("/chat/tea")
    async def chat(websocket: WebSocket) -> None:
        async with app.state.rooms.connect(websocket) as socket:
            await socket.send_text(f"heard: {await socket.receive_text()}")

    runpy.run_path(str(save(tmp_path, "listen.py", serve(app))))
    assert capsys.readouterr().out == "heard: I am listening.\n"


def test_the_bot_asks_for_a_new_token_when_the_old_one_is_refused(
    app: FastAPI, tmp_path: Path, serve: Serve
) -> None:
    tokens: list[str] = []
    answers: list[object] = []

    @app.websocket("/bots")
    async def bots(websocket: WebSocket) -> None:
        tokens.append(websocket.headers["Authorization"])
        if tokens[-1] != "Bearer a new one":
            raise HTTPException(401, "expired")
        async with app.state.rooms.connect(websocket) as socket:
            await socket.send_json([1])
            answers.append(await socket.receive_json())

    runpy.run_path(str(save(tmp_path, "bot.py", serve(app))))
    assert tokens == ["Bearer the one in the cache", "Bearer a new one"]
    assert answers == [{"got": [1]}]


def test_the_meter_sends_and_nothing_is_missing(
    app: FastAPI, tmp_path: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[float] = []

    @app.websocket("/meters")
    async def meters(websocket: WebSocket) -> None:
        async with app.state.rooms.connect(websocket) as socket:
            async for value in socket.iter_json():
                heard.append(value["degrees"])  # noqa: PERF401 -- it ends in an error

    runpy.run_path(str(save(tmp_path, "meter.py", serve(app))))
    wait_until(lambda: len(heard) == 3)
    assert capsys.readouterr().out == ""


async def test_the_ledger_has_every_order_once_across_restarts(
    app: FastAPI,
    tmp_path: Path,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rooms: RoomManager = app.state.rooms
    rooms.history("orders", size=3)

    @app.websocket("/orders")
    async def orders(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("orders")
            await socket.wait_closed()

    @app.websocket("/shop")
    async def order(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            async for text in socket.iter_text():
                if text == "end":
                    await rooms.to("orders").disconnect_sockets(1000)
                else:
                    await rooms.to("orders").send_text(text)
                await socket.send_text("done")

    def run() -> None:
        runpy.run_path(str(script))["database"].close()

    def booked() -> list[str]:
        with closing(sqlite3.connect("ledger.db")) as database:
            return [row[0] for row in database.execute("SELECT data FROM orders")]

    monkeypatch.chdir(tmp_path)
    address = serve(app)
    script = save(tmp_path, "ledger.py", address)
    async with connect(f"ws://{address}/shop") as shop:

        async def say(*texts: str) -> None:
            for text in texts:
                await shop.send_text(text)
                await anext(shop)

        for while_it_runs, afterwards in (("012", "34"), ("567", "89ab"), ("c", "")):
            running = asyncio.create_task(asyncio.to_thread(run))
            await eventually(lambda: rooms.rooms.get("orders"))
            await say(*while_it_runs)
            await eventually(lambda last=while_it_runs[-1]: last in booked())  # type: ignore[misc, arg-type]
            await say("end")
            await running
            await say(*afterwards)
        assert "".join(booked()) == "01234567c"
    assert capsys.readouterr().out == "Some of orders is missing: read it from the shop.\n"


def test_every_option_is_in_the_table() -> None:
    table = (ROOT / PAGE).read_text().partition("## Options")[2].partition("## ")[0]
    listed = {
        name
        for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", cell)
    }
    options = inspect.signature(connect).parameters.values()
    assert listed == {option.name for option in options if option.kind is option.KEYWORD_ONLY}


@pytest.mark.parametrize(
    ("option", "default"), [("max_queue", 16), ("max_size", 1024 * 1024), ("ping_timeout", 20.0)]
)
def test_defaults_are_those_of_the_table(option: str, default: object) -> None:
    assert inspect.signature(connect).parameters[option].default == default
