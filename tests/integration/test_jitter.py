"""The browser client, many times, on networks that fail, while workers are replaced.

`python -m benchmarks --scenario jitter` is the same for longer, with more of them.
"""

from __future__ import annotations

import os
import signal

from fastapi_rooms.testing import RedisServer
from tests.integration.servers import Server, Start, uvicorn
from tests.jitter.network import clients
from tests.node import NODE

CLIENTS = 40


def test_every_client_has_everything_once_and_in_order_whatever_becomes_of_its_connections(
    start: Start, redis: RedisServer
) -> None:
    command = uvicorn(app="tests.integration.jitter_app:app")

    def worker(port: int | None = None) -> Server:
        return start(command, port, ROOMS_URL=redis.url)

    drained, killed, kept = workers = [worker() for _ in range(3)]
    for each in workers:
        each.wait_for_workers()
    with clients(
        [NODE],
        os.environ,
        path="/ws",
        ports=[drained.port, killed.port],
        senders=[kept.port, kept.port],
        clients=CLIENTS,
        every=3000,
        away=500,
        interval=50,
    ) as load:
        load.wait_until_in()
        for leaving, end in ((drained, signal.SIGTERM), (killed, signal.SIGKILL)):
            load.begin_deploy()
            leaving.stop(end)
            worker(leaving.port).wait_for_workers()
        report = load.end()
    assert report.faults == 0, report
    assert report.cuts > 0
    (deploy,) = report.deploys
    assert deploy.clients > 0
    assert drained.complaints == kept.complaints == []
