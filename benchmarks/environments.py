"""What the servers run in: a virtual environment each, so that no peer holds back another.

Everything comes from PyPI and the npm registry, the newest that fits together.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.paths import SERVERS, WORK

_UVICORN = "uvicorn[standard]"
_FASTAPI = ("fastapi", _UVICORN)

REQUIREMENTS = {
    "ours": (*_FASTAPI, "orjson", "redis[hiredis]", "pamqp"),
    # On redis-py's newest versions it delivers nothing: its subscriber gives up before it begins.
    "broadcaster": (*_FASTAPI, "broadcaster[redis]", "redis[hiredis]<6"),
    "socketio": ("python-socketio", "redis[hiredis]", "orjson", _UVICORN),
    "litestar": ("litestar[redis]", "hiredis", _UVICORN),
    "django": ("channels", "channels-redis", "daphne", "hiredis", _UVICORN),
}


def python(environment: str) -> Path:
    """The interpreter of an environment, made if it is not there or not what it should be."""
    home = WORK / "env" / environment
    interpreter = home / "bin" / "python"
    stamp = home / "requirements.txt"
    wanted = "\n".join(REQUIREMENTS[environment])
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"Installing what the {environment} server needs …", file=sys.stderr)
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(interpreter), "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
        subprocess.run([*pip, *REQUIREMENTS[environment]], check=True)
        stamp.write_text(wanted)
    return interpreter


def node() -> Path:
    """The folder of the Node servers, beside the modules they need."""
    home = WORK / "node"
    manifest = SERVERS / "node" / "package.json"
    stamp = home / "package.json"
    if not stamp.exists() or stamp.read_text() != manifest.read_text():
        print("Installing what the Node servers need …", file=sys.stderr)
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(manifest, home / "package.json")
        try:
            command = ["npm", "install", "--silent", "--no-audit", "--no-fund"]
            subprocess.run(command, cwd=home, check=True)
        except BaseException:
            stamp.unlink()
            raise
    return home


def versions(environment: str, *packages: str) -> dict[str, str]:
    """The versions of some packages as they are installed."""
    if environment == "node":
        return {package: _npm_version(package) for package in packages}
    script = (
        "import json, sys; from importlib.metadata import version; "
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    command = [str(python(environment)), "-c", script, *packages]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, str] = json.loads(out)
    return found


def _npm_version(package: str) -> str:
    manifest = json.loads((WORK / "node" / "node_modules" / package / "package.json").read_text())
    return str(manifest["version"])
