"""The conformance suite, bound to RabbitMQ."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fastapi_rooms import RabbitMQAdapter
from fastapi_rooms.testing import eventually
from fastapi_rooms.testing.rabbitmq import RabbitMQServer
from fastapi_rooms.testing.suite import AdapterSuite, ManagerSuite
from tests.conformance.silence import SilenceSuite
from fastapi_rooms.adapters.rabbitmq.pubsub.messages import key_of

class RabbitMQBackplane:
    def __init__(self, server: RabbitMQServer, vhost: str) -> None:
        self._server, self._vhost = server, vhost

    def adapter(self) -> RabbitMQAdapter:
        server = self._server
        return RabbitMQAdapter(server.url_of(server.host, server.port, vhost=self._vhost))

    async def subscribers(self, channel: bytes) -> int:
        return self._server.bindings(key_of(channel), "rooms", self._vhost)


@pytest.fixture(scope="session")
def rabbitmq_server():
    with RabbitMQServer() as s:
        yield s

@pytest.fixture(scope="module")
def vhost(rabbitmq_server):
    with rabbitmq_server.vhost() as v:
        yield v

@pytest.fixture
async def backplane(rabbitmq_server, vhost):
    yield RabbitMQBackplane(rabbitmq_server, vhost)
    await eventually(lambda: rabbitmq_server.queues(vhost) == [], what="no queue is left")

class TestRabbitMQAdapter(AdapterSuite):
    """Adapters on one RabbitMQ."""


class TestRabbitMQManager(ManagerSuite):
    """Managers on one RabbitMQ."""


class TestRabbitMQSilence(SilenceSuite):
    """Workers that do not answer, on one RabbitMQ."""
