"""Jobs that send: on every worker, on one, and in a process of their own."""

from __future__ import annotations

from types import ModuleType

from starlette.testclient import TestClient

from tests.docs.registry import shows


@shows("docs/howto/threads.md", "schedule.py")
def test_a_scheduled_job_sends(example: ModuleType) -> None:
    with TestClient(example.app) as client, client.websocket_connect("/clock") as ann:
        assert ann.receive_text().startswith("20")
        assert ann.receive_text().startswith("20")
