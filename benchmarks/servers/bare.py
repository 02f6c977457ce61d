"""An endpoint that does nothing, on FastAPI and uvicorn: what a connection costs without rooms."""

from __future__ import annotations

from fastapi import FastAPI, WebSocket

from benchmarks.servers.options import read_options, serve

app = FastAPI()


@app.websocket("/ws/{room}")
async def idle(websocket: WebSocket, room: str) -> None:  # noqa: ARG001
    await websocket.accept()
    await websocket.send_text("ready")
    async for _ in websocket.iter_text():
        pass


if __name__ == "__main__":
    serve(app, read_options())
