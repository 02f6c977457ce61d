"""The C programs: built when they are missing or older than their source."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.paths import NATIVE, WORK

_SOURCES = {
    "load": ("load.c", "client.c", "frames.c", "ledger.c", "clock.c"),
    "floor": ("floor.c", "handshake.c"),
}


def program(name: str) -> Path:
    """The path of a program, up to date."""
    binary = WORK / name
    newest = max(source.stat().st_mtime for source in NATIVE.iterdir())
    if not binary.exists() or binary.stat().st_mtime < newest:
        WORK.mkdir(exist_ok=True)
        sources = [str(NATIVE / source) for source in _SOURCES[name]]
        command = ["gcc", "-O2", "-Wall", "-Wextra", "-o", str(binary), *sources, "-lz"]
        try:
            subprocess.run(command, check=True)
        except FileNotFoundError:
            raise SystemExit("The benchmarks need gcc and zlib (Debian: gcc zlib1g-dev).") from None
    return binary
