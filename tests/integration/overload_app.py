"""An application whose clients send to any rooms, as fast as they can, and hear of gaps."""

from __future__ import annotations

import json
import os
import resource
from typing import Any

from fastapi import FastAPI, WebSocket

from fastapi_rooms import Gap, RoomManager

rooms = RoomManager(os.environ["ROOMS_URL"], max_lag=float(os.environ.get("MAX_LAG", "0.5")))
app = FastAPI(lifespan=rooms.lifespan)


@rooms.on("gap")
async def tell(gap: Gap) -> None:
    told = {"since": gap.since, "until": gap.until}
    await gap.namespace.local.to(*gap.rooms).send_text("gap " + json.dumps(told))


@app.websocket("/ws/{names}")
async def endpoint(websocket: WebSocket, names: str) -> None:
    async with rooms.connect(websocket) as socket:
        await socket.join(*names.split("+"))
        await socket.send_text("joined")
        async for text in socket.iter_text():
            await rooms.to(text.partition(" ")[0]).send_text(text)


@app.get("/health")
async def health() -> dict[str, Any]:
    health = rooms.health
    return {
        "worker": os.getpid(),
        "ready": health.ready,
        "dropped": health.dropped,
        "lag": health.lag,
        "reconnects": health.reconnects,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
