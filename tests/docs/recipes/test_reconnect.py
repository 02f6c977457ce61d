"""The page's JavaScript in a real browser: which close codes it comes back after."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI, HTTPException, Response, WebSocket
from fastapi.responses import HTMLResponse
from playwright.async_api import ConsoleMessage, Page

from fastapi_rooms import RoomManager
from fastapi_rooms.testing import eventually
from tests.docs.conftest import Serve
from tests.docs.pages import blocks
from tests.integration.browser import chromium, window

PAGE = "docs/recipes/reconnect.md"
CUT = 1006


class Server:
    """Closes each connection with the next of some codes, and keeps those that come after."""

    def __init__(self, codes: list[int], *, renews: bool = True) -> None:
        self.codes = codes
        self.connections = 0
        self.renewals = 0
        self.rooms = RoomManager()
        self.app = FastAPI(lifespan=self.rooms.lifespan)
        self.files = {block.title: block.code for block in blocks("javascript", page=PAGE)}

        @self.app.get("/")
        async def page() -> HTMLResponse:
            return HTMLResponse('<script type="module" src="page.js"></script>')

        @self.app.get("/{name}.js")
        async def script(name: str) -> Response:
            code = self.files[f"{name}.js"].replace(
                '"wss://chat.example.com/chat/tea"', "`ws://${location.host}/chat/tea`"
            )
            return Response(code, media_type="text/javascript")

        @self.app.post("/token/renew")
        async def renew() -> None:
            self.renewals += 1
            if not renews:
                raise HTTPException(401)

        @self.app.websocket("/chat/tea")
        async def chat(websocket: WebSocket) -> None:
            self.connections += 1
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
async def opened(address: str) -> AsyncIterator[list[str]]:
    """The page in a browser that is in a hurry; gives what it writes to its console."""
    printed: list[str] = []

    def write(message: ConsoleMessage) -> None:
        if message.type == "log":
            printed.append(message.text)

    async with chromium() as browser, window(browser) as context:
        page: Page = await context.new_page()
        await page.add_init_script("Math.random = () => 0.001")
        page.on("console", write)
        await page.goto(f"http://{address}/")
        yield printed


async def test_it_comes_back_until_it_stays(serve: Serve) -> None:
    codes = [CUT, 1001, 1011, 1012, 1013, 4408, 4425, 4429, 4500, 4503]
    server = Server([*codes])
    async with opened(serve(server.app)) as printed:
        await eventually(lambda: "hello" in printed)
        assert server.connections == len(codes) + 1
        assert printed[-2:] == ["here again", "hello"]
        assert server.renewals == 0


@pytest.mark.parametrize("code", [1000, 1008, 4000, 4003, 4404, 4409, 4600])
async def test_it_stays_away_when_it_is_over(serve: Serve, code: int) -> None:
    server = Server([1012, code])
    async with opened(serve(server.app)) as printed:
        await eventually(lambda: f"closed with {code}: as told" in printed)
        assert server.connections == 2


async def test_it_renews_its_token_and_comes_back(serve: Serve) -> None:
    server = Server([4401, 4401])
    async with opened(serve(server.app)) as printed:
        await eventually(lambda: "hello" in printed)
        assert (server.connections, server.renewals) == (3, 2)


async def test_it_stays_away_when_there_is_no_new_token(serve: Serve) -> None:
    server = Server([4401], renews=False)
    async with opened(serve(server.app)) as printed:
        await eventually(lambda: "closed with 4401: as told" in printed)
        assert (server.connections, server.renewals) == (1, 1)
