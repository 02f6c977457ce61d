"""What a run was made on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from benchmarks import environments
from benchmarks.catalogue import Server


def machine() -> dict[str, str]:
    """The processor, the kernel, and the versions of what is not a package."""
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return {
        "processor": model[1] if model else platform.processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "node": _version("node"),
        "redis-server": _version("redis-server"),
        "gcc": _version("gcc"),
    }


def versions(servers: Iterable[Server]) -> dict[str, dict[str, str]]:
    """The packages that matter, by the environment they are in."""
    wanted: dict[str, dict[str, None]] = {}
    for server in servers:
        if server.environment:
            wanted.setdefault(server.environment, {}).update(dict.fromkeys(server.packages))
    return {name: environments.versions(name, *packages) for name, packages in wanted.items()}


def _version(program: str) -> str:
    try:
        asked = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "not there"
    number = re.search(r"\d+\.\d+[.\d]*", re.sub(r"\(.*?\)", "", asked.stdout.splitlines()[0]))
    return number[0] if number else asked.stdout.strip()
