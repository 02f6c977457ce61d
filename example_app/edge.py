"""An edge of the chat: the page, and its connections; whose endpoints run in backends.

It has nothing of the application in it, so it stays when that is deployed: see `edges.py`.
"""

import os
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from fastapi_rooms import Gateway, client

STATIC = Path(__file__).parent / "static"

gateway = Gateway(os.environ["ROOMS_URL"], routes={"/ws": "chat"})
app = FastAPI(lifespan=gateway.lifespan)


@app.get("/", include_in_schema=False)
async def index() -> FileResponse:
    return FileResponse(STATIC / "index.html")


@app.get("/health")
async def health() -> JSONResponse:
    """Ready, or 503: also where there is no backend."""
    health = gateway.health
    about = {"ready": health.ready, "clients": health.clients, "reattached": health.reattached}
    return JSONResponse(about, 200 if health.ready else 503)


app.mount("/static", StaticFiles(directory=STATIC))
app.mount("/rooms", client.files)
app.mount("/", gateway)
