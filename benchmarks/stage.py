"""A server on stage: its processes, its Redis or RabbitMQ, and the load before it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Self

from benchmarks.load import HEADER_BYTES, Load
from benchmarks.messages import texts_of
from benchmarks.processes import CORES, Running, free_port, start_rabbitmq, start_redis
from benchmarks.scenarios import Entry


class Stage:
    """One server of one scenario, for the time of a `with` block; it is being started in it."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.scenario = entry.scenario
        self.workers: list[Running] = []
        self.backends: list[Running] = []
        """What runs the endpoints, where the workers only hold the clients."""
        self._redis: Running | None = None
        self._rabbitmq: Running | None = None
        self._load: Load | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        server = self.entry.server
        with self._stack:
            if server.redis:
                self._redis = self._stack.enter_context(start_redis())
            if server.rabbitmq:
                self._rabbitmq = self._stack.enter_context(start_rabbitmq())
            url = self._url()
            for _ in range(self.scenario.workers):
                port = free_port()
                worker = Running(server.argv(port, url), port, CORES.server)
                self.workers.append(self._stack.enter_context(worker))
            if server.backend is not None:
                self.start_backend()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start_backend(self) -> Running:
        """Start another backend."""
        argv = self.entry.server.backend
        assert argv is not None, "it has none"
        port = free_port()
        backend = Running(argv(port, self._url()), port, CORES.server)
        self.backends.append(self._stack.enter_context(backend))
        return backend

    def _url(self) -> str:
        """Where its workers meet."""
        if self._rabbitmq is not None:
            return f"amqp://127.0.0.1:{self._rabbitmq.port}"
        return f"redis://127.0.0.1:{self._redis.port}" if self._redis is not None else ""

    def wait_until_up(self) -> None:
        """Wait until its workers listen, and bring in the load."""
        server = self.entry.server
        for process in (*self.workers, *self.backends):
            process.wait_until_listening()
        self._load = self._stack.enter_context(
            Load(
                protocol=server.protocol,
                path=server.path,
                deflate=server.deflate,
                rooms=self.scenario.rooms,
                room_size=self.scenario.room_size,
                payload=self.scenario.payload,
                texts=texts_of(self.scenario.messages, self.scenario.payload - HEADER_BYTES),
                counted=[process.pid for process in (*self.workers, *self.backends)],
                watched=[at.pid for at in (self._redis, self._rabbitmq) if at is not None],
            )
        )

    @property
    def redis(self) -> Running:
        """Its Redis."""
        assert self._redis is not None, "it has none"
        return self._redis

    @property
    def load(self) -> Load:
        assert self._load is not None, "not up yet"
        return self._load

    def fill(self) -> None:
        """Connect every member, as many to each worker."""
        each = self.scenario.members // self.scenario.workers
        for worker in self.workers:
            sample = self.load.open(worker.port, each, self.entry.server.in_flight)
            if sample.dropped:
                raise RuntimeError(f"{sample.dropped} members did not get in:\n{worker.log()}")


def raise_curtain(entries: Iterable[Entry], stack: ExitStack, *, fill: bool) -> dict[str, Stage]:
    """Start servers together; one that cannot be started is told of, and left out."""
    stages = {entry.name: stack.enter_context(Stage(entry)) for entry in entries}
    for name, stage in list(stages.items()):
        try:
            stage.wait_until_up()
            if fill:
                stage.fill()
        except RuntimeError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            del stages[name]
    return stages
