"""What the fixture `people` gives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.integration.clients import Client

People = Callable[..., Awaitable[list[Client]]]
"""Connects so many people, each on the next worker."""
