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

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi_rooms.testing.lifetime import Lifetime
from fastapi_rooms.testing.proxy import Proxy
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


class RabbitMQServer(Lifetime):
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
        self._shell: _Shell | None = None
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
    def is_frozen(self) -> bool:
        """Whether it is held by `freeze`."""
        return self._frozen

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

    def stop(self) -> None:
        """End it as an operator does, with SIGTERM; it closes its connections."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, with SIGKILL. Harmless when it does not run."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it and start it again, on the same ports; what is durable is there again."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Hold it with SIGSTOP: connections stay up, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)
        self._frozen = False

    def log(self) -> str:
        """The end of what it wrote."""
        path = self._path("log") / "r.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    # What it sees, and what an operator does.

    def evaluate(self, expression: str) -> str:
        """The value of an Erlang expression in it, as text."""
        self._check_running()
        if self._shell is None:
            self._shell = _Shell(self._nodename, self._environment(), self._cookie())
        return self._shell.evaluate(expression)

    def bindings(self, key: bytes, exchange: str = "rooms", vhost: str = "/") -> int:
        """How many queues are bound to an exchange by a routing key."""
        source = f"{{resource,{_binary(vhost)},exchange,{_binary(exchange)}}}"
        return int(
            self.evaluate(
                f"length([x || B <- rabbit_binding:list_for_source({source}), "
                f"element(3, B) =:= {_bytes(key)}])"
            )
        )

    def queues(self, vhost: str = "/") -> list[str]:
        """The names of the queues."""
        names = self.evaluate(
            "[binary_to_list(element(4, element(2, Q))) || "
            f"Q <- rabbit_amqqueue:list({_binary(vhost)})]"
        )
        return names.strip("[]").replace('"', "").split(",") if names != "[]" else []

    def connections(self, vhost: str = "/") -> int:
        """How many connections there are to a virtual host."""
        return int(self.evaluate(f"length({_connections_to(vhost)})"))

    def close_connections(self, vhost: str = "/", reason: str = "closed by the test") -> int:
        """Have it close them, as `rabbitmqctl close_all_connections` does; returns how many."""
        return int(
            self.evaluate(
                f"begin C = {_connections_to(vhost)}, "
                f'[rabbit_networking:close_connection(P, "{reason}") || P <- C], length(C) end'
            )
        )

    def delete_queue(self, name: str, vhost: str = "/") -> None:
        """Delete a queue, as an operator does."""
        resource = f"{{resource,{_binary(vhost)},queue,{_binary(name)}}}"
        self.evaluate(
            f"begin {{ok, Q}} = rabbit_amqqueue:lookup({resource}), "
            "rabbit_amqqueue:delete_immediately([element(5, Q)]) end"
        )

    @contextmanager
    def memory_alarm(self) -> Iterator[None]:
        """For a `with` block: it has less memory than it wants, and takes nothing."""
        alarm = "{{resource_limit, memory, node()}, []}"
        self.evaluate(f"rabbit_alarm:set_alarm({alarm})")
        try:
            yield
        finally:
            if self.is_running and not self.is_frozen:
                self.evaluate("rabbit_alarm:clear_alarm({resource_limit, memory, node()})")

    @contextmanager
    def vhost(self) -> Iterator[str]:
        """For a `with` block: a virtual host of its own, in which the user guest may do all."""
        name = f"v{secrets.token_hex(6)}"
        self.evaluate(f'rabbit_vhost:add({_binary(name)}, <<"test">>)')
        self.permit(name)
        try:
            yield name
        finally:
            if self.is_running and not self.is_frozen:
                self.evaluate(f'rabbit_vhost:delete({_binary(name)}, <<"test">>)')

    def permit(
        self,
        vhost: str = "/",
        *,
        user: str = "guest",
        configure: str = ".*",
        write: str = ".*",
        read: str = ".*",
    ) -> None:
        """Set what a user may do (`rabbitmqctl set_permissions`)."""
        words = (user, vhost, configure, write, read)
        arguments = ", ".join(map(_binary, words))
        self.evaluate(f'rabbit_auth_backend_internal:set_permissions({arguments}, <<"test">>)')

    def add_user(self, name: str) -> None:
        """Have another user, whose password is its name and who may do nothing yet."""
        self.evaluate(
            f'rabbit_auth_backend_internal:add_user({_binary(name)}, {_binary(name)}, <<"test">>)'
        )

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
            while _lives(self._pid) and time.monotonic() < deadline:
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


_LEFT_TO_OTHERS: list[subprocess.Popen[bytes]] = []
"""What others use still. Python warns of a program that goes on and that nobody holds."""


class SharedRabbitMQServer(RabbitMQServer):
    """One RabbitMQ for several processes, those of pytest-xdist for example.

    Who comes first starts it, who leaves last ends it. Nobody may harm it; each can have a virtual
    host of its own.

    Args:
        place: a directory that these processes share, and no others.
        certificates: as of `RabbitMQServer`; those of whoever starts it are taken.
    """

    def __init__(self, place: Path, *, certificates: Certificates | None = None) -> None:
        super().__init__(certificates=certificates)
        self._place = place
        self._is_attached = False

    def _set_up(self) -> None:
        with self._locked() as state:
            users = [pid for pid in state.get("users", ()) if _lives(pid)]
            if not users:
                state.clear()
                self.start()
                files = self._certificates
                state["server"] = [str(self._path(".")), self.port, self.tls_port, *self._ports]
                state["pid"] = self._pid
                state["certificates"] = None if files is None else [str(path) for path in files]
            directory, self.port, self.tls_port, *ports = state["server"]
            self._directory, self._ports = Path(directory), (ports[0], ports[1])
            self._pid, files = state["pid"], state["certificates"]
            self._certificates = None if files is None else Certificates(*map(Path, files))
            state["users"] = [*users, os.getpid()]
            self._is_attached = True

    def _tear_down(self) -> None:
        if not self._is_attached:
            super()._tear_down()
            return
        with self._locked() as state:
            self._is_attached = False
            users = [pid for pid in state["users"] if pid != os.getpid() and _lives(pid)]
            state["users"] = users
            if not users:
                super()._tear_down()
                return
            if self._process is not None:
                _LEFT_TO_OTHERS.append(self._process)
                self._process = None
            if self._shell is not None:
                self._shell.close()
                self._shell = None

    @property
    def is_running(self) -> bool:
        """Whether it is there for this process."""
        return self._is_attached or super().is_running

    @contextmanager
    def _locked(self) -> Iterator[dict[str, Any]]:
        """What the processes know of it; what is changed is kept."""
        self._place.mkdir(parents=True, exist_ok=True)
        state = self._place / "state.json"
        with (self._place / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = json.loads(state.read_text()) if state.exists() else {}
            yield known
            state.write_text(json.dumps(known))


def place_of_the_run(base: Path) -> Path:
    """A directory for a `SharedRabbitMQServer`, shared by the processes of one run of pytest.

    Args:
        base: pytest's `tmp_path_factory.getbasetemp()`.
    """
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "rabbitmq"


class _Shell:
    """An Erlang of its own beside the broker, which has expressions evaluated there.

    `rabbitmqctl eval` does the same, and takes half a second each time.
    """

    _PROGRAM = (
        "Node = list_to_atom(lists:nth(1, init:get_plain_arguments())), "
        "Loop = fun(Self) -> case io:get_line('') of eof -> init:stop(); Line -> "
        "{ok, Tokens, _} = erl_scan:string(Line), {ok, Parsed} = erl_parse:parse_exprs(Tokens), "
        "Answer = case rpc:call(Node, erl_eval, exprs, [Parsed, []], 30000) of "
        '{value, Value, _} -> io_lib:format("ok ~1000000p", [Value]); '
        'Error -> io_lib:format("error ~1000000p", [Error]) end, '
        'io:put_chars([re:replace(Answer, "\\\\s*\\n\\\\s*", "", [global]), $\\n]), Self(Self) '
        "end end, Loop(Loop)."
    )

    def __init__(self, node: str, environment: dict[str, str], cookie: str) -> None:
        erl = shutil.which("erl")
        assert erl is not None, "RabbitMQ runs, so Erlang is here"
        name = f"ask{secrets.token_hex(4)}@localhost"
        arguments = ["-noshell", "-hidden", "-sname", name, "-setcookie", cookie]
        arguments += ["+S", "1:1", "+sbwt", "none", "-kernel", "inet_dist_use_interface"]
        arguments += ["{127,0,0,1}", "-eval", self._PROGRAM, "-extra", node]
        self._process = subprocess.Popen(  # noqa: S603 -- Erlang's own
            [erl, *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )

    def evaluate(self, expression: str) -> str:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{expression}.\n")
        stdin.flush()
        kind, _, value = stdout.readline().rstrip("\n").partition(" ")
        if kind != "ok":
            raise RuntimeError(f"RabbitMQ could not evaluate {expression}: {value}")
        return value

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


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


def _connections_to(vhost: str) -> str:
    """Those to a virtual host, as an Erlang expression."""
    return (
        "[P || [{pid, P}, {vhost, V}] <- rabbit_networking:connection_info_all([pid, vhost]), "
        f"V =:= {_binary(vhost)}]"
    )


def _lives(pid: int) -> bool:
    """Whether there is such a process, and it is more than a zombie."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def _binary(text: str) -> str:
    """Text as a binary of Erlang's."""
    return _bytes(text.encode())


def _bytes(data: bytes) -> str:
    return f"<<{','.join(map(str, data))}>>"
