"""A real RabbitMQ for tests: started, stopped, killed, frozen, and asked what it sees.

    with RabbitMQServer() as server:
        rooms = RoomManager(server.url)

It starts in four to eight seconds and takes 135 MiB, so start one for many tests; `vhost` gives
each test a virtual host of its own. What asks it something (`bindings`, `connections`, `evaluate`)
goes through Erlang's own shell, for which one more program stays open: a millisecond each.

Its methods are plain functions, as those of `RedisServer`. Those that take longer than a moment
(`start`, `stop`, `restart`) hold up an event loop they are called in; there, use `async with` and
`await asyncio.to_thread(server.restart)`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from fastapi_rooms.testing.lifetime import BreakableServer
from fastapi_rooms.testing.proxy import Proxy
from fastapi_rooms.testing.rabbitmq_operator import RabbitMQOperator
from fastapi_rooms.testing.rabbitmq_shell import ErlangShell
from fastapi_rooms.testing.redis import Certificates, free_port

_START_TIMEOUT = 90.0
_END_TIMEOUT = 15.0
_PLACES = ("/usr/lib/rabbitmq/bin", "/opt/homebrew/sbin", "/usr/local/sbin")
"""Where the programs themselves are: Debian's on PATH insist on another user."""

_HOW_TO_GET_IT = (
    "RabbitMQ is not installed, and these tests talk to a real one. Install it: "
    "`apt-get install rabbitmq-server` on Debian and Ubuntu, `dnf install rabbitmq-server` on "
    "Fedora, `brew install rabbitmq` on macOS; or give RabbitMQServer(executable=…) the path of "
    "one."
)


class RabbitMQNotInstalled(Exception):
    """There is no rabbitmq-server to start."""


class RabbitMQServer(BreakableServer, RabbitMQOperator):
    """A rabbitmq-server of one's own, for any user, with its own directory.

    It listens on loopback only, also Erlang's port mapper (epmd), which ends with it.

    Args:
        certificates: with these it speaks TLS as well, on `tls_port`.
        settings: further lines of its `rabbitmq.conf`.
        executable: the path of rabbitmq-server; beside it is rabbitmqctl.

    Raises:
        RabbitMQNotInstalled: at the start, if there is no such program; says how to get it.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        *,
        certificates: Certificates | None = None,
        settings: Sequence[str] = (),
        executable: str | None = None,
    ) -> None:
        self._certificates = certificates
        self._settings = list(settings)
        self._executable = executable
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None
        self._shell: ErlangShell | None = None
        self._frozen = False
        self._pid = 0
        self.port = 0
        self.tls_port = 0
        self._ports: tuple[int, int] = (0, 0)

    # Where it is.

    @property
    def url(self) -> str:
        """The `amqp://` URL of the virtual host `/`."""
        return self.url_of(self.host, self.port)

    def url_of(self, host: str, port: int, *, user: str = "guest", vhost: str = "/") -> str:
        """The URL by which it is reached through a proxy at `host` and `port`."""
        login = quote(user, safe="")
        return f"amqp://{login}:{login}@{host}:{port}/{quote(vhost, safe='')}"

    @property
    def tls_url(self) -> str:
        """The `amqps://` URL, which trusts the certificates' authority only."""
        assert self._certificates is not None, "this server was given no certificates"
        url = self.url_of("localhost", self.tls_port).replace("amqp:", "amqps:")
        return f"{url}?cafile={self._certificates.authority}"

    @property
    def pid(self) -> int:
        """The process id of its Erlang machine."""
        self._check_running()
        return self._pid

    @property
    def is_running(self) -> bool:
        """Whether it was started, and neither stopped nor killed since."""
        return self._process is not None

    @property
    def is_there(self) -> bool:
        """Whether it runs, and is not frozen."""
        return self.is_running and not self._frozen

    # Its life.

    def _set_up(self) -> None:
        self.start()

    def _tear_down(self) -> None:
        self.kill()
        if self._directory is not None:
            self._end_port_mapper()
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def start(self) -> None:
        """Start it, and return when it takes logins. On the old ports if it ran before."""
        program = self._program()
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="rooms-rabbitmq-"))
            self.port, self.tls_port = free_port(), free_port()
            self._ports = free_port(), free_port()
        self._write_settings(self._directory)
        self._path("pid").unlink(missing_ok=True)
        self._process = subprocess.Popen(  # noqa: S603 -- the test's own choice
            [program],
            cwd=self._directory,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if not self._wait_ready(time.monotonic() + _START_TIMEOUT):
            log = self.log()
            self.kill()
            raise RuntimeError(f"{program} did not start:\n{log}")

    def log(self) -> str:
        """The end of what it wrote."""
        path = self._path("log") / "r.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    # What an operator does.

    def evaluate(self, expression: str) -> str:
        """The value of an Erlang expression in it, as text."""
        self._check_running()
        if self._shell is None:
            self._shell = ErlangShell(self._nodename, self._environment(), self._cookie())
        return self._shell.evaluate(expression)

    # How.

    @property
    def _nodename(self) -> str:
        return f"rooms{self.port}@localhost"

    def _program(self) -> str:
        if self._executable is not None:
            found = shutil.which(self._executable)
        else:
            found = next(
                (
                    path
                    for place in _PLACES
                    if (path := shutil.which("rabbitmq-server", path=place))
                ),
                None,
            ) or shutil.which("rabbitmq-server")
        if found is None:
            raise RabbitMQNotInstalled(_HOW_TO_GET_IT)
        return found

    def _environment(self) -> dict[str, str]:
        home = str(self._path("."))
        distribution, mapper = self._ports
        return {
            **os.environ,
            "HOME": home,
            "LC_ALL": "C.UTF-8",
            "RABBITMQ_NODENAME": self._nodename,
            "RABBITMQ_NODE_IP_ADDRESS": self.host,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": self.host,
            "RABBITMQ_MNESIA_BASE": f"{home}/mnesia",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            "RABBITMQ_LOGS": f"{home}/log/r.log",
            "RABBITMQ_PID_FILE": f"{home}/pid",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/enabled_plugins",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}"
            ),
        }

    def _write_settings(self, directory: Path) -> None:
        for name in ("mnesia", "log"):
            (directory / name).mkdir(exist_ok=True)
        (directory / "enabled_plugins").write_text("[].")
        lines = ["loopback_users = none", "log.file.level = warning"]
        if self._certificates is not None:
            lines += [
                f"listeners.ssl.1 = {self.host}:{self.tls_port}",
                f"ssl_options.cacertfile = {self._certificates.authority}",
                f"ssl_options.certfile = {self._certificates.certificate}",
                f"ssl_options.keyfile = {self._certificates.key}",
                "ssl_options.verify = verify_none",
            ]
        text = "\n".join([*lines, *self._settings, ""])
        (directory / "rabbitmq.conf").write_text(text)

    def _wait_ready(self, deadline: float) -> bool:
        """Whether it comes to speak AMQP."""
        process = self._process
        assert process is not None
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection((self.host, self.port), 1) as probe:
                probe.settimeout(5)
                probe.sendall(b"AMQP\x00\x00\x09\x01")
                if probe.recv(1) == b"\x01":
                    self._pid = int(self._path("pid").read_text())
                    return True
            time.sleep(0.02)
        return False

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        shell, self._shell = self._shell, None
        if shell is not None:
            shell.close()
        if process is None and not self._pid:
            return
        if process is None:  # another process has started it
            with suppress(ProcessLookupError):
                os.kill(self._pid, how)
            deadline = time.monotonic() + _END_TIMEOUT
            while process_lives(self._pid) and time.monotonic() < deadline:
                time.sleep(0.02)
            self._pid = 0
            return
        # The script that was started waits for the Erlang machine, and takes note of its end.
        for pid in (self._pid or self._started_pid(process.pid), process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, how)
                if self._frozen:
                    os.kill(pid, signal.SIGCONT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_START_TIMEOUT if pid == process.pid else _END_TIMEOUT)
                break
        self._frozen, self._pid = False, 0

    def _started_pid(self, process_id: int) -> int:
        """The Erlang machine of a start that has not come to its end."""
        try:
            return int(self._path("pid").read_text())
        except (OSError, ValueError):
            return process_id

    def _end_port_mapper(self) -> None:
        """End epmd, which takes a moment to see that no node needs it any more."""
        program, deadline = shutil.which("epmd"), time.monotonic() + _END_TIMEOUT
        while program is not None and time.monotonic() < deadline:
            ended = subprocess.run(  # noqa: S603 -- Erlang's own
                [program, "-kill"],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=_END_TIMEOUT,
            )
            if b"not allowed" not in ended.stdout + ended.stderr:
                return
            time.sleep(0.02)

    def _cookie(self) -> str:
        return (self._path(".erlang.cookie")).read_text().strip()

    def _check_running(self) -> None:
        if not self.is_running:
            raise RuntimeError("This RabbitMQServer is not running.")

    def _path(self, name: str) -> Path:
        assert self._directory is not None, "this RabbitMQServer was never started"
        return self._directory / name


class RabbitMQProxy(Proxy):
    """A `Proxy` before a `RabbitMQServer`, with the URL by which it is reached.

    Args:
        server: the RabbitMQ at its other end.
        vhost: the virtual host of the URL.
    """

    def __init__(self, server: RabbitMQServer, vhost: str = "/") -> None:
        super().__init__(server.host, server.port)
        self.server = server
        """The RabbitMQ at its other end."""
        self._vhost = vhost

    @property
    def url(self) -> str:
        """The `amqp://` URL through the proxy."""
        return self.server.url_of(self.host, self.port, vhost=self._vhost)


def process_lives(pid: int) -> bool:
    """Whether there is such a process, and it is more than a zombie."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True
