"""The command `fastapi-rooms`: inspects, and sends to, the rooms of a running application."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command, or say how to install typer if it is missing."""
    try:
        import typer  # noqa: F401
    except ModuleNotFoundError:
        sys.stderr.write(
            "fastapi-rooms: the command line requires typer, which is not installed. Install it:\n"
            '    pip install "fastapi-rooms[cli]"\n'
        )
        sys.exit(2)
    from fastapi_rooms.cli.app import app

    app(prog_name="fastapi-rooms")
