"""One RabbitMQ for the processes of a test run: it takes seconds to start."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi_rooms.testing.rabbitmq import RabbitMQServer, process_lives
from fastapi_rooms.testing.redis import Certificates

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
            users = [pid for pid in state.get("users", ()) if process_lives(pid)]
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
            users = [pid for pid in state["users"] if pid != os.getpid() and process_lives(pid)]
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
        import fcntl  # not on Windows, where RedisServer and the like are not tried either

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
