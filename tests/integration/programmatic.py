"""`uvicorn.run(…)` from a program: its port, and the number of workers if it is to be said."""

from __future__ import annotations

import sys

import uvicorn

if __name__ == "__main__":
    port, *workers = map(int, sys.argv[1:])
    app = "tests.integration.rooms_alone:app"
    uvicorn.run(app, port=port, workers=workers[0] if workers else None)
