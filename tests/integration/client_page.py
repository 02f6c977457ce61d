"""A page with the browser client, and nothing else, and the application that serves both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, WebSocket
from fastapi.responses import HTMLResponse

from fastapi_rooms import Backend, Gateway, RoomManager, client
from fastapi_rooms.testing import eventually

PAGE = """<!doctype html>
<title>Loading</title>
<link rel="icon" href="data:,">
<ol id="states"></ol>
<ol id="messages"></ol>
<script type="module">
  import { connect } from "/rooms/client.js";

  function line(list, text) {
    const item = document.createElement("li");
    item.textContent = text;
    document.getElementById(list).append(item);
  }

  document.title = "Loaded";
  window.start = (url, options) => {
    window.client = connect(url, options);
    line("states", client.state);
    client.addEventListener("state", ({ detail }) => {
      line("states", [detail.state, detail.code, detail.reason].filter(Boolean).join(" "));
    });
    client.addEventListener("message", ({ data }) => {
      line("messages", typeof data === "string" ? data : `bytes: ${new Uint8Array(data)}`);
    });
    client.addEventListener("recovered", ({ detail }) => line("messages", JSON.stringify(detail)));
  };
</script>
"""


def _remembering() -> RoomManager:
    rooms = RoomManager("memory://page")
    rooms.history("memories")
    return rooms


class ClientPage:
    """The application, and who has come."""

    def __init__(self) -> None:
        self.rooms, self.edge_rooms = _remembering(), _remembering()
        self.came: list[str | None] = []
        """The tokens of all connections so far."""
        self.app = FastAPI(lifespan=self.lifespan)
        self.edge = Gateway(self.edge_rooms, routes={"/": "page"})
        self.app.mount("/edge", self.edge)
        self.app.mount("/rooms", client.files)
        self.app.get("/")(self.page)
        self.app.websocket("/echo")(self.echo)
        self.app.websocket("/without")(self.without_rooms)
        self.app.websocket("/members")(self.members)
        self.app.websocket("/memories")(self.memories)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """It is its own backend, too, for the edge that it serves."""
        backend = Backend(app, name="page", adapter=self.rooms)
        async with self.rooms, self.edge, backend:
            await eventually(lambda: self.edge.backends)
            yield

    async def page(self) -> HTMLResponse:
        return HTMLResponse(PAGE)

    async def echo(self, websocket: WebSocket) -> None:
        """Say everything back; close with a code that is asked for."""
        self.came.append(None)
        async with self.rooms.connect(websocket) as socket:
            async for message in socket.iter_text():
                if message.startswith("close "):
                    await socket.disconnect(int(message.split()[1]), "as you say")
                else:
                    await socket.send_text(message)

    async def without_rooms(self, websocket: WebSocket) -> None:
        """An endpoint that has nothing to do with this library."""
        self.came.append(None)
        await websocket.accept()
        await websocket.send_text("welcome")
        async for message in websocket.iter_text():
            await websocket.send_text(message)

    async def members(self, websocket: WebSocket, token: str | None = None) -> None:
        """For who has a fresh token."""
        self.came.append(token)
        async with self.rooms.connect(websocket) as socket:
            if token != "fresh":
                raise HTTPException(401, "expired")
            await socket.send_text("welcome")
            await socket.wait_closed()

    async def memories(self, websocket: WebSocket) -> None:
        """In a room that remembers: close who speaks, and say that to those who are there then."""
        self.came.append(None)
        async with self.rooms.connect(websocket) as socket:
            await socket.join("memories")
            await socket.send_text("welcome")
            async for message in socket.iter_text():
                await socket.disconnect(1012)
                await self.rooms.to("memories").send_text(message)
