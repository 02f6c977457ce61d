"""The ConnectionManager of FastAPI's tutorial, with a list of connections for each room."""

from __future__ import annotations

from collections import defaultdict

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from benchmarks.servers.options import read_options, serve


class ConnectionManager:
    def __init__(self) -> None:
        self.active_connections: defaultdict[str, list[WebSocket]] = defaultdict(list)

    async def connect(self, websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        self.active_connections[room].append(websocket)

    def disconnect(self, websocket: WebSocket, room: str) -> None:
        self.active_connections[room].remove(websocket)

    async def broadcast(self, message: str, room: str) -> None:
        for connection in self.active_connections[room]:
            await connection.send_text(message)


app = FastAPI()
manager = ConnectionManager()


@app.websocket("/ws/{room}")
async def chat(websocket: WebSocket, room: str) -> None:
    await manager.connect(websocket, room)
    try:
        await websocket.send_text("ready")
        while True:
            data = await websocket.receive_text()
            await manager.broadcast(data, room)
    except WebSocketDisconnect:
        manager.disconnect(websocket, room)


if __name__ == "__main__":
    serve(app, read_options())
