"""Runs the command by `python -m fastapi_rooms.cli`."""

from __future__ import annotations

from fastapi_rooms.cli import main

main()
