"""The conformance suite, bound to RabbitMQ."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from fastapi_rooms import RabbitMQAdapter
from fastapi_rooms.adapters.rabbitmq.pubsub.messages import key_of
from fastapi_rooms.testing import RabbitMQServer, eventually
from fastapi_rooms.testing.suite import AdapterSuite, ManagerSuite
from tests.conformance.backplanes import nobody_is_slow_to_greet
from tests.conformance.silence import SilenceSuite


class RabbitMQBackplane:
    """A virtual host, and a way for adapters to reach it."""

    def __init__(self, server: RabbitMQServer, vhost: str) -> None:
        self._server = server
        self._vhost = vhost

    def adapter(self) -> RabbitMQAdapter:
        server = self._server
        url = server.url_of(server.host, server.port, vhost=self._vhost)
        return RabbitMQAdapter(url)

    async def subscribers(self, channel: bytes) -> int:
        return self._server.bindings(key_of(channel), "rooms", self._vhost)


@pytest.fixture(scope="module")
def vhost(rabbitmq_server: RabbitMQServer) -> Iterator[str]:
    """A virtual host of this process."""
    with rabbitmq_server.vhost() as name:
        yield name


@pytest.fixture
async def backplane(
    rabbitmq_server: RabbitMQServer, vhost: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RabbitMQBackplane]:
    nobody_is_slow_to_greet(monkeypatch)
    yield RabbitMQBackplane(rabbitmq_server, vhost)
    await eventually(lambda: rabbitmq_server.queues(vhost) == [], what="no queue is left")


class TestRabbitMQAdapter(AdapterSuite):
    """Adapters on one RabbitMQ."""


class TestRabbitMQManager(ManagerSuite):
    """Managers on one RabbitMQ."""


class TestRabbitMQSilence(SilenceSuite):
    """Workers that do not answer, on one RabbitMQ.

    It does not say how many get what goes to all workers. So one of which nobody has heard yet is
    not waited for, as the pages say.
    """

    test_one_that_never_said_that_it_is_there_is_waited_for = None  # type: ignore[assignment]
