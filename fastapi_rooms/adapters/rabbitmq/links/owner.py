"""What every owner of a link to RabbitMQ has: where it leads, and how it is opened."""

from __future__ import annotations

from fastapi_rooms.adapters.rabbitmq.links.access import Access
from fastapi_rooms.adapters.rabbitmq.links.link import Link
from fastapi_rooms.adapters.rabbitmq.links.reasons import is_refused, reason_of
from fastapi_rooms.adapters.rabbitmq.links.steps import Broker, Steps


class Opening:
    """Opens links, for a `LinkOwner` that says by which steps."""

    _access: Access
    _connect_timeout: float

    async def open(self) -> Link:
        """Open a link."""
        return await Link.open(self._access, self.steps, self._connect_timeout)

    def steps(self) -> Steps[Broker]:
        """What is done when a connection is opened."""
        raise NotImplementedError

    def why_not_open(self, error: Exception) -> tuple[str, bool]:
        """Why opening a link failed, and whether RabbitMQ rejects the login, or forbids it."""
        return reason_of(error), is_refused(error)
