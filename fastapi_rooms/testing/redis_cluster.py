"""A real Redis Cluster for tests: its nodes killed and frozen, its slots moved.

    with RedisCluster(replicas=1) as cluster:
        rooms = RoomManager(cluster.url)

Its nodes are [RedisServer][fastapi_rooms.testing.RedisServer]s and can do what those can.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import redis

from fastapi_rooms.testing.lifetime import Lifetime
from fastapi_rooms.testing.redis import Certificates, RedisServer, free_port

SLOTS = 16_384
_TIMEOUT = 30.0
_MIGRATE_TIMEOUT = 10_000
"""Milliseconds."""


class RedisClusterNode(RedisServer):
    """One node. What it knows of the cluster survives `kill` and `start`, as on a disk."""

    bus_port = 0
    """Where the other nodes talk to it."""
    joined = False

    @property
    def id(self) -> str:
        """Its name in the cluster."""
        return str(self.command("CLUSTER", "MYID").decode())

    @property
    def client_port(self) -> int:
        """Where clients are to come to: the one for TLS if there is one."""
        return self.tls_port if self._certificates else self.port

    @property
    def running(self) -> bool:
        """Whether it has been started, and not been stopped or frozen."""
        return self._process is not None and not self._frozen

    def resume(self) -> None:
        """Have it run, whether it was frozen, killed or neither."""
        if self._frozen:
            self.thaw()
        elif self._process is None:
            self.start()

    def migrate(self, keys: Sequence[bytes], target: RedisClusterNode) -> None:
        """Hand keys over to another node (`MIGRATE`)."""
        login = ("AUTH", self._password) if self._password else ()
        to = (target.host, str(target.client_port), "", "0", str(_MIGRATE_TIMEOUT))
        self.command("MIGRATE", *to, *login, "KEYS", *keys)

    def shard_numsub(self, channel: bytes | str) -> int:
        """How many connections are subscribed to a channel here (`PUBSUB SHARDNUMSUB`)."""
        return int(self.command("PUBSUB", "SHARDNUMSUB", channel)[1])

    def knows(self, name: str) -> str:
        """A line of `CLUSTER INFO`."""
        lines = self.command("CLUSTER", "INFO").decode().splitlines()
        return str(dict(line.split(":", 1) for line in lines)[name])

    def _settings(self, directory: Path) -> Iterable[str]:
        if not self.joined:
            self.bus_port = free_port()
        yield from super()._settings(directory)
        yield from ("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf")
        yield from ("--cluster-port", str(self.bus_port))
        if self._certificates:
            yield from ("--tls-cluster", "yes", "--tls-replication", "yes")


class RedisCluster(Lifetime):
    """A Redis Cluster of one's own, its slots spread evenly over the masters.

    Args:
        masters: how many there are.
        replicas: how many each of them has.
        node_timeout: milliseconds without a word after which a node counts as failed, and a
            replica of it is promoted.
        password: what clients have to give; the nodes give it to each other.
        certificates: with these the nodes speak TLS as well, and among each other only that: `url`
            is then a `rediss+cluster://` one.
        arguments: further arguments of every redis-server.

    Raises:
        RedisNotInstalled: at the start, if there is no redis-server; says how to get it.
    """

    def __init__(
        self,
        masters: int = 3,
        *,
        replicas: int = 0,
        node_timeout: int = 5000,
        password: str | None = None,
        certificates: Certificates | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        settings = ["--cluster-node-timeout", str(node_timeout), *arguments]
        settings += ["--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"]
        if password:
            settings += ["--masterauth", password]
        self._masters = masters
        self._certificates = certificates
        self.nodes = [
            RedisClusterNode(password=password, certificates=certificates, arguments=settings)
            for _ in range(masters * (1 + replicas))
        ]
        """The masters as they were at the start, then the replicas of the first, of the second…"""

    @property
    def url(self) -> str:
        """The `redis+cluster://` URL, with the password; it names every node."""
        first, *others = ((n.host, n.client_port) for n in self.nodes)
        url = self.nodes[0].url_of(*first)
        hosts = "".join(f",{host}:{port}" for host, port in others)
        if not self._certificates:
            return f"{url.replace('redis://', 'redis+cluster://')}{hosts}"
        secured = url.replace("redis://", "rediss+cluster://")
        return f"{secured}{hosts}?ssl_ca_certs={self._certificates.authority}"

    # Its life.

    def _set_up(self) -> None:
        self.start()

    def _tear_down(self) -> None:
        for node in self.nodes:
            node._tear_down()

    def start(self) -> None:
        """Start every node, make them one cluster, and return when it is whole."""
        for node in self.nodes:
            node.start()
            node.joined = True
        masters, replicas = self.nodes[: self._masters], self.nodes[self._masters :]
        for number, master in enumerate(masters):
            first = SLOTS * number // self._masters
            last = SLOTS * (number + 1) // self._masters - 1
            master.command("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
            master.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for node in self.nodes[1:]:
            first_node = self.nodes[0]
            node.command(
                "CLUSTER",
                "MEET",
                first_node.host,
                str(first_node.client_port),
                str(first_node.bus_port),
            )
        everyone = str(len(self.nodes))
        self._wait(lambda: all(n.knows("cluster_known_nodes") == everyone for n in self.nodes))
        for number, replica in enumerate(replicas):
            master = masters[number * len(masters) // len(replicas)]
            self._wait(lambda r=replica, m=master: _replicates(r, m))  # type: ignore[misc]
        self.wait_whole()

    def restart(self) -> None:
        """Start or thaw what does not run, and return when all are one cluster again."""
        for node in self.nodes:
            node.resume()
        self.wait_whole()

    def wait_whole(self) -> None:
        """Return when every running node says that the cluster is fine, and all say the same."""
        nodes = [node for node in self.nodes if node.running]

        def whole() -> bool:
            fine = all(node.knows("cluster_state") == "ok" for node in nodes)
            return fine and len({_masters(node) for node in nodes}) == 1 and self._synchronous()

        self._wait(whole)

    # Who serves what.

    def master_of(self, channel: bytes | str) -> RedisClusterNode:
        """The node of a channel's slot, as it says itself. Raises `LookupError` for none."""
        return self._owner(self.slot_of(channel))

    def taken_over(self, master: RedisClusterNode, channel: bytes | str) -> bool:
        """Whether another running node says that it serves a channel that `master` did."""
        try:
            return self.master_of(channel) is not master
        except LookupError:
            return False

    def replica_of(self, master: RedisClusterNode) -> RedisClusterNode:
        """A node that replicates another."""
        for node in self.nodes:
            if node.running and node.admin.info("replication").get("master_port") == master.port:
                return node
        raise LookupError(f"No node replicates {master.url}.")

    def slot_of(self, channel: bytes | str) -> int:
        """The slot of a channel."""
        running = next(node for node in self.nodes if node.running)
        return int(running.command("CLUSTER", "KEYSLOT", channel))

    def move(self, slot: int, target: RedisClusterNode) -> RedisClusterNode:
        """Move a slot and its keys to another master, as `redis-cli` does; returns who had it."""
        source = self._owner(slot)
        word = ("CLUSTER", "SETSLOT", str(slot))
        target.command(*word, "IMPORTING", source.id)
        source.command(*word, "MIGRATING", target.id)
        while keys := source.command("CLUSTER", "GETKEYSINSLOT", str(slot), "100"):
            source.migrate(keys, target)
        for node in (target, source):
            node.command(*word, "NODE", target.id)
        for node in self.nodes:
            if node not in (target, source) and node.running and _is_master(node):
                node.command(*word, "NODE", target.id)
        return source

    # What all of it sees.

    def numsub(self, channel: bytes | str) -> int:
        """How many connections are subscribed to a channel, on all running nodes."""
        return sum(node.shard_numsub(channel) for node in self.nodes if node.running)

    def channels(self) -> list[bytes]:
        """The channels that anyone is subscribed to (`PUBSUB SHARDCHANNELS`), on all of them."""
        answers = (n.command("PUBSUB", "SHARDCHANNELS") for n in self.nodes if n.running)
        return [channel for answer in answers for channel in answer]

    def connections(self, kind: str = "") -> list[dict[str, str]]:
        """Who is connected to which of them, but for the tests and the nodes themselves."""
        kinds = ("N", "P") if not kind else {"normal": ("N",), "pubsub": ("P",)}[kind]
        found = [client for n in self.nodes if n.running for client in n.connections()]
        return [client for client in found if client["flags"][0] in kinds]

    # How.

    def _owner(self, slot: int) -> RedisClusterNode:
        for node in self.nodes:
            if node.running and _is_master(node) and _serves(node, slot):
                return node
        raise LookupError(f"No running node serves the slot {slot}.")

    def _synchronous(self) -> bool:
        """Whether every replica has its master's data, without which it is not promoted."""
        replications = [node.admin.info("replication") for node in self.nodes if node.running]
        return all(r.get("master_link_status", "up") == "up" for r in replications)

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _TIMEOUT
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(node.log() for node in self.nodes)
                raise RuntimeError(f"The Redis Cluster does not come up:\n{logs}")
            time.sleep(0.01)


def _replicates(replica: RedisClusterNode, master: RedisClusterNode) -> bool:
    """Whether a node takes another for its master: it has to know it as one before."""
    try:
        replica.command("CLUSTER", "REPLICATE", master.id)
    except redis.ResponseError:
        return False
    return True


def _is_master(node: RedisClusterNode) -> bool:
    return bool(node.admin.info("replication")["role"] == "master")


def _serves(node: RedisClusterNode, slot: int) -> bool:
    ranges: list[Any] = node.command("CLUSTER", "SLOTS")
    return any(first <= slot <= last and r[1] == node.port for first, last, r, *_ in ranges)


def _masters(node: RedisClusterNode) -> tuple[tuple[int, int, int], ...]:
    ranges: list[Any] = node.command("CLUSTER", "SLOTS")
    return tuple(sorted((first, last, r[1]) for first, last, r, *_ in ranges))
