"""The command `fastapi-rooms`: look at, and talk to, the rooms of a running application."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; say how to get what it needs where that is missing."""
    try:
        import typer  # noqa: F401
    except ModuleNotFoundError:
        sys.stderr.write(
            "fastapi-rooms: the command line needs typer, which is not installed here. Get it:\n"
            '    pip install "fastapi-rooms[cli]"\n'
        )
        sys.exit(2)
    from fastapi_rooms.cli.app import app

    app(prog_name="fastapi-rooms")
