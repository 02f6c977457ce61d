"""The applications of the tests of edges and backends: native endpoints, as anywhere."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Cookie, Depends, FastAPI, Header, HTTPException, WebSocket

from fastapi_rooms import RoomManager, UsageError


def application(rooms: RoomManager) -> FastAPI:
    app = FastAPI()
    app.state.ended = []
    app.state.work_is_done = asyncio.Event()

    async def resource() -> AsyncIterator[str]:
        yield "open"
        app.state.ended.append("resource")

    @app.websocket("/echo/{name}")
    async def echo(
        websocket: WebSocket,
        name: str,
        q: str,
        agent: Annotated[str, Header(alias="x-agent")],
        cookie: Annotated[str, Cookie()],
        resource: Annotated[str, Depends(resource)],
    ) -> None:
        await websocket.accept(subprotocol="b", headers=[(b"x-answer", b"yes")])
        host = websocket.client.host if websocket.client else None
        await websocket.send_json([name, q, agent, cookie, resource, host])
        await websocket.send_bytes(await websocket.receive_bytes())
        await websocket.close(4321, "enough")

    @app.websocket("/refuse/{status}")
    async def refuse(websocket: WebSocket, status: int) -> None:
        raise HTTPException(status, "no")

    @app.websocket("/broken")
    async def broken(websocket: WebSocket) -> None:
        await websocket.accept()
        raise RuntimeError("broken on purpose")

    @app.websocket("/code")
    async def code(websocket: WebSocket) -> None:
        await websocket.accept()
        app.state.ended.append((await websocket.receive())["code"])

    @app.websocket("/chat/{room}")
    async def chat(
        websocket: WebSocket,
        room: str,
        rooms: Annotated[RoomManager, Depends(rooms)],
        name: str = "",
    ) -> None:
        async with rooms.connect(websocket, data={"name": name}) as socket:
            await socket.join(room)
            await socket.send_text(f"hello {socket.attempt}")
            async for text in socket.iter_text():
                if text == "who":
                    found = await rooms.to(room).fetch_sockets()
                    await socket.send_json(sorted(one.data["name"] for one in found))
                elif text.startswith("I am "):
                    socket.data["name"] = text[5:]
                elif text == "work":
                    await socket.send_text("working")
                    await app.state.work_is_done.wait()
                elif text == "tidy":
                    await socket.fresh()
                elif text.startswith("join "):
                    await socket.join(text[5:])
                    await socket.send_text("joined")
                elif text.startswith("keep "):
                    socket.data["kept"] = "x" * int(text[5:])
                    try:
                        await socket.to("nobody").send_text("")
                        await socket.send_text("kept")
                    except UsageError as error:
                        socket.data["kept"] = ""
                        await socket.send_text(str(error))
                elif text == "rooms":
                    await socket.send_json(sorted(socket.rooms - {socket.sid}))
                elif text == "state":
                    await socket.send_json([socket.sid, socket.data, socket.attempt])
                else:
                    await rooms.to(room).send_text(text)

    @rooms.authorize("secret")
    def nobody(socket: Any, room: str) -> bool:
        return False

    return app


def reader_app(rooms: RoomManager) -> FastAPI:
    app = FastAPI()
    app.state.go = asyncio.Event()

    @app.websocket("/flood")
    async def flood(websocket: WebSocket) -> None:
        await websocket.accept()
        app.state.sent = 0
        for number in range(500):
            await websocket.send_bytes(number.to_bytes(4) + bytes(20_000))
            app.state.sent += 1
        await websocket.close()

    @app.websocket("/slow")
    async def slow(websocket: WebSocket) -> None:
        await websocket.accept()
        await app.state.go.wait()
        for number in range(500):
            assert (await websocket.receive_bytes())[:4] == number.to_bytes(4)
        await websocket.close(4000)

    return app
