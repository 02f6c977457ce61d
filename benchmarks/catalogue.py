"""The servers there are, and how each is started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from benchmarks import environments
from benchmarks.native import program
from benchmarks.paths import SERVERS

Argv = Callable[[int, str], list[str]]
"""From a port and the URL of a Redis, or of a RabbitMQ, to a command."""


@dataclass(frozen=True, slots=True)
class Server:
    """One server in one configuration."""

    name: str
    label: str
    argv: Argv
    group: Literal["ours", "reference", "peer"] = "peer"
    redis: bool = False
    rabbitmq: bool = False
    protocol: Literal["ws", "socketio"] = "ws"
    in_flight: int = 100
    """How many clients may be connecting at a time."""
    deflate: bool = False
    """Whether the clients offer compression; the server is then set to accept."""
    environment: str = ""
    packages: tuple[str, ...] = ()
    """What to note the versions of."""
    backend: Argv | None = None
    """The command of the process that runs the endpoints, where the server only holds clients."""

    @property
    def path(self) -> str:
        """What clients ask for, with a place for the number of their room."""
        if self.protocol == "socketio":
            return "/socket.io/?EIO=4&transport=websocket&room=r%d"
        return "/ws/r%d"


def _python(environment: str, module: str, *flags: str) -> Argv:
    def argv(port: int, redis: str) -> list[str]:
        interpreter = str(environments.python(environment))
        command = [interpreter, "-m", f"benchmarks.servers.{module}", "--port", str(port), *flags]
        return [*command, "--redis", redis] if redis else command

    return argv


def _node(script: str, *flags: str) -> Argv:
    def argv(port: int, redis: str) -> list[str]:
        modules = environments.node() / "node_modules"
        path = str(SERVERS / "node" / script)
        command = ["env", f"NODE_PATH={modules}", "NODE_ENV=production", "node", path, str(port)]
        return [*command, redis] if redis else [*command, *flags]

    return argv


def _floor(port: int, _: str) -> list[str]:
    return [str(program("floor")), str(port)]


def _fastapi(name: str, label: str, module: str, *flags: str) -> Server:
    return Server(
        name,
        label,
        _python("ours", module, *flags),
        group="ours" if module == "ours" else "reference",
        redis="redis" in name,
        rabbitmq="rabbitmq" in name,
        deflate="--deflate" in flags,
        environment="ours",
        packages=(
            *("fastapi", "starlette", "uvicorn", "uvloop", "websockets", "redis", "hiredis"),
            *(("pamqp",) if "rabbitmq" in name else ()),
        ),
    )


def _behind_an_edge(name: str, label: str) -> Server:
    return replace(
        _fastapi(name, label, "ours"),
        argv=_python("ours", "edges", "--variant", "edge"),
        backend=_python("ours", "edges", "--variant", "backend"),
    )


def _broadcaster(name: str, label: str) -> Server:
    return Server(
        name,
        label,
        _python("broadcaster", "broadcaster_chat"),
        redis="redis" in name,
        # Two who are first in a room at once overwrite each other, and one of them hears nothing.
        in_flight=1 if "redis" in name else 100,
        environment="broadcaster",
        packages=("broadcaster", "fastapi", "uvicorn", "redis"),
    )


def _litestar(name: str, label: str) -> Server:
    return Server(
        name,
        label,
        _python("litestar", "litestar_chat"),
        redis="redis" in name,
        environment="litestar",
        packages=("litestar", "uvicorn", "redis"),
    )


def _django(name: str, label: str, variant: str = "") -> Server:
    return Server(
        name,
        label,
        _python("django", "django_chat", "--variant", variant),
        redis="redis" in name,
        environment="django",
        packages=("channels", "channels-redis", "django", "daphne", "uvicorn", "redis"),
    )


def _python_socketio(name: str, label: str) -> Server:
    return Server(
        name,
        label,
        _python("socketio", "socketio_chat"),
        redis="redis" in name,
        protocol="socketio",
        environment="socketio",
        packages=("python-socketio", "python-engineio", "uvicorn", "redis"),
    )


def _node_socketio(name: str, label: str) -> Server:
    return Server(
        name,
        label,
        _node("socketio.js"),
        redis="redis" in name,
        protocol="socketio",
        environment="node",
        packages=("socket.io", "@socket.io/redis-adapter", "redis", "ws"),
    )


_ASYNCIO = ("--loop", "asyncio")
_ASGI = ("--variant", "asgi")
_GLOBAL = ("--variant", "global")
_HISTORY = ("--variant", "history")
_BESIDE = ("--variant", "beside")
_PRESENCE = ("--variant", "presence")

_ALL = (
    Server("floor", "bare C, epoll", _floor, group="reference"),
    _fastapi("bare", "uvicorn without rooms", "bare"),
    _fastapi("bare-asyncio", "uvicorn without rooms, asyncio", "bare", *_ASYNCIO),
    _fastapi("tutorial", "FastAPI tutorial's loop", "tutorial"),
    _fastapi("tutorial-asyncio", "FastAPI tutorial's loop, asyncio", "tutorial", *_ASYNCIO),
    _fastapi("tutorial-deflate", "FastAPI tutorial's loop, compressed", "tutorial", "--deflate"),
    _fastapi("ours-memory", "fastapi_rooms", "ours"),
    _fastapi("ours-memory-asyncio", "fastapi_rooms, asyncio", "ours", *_ASYNCIO),
    _fastapi("ours-memory-asgi", "fastapi_rooms, not direct", "ours", *_ASGI),
    _fastapi("ours-memory-deflate", "fastapi_rooms, compression offered", "ours", "--deflate"),
    _fastapi("ours-memory-global", "fastapi_rooms, not by Depends", "ours", *_GLOBAL),
    _fastapi("ours-redis", "fastapi_rooms + Redis", "ours"),
    _fastapi("ours-redis-asyncio", "fastapi_rooms + Redis, asyncio", "ours", *_ASYNCIO),
    _behind_an_edge("ours-redis-edge", "fastapi_rooms + Redis, edge and backend"),
    _fastapi("ours-rabbitmq", "fastapi_rooms + RabbitMQ", "ours"),
    _fastapi("ours-redis-asgi", "fastapi_rooms + Redis, not direct", "ours", *_ASGI),
    _fastapi("ours-memory-history", "fastapi_rooms, with a history", "ours", *_HISTORY),
    _fastapi("ours-redis-history", "fastapi_rooms + Redis, with a history", "ours", *_HISTORY),
    _fastapi("ours-redis-beside", "fastapi_rooms + Redis, other rooms have one", "ours", *_BESIDE),
    _fastapi("ours-memory-presence", "fastapi_rooms, with presence", "ours", *_PRESENCE),
    _fastapi("ours-redis-presence", "fastapi_rooms + Redis, with presence", "ours", *_PRESENCE),
    _broadcaster("broadcaster-memory", "broadcaster"),
    _broadcaster("broadcaster-redis", "broadcaster + Redis"),
    _litestar("litestar-memory", "Litestar channels"),
    _litestar("litestar-redis", "Litestar channels + Redis"),
    _python_socketio("python-socketio", "python-socketio"),
    _python_socketio("python-socketio-redis", "python-socketio + Redis"),
    _django("django-memory", "Django channels"),
    _django("django-daphne", "Django channels, daphne", "daphne"),
    _django("django-redis", "Django channels + Redis, pub/sub layer"),
    _django("django-redis-core", "Django channels + Redis, core layer", "core"),
    Server("node-ws", "Node ws", _node("ws.js"), environment="node", packages=("ws",)),
    Server(
        "node-ws-deflate",
        "Node ws, compressed",
        _node("ws.js", "deflate"),
        deflate=True,
        environment="node",
        packages=("ws",),
    ),
    _node_socketio("node-socketio", "Node Socket.IO"),
    _node_socketio("node-socketio-redis", "Node Socket.IO + Redis"),
)

SERVERS_BY_NAME = {server.name: server for server in _ALL}
