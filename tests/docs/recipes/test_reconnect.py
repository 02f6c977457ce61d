"""The page's JavaScript in a real browser: which close codes it comes back after."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.responses import HTMLResponse, PlainTextResponse
from fastapi.testclient import TestClient
from playwright.async_api import BrowserContext, ConsoleMessage, Page

import fastapi_rooms.client
from fastapi_rooms import RoomManager
from fastapi_rooms.testing import eventually
from tests.docs.conftest import Serve
from tests.docs.pages import blocks
from tests.docs.registry import shows

PAGE = "docs/recipes/reconnect.md"

in_the_loop_of_the_browser = pytest.mark.asyncio(loop_scope="session")
CUT = 1006


class Server:
    """Closes each connection with the next of some codes, and keeps those that come after."""

    def __init__(self, codes: list[int]) -> None:
        self.codes = codes
        self.tokens: list[str] = []
        """Those of the connections that came."""
        self.renewals = 0
        self.rooms = RoomManager()
        self.app = FastAPI(lifespan=self.rooms.lifespan)
        self.app.mount("/rooms", fastapi_rooms.client.files)
        (script,) = (block for block in blocks("javascript", page=PAGE) if block.title)

        @self.app.get("/")
        async def page() -> HTMLResponse:
            return HTMLResponse(f'<script type="module">{script.code}</script>')

        @self.app.get("/token")
        async def token(renew: str | None = None) -> PlainTextResponse:
            self.renewals += renew is not None
            return PlainTextResponse(str(self.renewals))

        @self.app.websocket("/chat/tea")
        async def chat(websocket: WebSocket, token: str) -> None:
            self.tokens.append(token)
            code = self.codes.pop(0) if self.codes else None
            if code == CUT:
                await websocket.accept()
                return
            async with self.rooms.connect(websocket) as socket:
                if code:
                    await socket.disconnect(code, "as told")
                else:
                    await socket.send_text("hello")
                await socket.wait_closed()


@asynccontextmanager
async def opened(window: BrowserContext, address: str) -> AsyncIterator[list[str]]:
    """The page in a browser that is in a hurry; gives what it writes to its console."""
    printed: list[str] = []

    def write(message: ConsoleMessage) -> None:
        if message.type == "log":
            printed.append(message.text)

    page: Page = await window.new_page()
    await page.add_init_script("Math.random = () => 0.001")
    page.on("console", write)
    await page.goto(f"http://{address}/")
    yield printed


@in_the_loop_of_the_browser
async def test_it_comes_back_until_it_stays(serve: Serve, window: BrowserContext) -> None:
    codes = [CUT, 1001, 1011, 1012, 1013, 4408, 4425, 4429, 4500, 4503]
    server = Server([*codes])
    async with opened(window, serve(server.app)) as printed:
        await eventually(lambda: "hello" in printed)
        assert server.tokens == ["0"] * (len(codes) + 1)
        assert printed == ["away for a moment"] * len(codes) + ["hello"]


@pytest.mark.parametrize("code", [1000, 1008, 4000, 4003, 4404, 4409, 4600])
@in_the_loop_of_the_browser
async def test_it_stays_away_when_it_is_over(
    serve: Serve, code: int, window: BrowserContext
) -> None:
    server = Server([1012, code])
    async with opened(window, serve(server.app)) as printed:
        await eventually(lambda: f"closed with {code}: as told" in printed)
        assert len(server.tokens) == 2


@in_the_loop_of_the_browser
async def test_it_renews_its_token_and_comes_back(serve: Serve, window: BrowserContext) -> None:
    server = Server([4401])
    async with opened(window, serve(server.app)) as printed:
        await eventually(lambda: "hello" in printed)
        assert server.tokens == ["0", "1"]


@in_the_loop_of_the_browser
async def test_it_stays_away_when_the_new_token_is_refused_as_well(
    serve: Serve, window: BrowserContext
) -> None:
    server = Server([4401, 4401])
    async with opened(window, serve(server.app)) as printed:
        await eventually(lambda: "closed with 4401: as told" in printed)
        assert server.tokens == ["0", "1"]


@shows(PAGE, "app.py")
def test_the_room_remembers(example: ModuleType) -> None:
    with TestClient(example.app) as client:
        assert client.get("/rooms/client.js").status_code == 200
        with client.websocket_connect("/chat/tea") as ann:
            ann.send_text("hi")
            assert ann.receive_text() == "hi"
            assert client.portal is not None
            (said,) = client.portal.call(example.rooms.recent, "chat-tea", 1)
            assert said.text == "hi"
