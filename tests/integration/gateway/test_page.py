"""A page in a real browser with several endpoints over one connection, while a backend restarts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.responses import HTMLResponse
from playwright.async_api import Browser, expect

from fastapi_rooms import Backend, Gateway, RoomManager, client
from tests.integration.browser import window
from tests.integration.uvicorn_thread import uvicorn_thread

pytestmark = pytest.mark.asyncio(loop_scope="session")  # that of the browser

PAGE = """<!doctype html>
<title>Loading</title>
<link rel="icon" href="data:,">
<ol id="heard"></ol>
<script type="module">
  import { gateway } from "/rooms/gateway.js";

  const RealWebSocket = WebSocket;
  window.made = 0;
  window.WebSocket = class extends RealWebSocket {
    constructor(...about) {
      super(...about);
      window.made++;
    }
  };
  const edge = gateway("/live/");
  window.channels = {};
  for (const path of ["/chat/tea", "/chat/milk", "/game", "/nowhere"]) {
    const channel = (window.channels[path] = edge.open(path));
    const hear = (text) => {
      const item = document.createElement("li");
      item.textContent = `${path} ${text}`;
      document.getElementById("heard").append(item);
    };
    channel.addEventListener("message", ({ data }) =>
      hear(typeof data === "string" ? data : new Uint8Array(data)));
    channel.addEventListener("reopened", () => hear("reopened"));
    channel.addEventListener("state", ({ detail }) => {
      if (detail.code) hear(`${detail.state} ${detail.code}`);
    });
  }
  document.title = "Loaded";
</script>
"""


class Site:
    """An application with an edge below `/live`, and backends of two names."""

    def __init__(self) -> None:
        self.url = f"memory://{uuid4().hex}"
        self.gateway = Gateway(self.url, routes={"/chat": "chat", "/game": "game"})
        self.chat = self.backend("chat")
        self.app = FastAPI(lifespan=self.lifespan)
        self.app.mount("/rooms", client.files)
        self.app.mount("/live", self.gateway)
        self.app.get("/")(self.page)
        self.app.post("/restart")(self.restart)

    def backend(self, name: str) -> Backend:
        app, rooms = FastAPI(), RoomManager(self.url)

        @app.websocket("/chat/{room}")
        @app.websocket("/game")
        async def endpoint(websocket: WebSocket, room: str = "game") -> None:
            async with rooms.connect(websocket) as socket:
                await socket.join(room)
                await socket.send_text(f"hello {socket.attempt}")
                async for text in socket.iter_text():
                    await rooms.to("tea", "milk", "game").send_text(text)
                    await socket.send_bytes(b"\x07")

        return Backend(app, name=name, adapter=rooms)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        async with self.gateway, self.backend("game"):
            await self.chat.__aenter__()
            yield
            await self.chat.__aexit__()

    async def page(self) -> HTMLResponse:
        return HTMLResponse(PAGE)

    async def restart(self) -> None:
        old, self.chat = self.chat, self.backend("chat")
        await old.__aexit__()
        await self.chat.__aenter__()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where the application is."""
    with uvicorn_thread(Site().app, log_level="error") as port:
        yield f"http://127.0.0.1:{port}"


async def test_a_page_has_several_endpoints_over_one_connection(url: str, browser: Browser) -> None:
    async with window(browser) as context:
        page = await context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        await page.goto(url)
        await expect(page).to_have_title("Loaded")
        heard = page.locator("#heard")

        async def hears(*texts: str) -> None:
            for text in texts:
                await expect(heard.get_by_text(text, exact=True)).to_have_count(1)

        channels = ("/chat/tea", "/chat/milk", "/game")
        await hears(*(f"{path} hello 0" for path in channels), "/nowhere closed 4404")
        await page.evaluate("channels['/chat/tea'].send('hi')")
        await hears(*(f"{path} hi" for path in channels), "/chat/tea 7")
        await page.request.post(f"{url}/restart")
        await hears(
            *(f"{path} {text}" for path in channels[:2] for text in ("reopened", "hello 1"))
        )
        await page.evaluate("channels['/game'].send('again')")
        await hears(*(f"{path} again" for path in channels))
        assert await page.evaluate("made") == 1
        assert await page.evaluate("Object.values(channels).map((one) => one.state)") == [
            *("open", "open", "open", "closed")
        ]
        assert errors == []
