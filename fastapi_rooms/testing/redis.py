"""A real Redis for tests: started, stopped, killed, frozen, and asked what it sees.

    with RedisServer() as server:
        rooms = RoomManager(server.url)

Its methods are plain functions, so that they fit a fixture of any scope. Those that take longer
than a moment (`start`, `stop`, `restart`) hold up an event loop they are called in; there, use
`async with` and `await asyncio.to_thread(server.restart)`.
"""

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from fastapi_rooms.testing.lifetime import BreakableServer
from fastapi_rooms.testing.proxy import Proxy

_START_TIMEOUT = 20.0
_PORTS = range(20_000, 32_000)
"""Below those that systems give to outgoing connections, one of which could get ours meanwhile."""

_random = random.SystemRandom()  # tests seed the other, and would all draw the same ports

_HOW_TO_GET_IT = (
    "{!r} is not installed, and these tests talk to a real Redis. Install it: "
    "`apt-get install redis-server` on Debian and Ubuntu, `dnf install redis` on Fedora, "
    "`brew install redis` on macOS; or give RedisServer(executable=…) the path of one."
)


class RedisNotInstalled(Exception):
    """There is no redis-server to start."""


class Certificates(NamedTuple):
    """Files in PEM format for a server that speaks TLS."""

    authority: Path
    certificate: Path
    key: Path


class RedisServer(BreakableServer):
    """A redis-server of one's own, with its own directory and nothing persisted.

    Args:
        password: what clients have to give (`requirepass`).
        certificates: with these it speaks TLS as well, on `tls_port`.
        arguments: further arguments of redis-server, `("--maxclients", "10")` for example.
        executable: the name or path of redis-server.

    Raises:
        RedisNotInstalled: at the start, if there is no such program; says how to get it.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        *,
        password: str | None = None,
        certificates: Certificates | None = None,
        arguments: Sequence[str] = (),
        executable: str = "redis-server",
    ) -> None:
        self._password = password
        self._certificates = certificates
        self._arguments = list(arguments)
        self._executable = executable
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None
        self._admin: redis.Redis | None = None
        self.port = 0
        self.tls_port = 0

    # Where it is.

    @property
    def url(self) -> str:
        """The `redis://` URL, with the password."""
        return self.url_of(self.host, self.port)

    def url_of(self, host: str, port: int) -> str:
        """The URL by which it is reached through a proxy at `host` and `port`."""
        login = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"redis://{login}{host}:{port}"

    @property
    def unix_url(self) -> str:
        """The `unix://` URL."""
        login = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"unix://{login}{self._path('redis.sock')}"

    @property
    def tls_url(self) -> str:
        """The `rediss://` URL, which trusts the certificates' authority only."""
        assert self._certificates is not None, "this server was given no certificates"
        url = self.url_of("localhost", self.tls_port).replace("redis:", "rediss:")
        return f"{url}?ssl_ca_certs={self._certificates.authority}"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether it was started, and neither stopped nor killed since."""
        return self._process is not None

    # Its life.

    def _set_up(self) -> None:
        self.start()

    def _tear_down(self) -> None:
        self.kill()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def start(self) -> None:
        """Start it, and return when it answers. On the old ports if it ran before."""
        if shutil.which(self._executable) is None:
            raise RedisNotInstalled(_HOW_TO_GET_IT.format(self._executable))
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="rooms-redis-"))
        again = self.port != 0
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            if not again:
                self.port, self.tls_port = free_port(), free_port()
            self._process = subprocess.Popen(  # noqa: S603 -- the test's own choice
                [self._executable, *self._settings(self._directory)],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            self._admin = self._new_admin()
            if self._wait_ready(deadline):
                return
            log = self.log()
            self.kill()
            if time.monotonic() > deadline or "Address already in use" not in log:
                raise RuntimeError(f"{self._executable} did not start:\n{log}")

    def log(self) -> str:
        """The end of what it wrote."""
        path = self._path("redis.log")
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    # What it sees.

    @property
    def admin(self) -> redis.Redis:
        """A plain, synchronous client with every right, closed with the server."""
        self._running()
        assert self._admin is not None
        return self._admin

    def command(self, *words: bytes | str) -> Any:
        """Any command, answered to `admin`."""
        return self.admin.execute_command(*words, NEVER_DECODE=True)  # type: ignore[no-untyped-call]

    def numsub(self, channel: bytes | str) -> int:
        """How many connections are subscribed to a channel (`PUBSUB NUMSUB`)."""
        return int(self.command("PUBSUB", "NUMSUB", channel)[1])

    def channels(self) -> list[bytes]:
        """The channels that anyone is subscribed to (`PUBSUB CHANNELS`)."""
        return list(self.command("PUBSUB", "CHANNELS"))

    def connections(self, kind: str = "") -> list[dict[str, str]]:
        """Who is connected, but for `admin` (`CLIENT LIST`); `kind` is `normal` or `pubsub`."""
        answer = self.command("CLIENT", "LIST", *(["TYPE", kind] if kind else []))
        lines = answer.decode().splitlines()
        clients = [dict(field.split("=", 1) for field in line.split(" ")) for line in lines]
        return [client for client in clients if client.get("name") != "rooms-admin"]

    def kill_connections(self, kind: str = "") -> int:
        """Have it close them (`CLIENT KILL`); returns how many there were."""
        clients = self.connections(kind)
        for client in clients:
            self.command("CLIENT", "KILL", "ID", client["id"])
        return len(clients)

    def calls(self, command: str) -> int:
        """How many times a command was called so far (`INFO commandstats`)."""
        statistics = self.admin.info("commandstats")
        return int(statistics.get(f"cmdstat_{command}", {}).get("calls", 0))

    # How.

    def _settings(self, directory: Path) -> Iterable[str]:  # noqa: ARG002 -- a sentinel's are there
        yield from ("--port", str(self.port), "--bind", self.host)
        yield from ("--unixsocket", "redis.sock", "--logfile", "redis.log")
        yield from ("--save", "", "--appendonly", "no")
        if self._password:
            yield from ("--requirepass", self._password)
        if self._certificates:
            yield from ("--tls-port", str(self.tls_port), "--tls-auth-clients", "no")
            yield from ("--tls-ca-cert-file", str(self._certificates.authority))
            yield from ("--tls-cert-file", str(self._certificates.certificate))
            yield from ("--tls-key-file", str(self._certificates.key))
        yield from self._arguments

    def _new_admin(self) -> redis.Redis:
        return redis.Redis(
            host=self.host,
            port=self.port,
            password=self._password,
            client_name="rooms-admin",
            socket_timeout=_START_TIMEOUT,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
        )

    def _wait_ready(self, deadline: float) -> bool:
        """Whether it comes to answer; another server that has the port already does not count."""
        process, admin = self._running(), self.admin
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if admin.info("server")["process_id"] == process.pid:
                    return True
            except redis.ConnectionError:
                pass
            time.sleep(0.005)
        return False

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        admin, self._admin = self._admin, None
        if admin is not None:
            admin.close()
        if process is None:
            return
        process.send_signal(how)
        if self._frozen:
            process.send_signal(signal.SIGCONT)
            self._frozen = False
        process.wait(_START_TIMEOUT)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("This RedisServer is not running.")
        return self._process

    def _path(self, name: str) -> Path:
        assert self._directory is not None, "this RedisServer was never started"
        return self._directory / name


class RedisProxy(Proxy):
    """A `Proxy` before a `RedisServer`, with the URL by which it is reached.

    Args:
        server: the Redis at its other end.
    """

    def __init__(self, server: RedisServer) -> None:
        super().__init__(server.host, server.port)
        self.server = server
        """The Redis at its other end."""

    @property
    def url(self) -> str:
        """The `redis://` URL through the proxy, with the server's password."""
        return self.server.url_of(self.host, self.port)


def free_port() -> int:
    """A port that nobody listens on."""
    while True:
        port = _random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((RedisServer.host, port))
            except OSError:
                continue
            return port
