"""A master, a replica and three sentinels for tests: failed over, killed, frozen and restored.

    with SentinelServers() as servers:
        rooms = RoomManager(servers.url)

Its methods are plain functions, as those of `RedisServer` are; `failover`, `elected` and `restore`
take seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import redis

from fastapi_rooms.testing.lifetime import Lifetime
from fastapi_rooms.testing.redis import Certificates, RedisServer

T = TypeVar("T")

_TIMEOUT = 30.0
_QUORUM = 2


class SentinelServers(Lifetime):
    """Two Redis, one the replica of the other, and three sentinels that watch over them.

    Args:
        down_after: seconds without an answer after which a sentinel calls a server down.
        password: what clients have to give to the two Redis.
        sentinel_password: what they have to give to the sentinels.
        certificates: with these the two Redis speak TLS as well, and the sentinels send clients
            there: `url` is then a `rediss+sentinel://` one.

    Raises:
        RedisNotInstalled: at the start, if there is no redis-server; says how to get it.
    """

    name = "mymaster"

    def __init__(
        self,
        *,
        down_after: float = 1.0,
        password: str | None = None,
        sentinel_password: str | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self._down_after = down_after
        self._password = password
        self._sentinel_password = sentinel_password
        self._certificates = certificates
        self._stack = ExitStack()
        self.nodes: list[RedisServer] = []
        """The two Redis, the first of which began as the master."""
        self.sentinels: list[RedisServer] = []

    # Where they are.

    @property
    def url(self) -> str:
        """The `redis+sentinel://` URL, with the passwords."""
        login = f":{quote(self._password, safe='')}@" if self._password else ""
        hosts = ",".join(f"{server.host}:{server.port}" for server in self.sentinels)
        options = []
        if self._sentinel_password:
            options.append(f"sentinel_password={quote(self._sentinel_password, safe='')}")
        if self._certificates:
            options.append(f"ssl_ca_certs={self._certificates.authority}")
        scheme = "rediss+sentinel" if self._certificates else "redis+sentinel"
        return f"{scheme}://{login}{hosts}/{self.name}{'?' * bool(options)}{'&'.join(options)}"

    @property
    def master(self) -> RedisServer:
        """The present master, as far as the sentinels agree; `elected` waits until they do."""
        told = [self._told(sentinel) for sentinel in self.sentinels if sentinel.is_running]
        agreed = [node for node in self.nodes if told.count(self._port(node)) >= _QUORUM]
        if not agreed:
            raise RuntimeError(f"The sentinels do not agree on a master: {told}")
        return agreed[0]

    @property
    def replica(self) -> RedisServer:
        """The other one."""
        return next(node for node in self.nodes if node is not self.master)

    def connections(self) -> list[dict[str, str]]:
        """The connections of clients to any of the servers; not those they have to each other."""
        return [
            client
            for server in (*self.nodes, *self.sentinels)
            for client in server.connections()
            if not client["name"].startswith("sentinel-") and not {"S", "M"} & set(client["flags"])
        ]

    def numsub(self, channel: bytes | str) -> int:
        """How many connections are subscribed to a channel, on the master."""
        return self.master.numsub(channel)

    # Their life.

    def _tear_down(self) -> None:
        self._stack.close()

    def failover(self) -> RedisServer:
        """Have the replica made the master while that is alive; return the new master.

        The old one goes on as if it were a master still, for ten seconds or so: until the sentinels
        have seen it a few times and make it a replica.
        """
        old = self.master
        self.sentinels[0].command("SENTINEL", "FAILOVER", self.name)
        return self.elected(instead_of=old)

    def kill_master(self) -> RedisServer:
        """Kill the master; return it. `elected` waits for the other to take its place."""
        old = self.master
        old.kill()
        return old

    def elected(self, *, instead_of: RedisServer) -> RedisServer:
        """Wait until the sentinels agree on another master, and return it."""

        def another() -> RedisServer | None:
            told = [self._told(sentinel) for sentinel in self.sentinels if sentinel.is_running]
            others = [node for node in self.nodes if node is not instead_of]
            return next((node for node in others if told.count(self._port(node)) >= _QUORUM), None)

        return _wait_for(another, "another master")

    def restore(self) -> None:
        """Start what was killed, thaw what was frozen, and wait until all is well again."""
        for server in (*self.nodes, *self.sentinels):
            if not server.is_running:
                server.start()
            elif server.is_frozen:
                server.thaw()
        master = self.master
        for node in self.nodes:
            if node is not master:
                node.command("REPLICAOF", master.host, str(self._port(master)))
        _wait_for(self._is_well, "all servers to be well")

    # How.

    def _set_up(self) -> None:
        tls = ("--tls-replication", "yes") if self._certificates else ()
        auth = ("--masterauth", self._password) if self._password else ()
        quick = ("--repl-diskless-sync-delay", "0", "--repl-timeout", "5")
        for _ in range(2):
            node = RedisServer(
                password=self._password,
                certificates=self._certificates,
                arguments=(*tls, *auth, *quick),
            )
            self.nodes.append(self._stack.enter_context(node))
        master, replica = self.nodes
        replica.command("REPLICAOF", master.host, str(self._port(master)))
        _wait_for(self._replicates, "the replica to be in step")
        for _ in range(3):
            sentinel = _Sentinel(
                self._settings(master),
                password=self._sentinel_password,
                tls=self._certificates is not None,
            )
            self.sentinels.append(self._stack.enter_context(sentinel))
        _wait_for(self._is_well, "the sentinels to know each other")

    def _settings(self, master: RedisServer) -> Sequence[str]:
        lines = [f"monitor {self.name} {master.host} {self._port(master)} {_QUORUM}"]
        if self._password:
            lines.append(f'auth-pass {self.name} "{self._password}"')
        lines.append(f"down-after-milliseconds {self.name} {int(self._down_after * 1000)}")
        lines.append(f"failover-timeout {self.name} 3000")
        if self._sentinel_password:
            lines.append(f'sentinel-pass "{self._sentinel_password}"')
        settings = [f"sentinel {line}" for line in lines]
        if self._certificates:
            settings += [
                "tls-replication yes",
                "tls-auth-clients no",
                f"tls-ca-cert-file {self._certificates.authority}",
            ]
            settings += [f"tls-cert-file {self._certificates.certificate}"]
            settings += [f"tls-key-file {self._certificates.key}"]
        return settings

    def _port(self, node: RedisServer) -> int:
        return node.tls_port if self._certificates else node.port

    def _told(self, sentinel: RedisServer) -> int:
        """The port of the master, as a sentinel says."""
        return int(sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)[1])

    def _replicates(self) -> bool:
        """Whether the others are in step with the master, or with the first one at the start."""
        master = self.master if self.sentinels else self.nodes[0]
        others: list[dict[str, Any]] = [
            node.admin.info("replication") for node in self.nodes if node is not master
        ]
        return all(
            info["role"] == "slave"
            and info["master_port"] == self._port(master)
            and info["master_link_status"] == "up"
            for info in others
        )

    def _is_well(self) -> bool:
        if not self._replicates():
            return False
        for sentinel in self.sentinels:
            sentinel.command("SENTINEL", "CKQUORUM", self.name)  # raises if they are too few
            reply = sentinel.command("SENTINEL", "MASTER", self.name)
            state = dict(zip(reply[::2], reply[1::2], strict=True))
            replicas = sentinel.command("SENTINEL", "REPLICAS", self.name)
            known = [dict(zip(r[::2], r[1::2], strict=True)) for r in replicas]
            if (
                state[b"flags"] != b"master"
                or int(state[b"port"]) != self._port(self.master)
                or int(state[b"num-other-sentinels"]) != len(self.sentinels) - 1
                or [r[b"flags"] for r in known] != [b"slave"] * (len(self.nodes) - 1)
            ):
                return False
        return True


class _Sentinel(RedisServer):
    """A sentinel: a redis-server that keeps its settings in a file, which it writes itself."""

    def __init__(self, settings: Sequence[str], *, password: str | None, tls: bool) -> None:
        super().__init__(password=password)
        self._tls = tls
        self._sentinel_settings = settings

    def _settings(self, directory: Path) -> Iterable[str]:
        file = directory / "sentinel.conf"
        if not file.exists():  # else it is started again, and knows more than at first
            lines = [f"port {self.port}", f"bind {self.host}", "logfile sentinel.log"]
            if self._tls:  # for the other sentinels
                lines.append(f"tls-port {self.tls_port}")
            if self._password:
                lines.append(f'requirepass "{self._password}"')
            file.write_text("\n".join([*lines, *self._sentinel_settings, ""]))
        yield from (str(file), "--sentinel")


def _wait_for(condition: Callable[[], T | None], what: str) -> T:
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            if value := condition():
                return value
        except (redis.RedisError, RuntimeError):
            pass  # one of them is not there yet
        if time.monotonic() > deadline:
            raise RuntimeError(f"Waited {_TIMEOUT} s for {what}.")
        time.sleep(0.02)
