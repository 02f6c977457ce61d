"""An application whose rooms remember and know who is present, as it runs behind edges."""

from typing import Annotated, Any

from fastapi import Depends, FastAPI, WebSocket

from fastapi_rooms import PresenceEvent, RoomManager, Socket


def chat_app(rooms: RoomManager, *, grace: float = 0.0) -> FastAPI:
    rooms.history("chat-*", size=100)
    rooms.history("kept-*", size=100)
    presence = rooms.presence("chat-*", user="name", grace=grace)
    by_function = rooms.presence("who-*", user=_shouted, grace=grace)
    app = FastAPI()
    app.state.rooms, app.state.presence, app.state.by_function = rooms, presence, by_function
    app.state.told, app.state.told_once = [], []

    for one in (presence, by_function):

        @one.on("join")
        @one.on("leave")
        def told(event: PresenceEvent) -> None:
            app.state.told.append((event.kind, event.room, event.user, event.version))

        @one.on("join", one_worker=True)
        @one.on("leave", one_worker=True)
        def told_once(event: PresenceEvent) -> None:
            app.state.told_once.append((event.kind, event.room, event.user))

    @app.websocket("/{room}")
    async def chat(
        websocket: WebSocket,
        room: str,
        rooms: Annotated[RoomManager, Depends(rooms)],
        name: str | None = None,
        recent: int | None = None,
        since: str | None = None,
    ) -> None:
        data = {} if name is None else {"name": name}
        async with rooms.connect(websocket, data=data) as socket:
            joined = await socket.join(room, recent=recent, since=since)
            result = [socket.attempt, joined.recovered, joined.replayed, joined.positions]
            await socket.send_json(result)
            async for text in socket.iter_text():
                if text.startswith("leave "):
                    await socket.leave(text[6:])
                elif text.startswith("join "):
                    await socket.join(text[5:])
                    await socket.send_text("joined")
                elif text.startswith("I am "):
                    socket.data["name"] = text[5:]
                else:
                    await rooms.to(room).send_text(text)

    return app


def _shouted(socket: Socket) -> str:
    name: Any = socket.data["name"]
    return str(name).upper()
