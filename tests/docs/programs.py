"""Programs that the pages tell to run."""

from __future__ import annotations

import shlex
import socket
import sys
from pathlib import Path

from tests.docs.pages import ROOT
from tests.integration.servers import Server, Start, wait_until


def listens(server: Server) -> bool:
    """Whether it does; fails if it has ended."""
    assert server.process.poll() is None, server.log
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
    except OSError:
        return False
    return True


def run_server(start: Start, line: str, directory: Path) -> Server:
    """Run a server's command line in a directory, on a port of our own."""
    program, *arguments = shlex.split(line)
    if program == "gunicorn":  # whose control socket would be in the home directory
        arguments += ["--chdir", str(directory), "--no-control-socket", "-b", "127.0.0.1:{}"]
    else:
        arguments += ["--app-dir", str(directory), "--port", "{}"]
    server = start(
        lambda port: [sys.executable, "-m", program, *(a.format(port) for a in arguments)],
        PYTHONPATH=f"{directory}:{ROOT}",
        PYTHONWARNINGS="",  # uvicorn's own, as its user sees them
    )
    wait_until(lambda: listens(server), timeout=60)
    return server
