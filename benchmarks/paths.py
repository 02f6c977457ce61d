"""Where things are."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
NATIVE = HERE / "native"
SERVERS = HERE / "servers"
RESULTS = HERE / "results"
WORK = HERE / ".work"
"""What is built and installed for a run; nothing in it is kept in git."""
