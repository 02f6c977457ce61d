"""Notifications, who is online, typing: one user, several tabs, several workers."""

from __future__ import annotations

from types import ModuleType

from starlette.testclient import TestClient, WebSocketTestSession

from tests.docs.registry import shows
from tests.integration.servers import wait_until


@shows("docs/howto/authentication.md", "notify.py")
def test_one_user_has_several_tabs(example: ModuleType) -> None:
    def tab(session: str) -> WebSocketTestSession:
        return client.websocket_connect("/notifications", headers={"cookie": f"session={session}"})

    with (
        TestClient(example.app) as client,
        tab("s3cret") as first,
        tab("s3cret") as second,
        tab("pa55") as bob,
    ):
        wait_until(lambda: len(example.rooms.rooms.get("user:ann", ())) == 2)
        assert client.post("/users/ann/notify?text=hello").json() == 2
        assert client.post("/users/bob/notify?text=bye").json() == 1
        assert client.post("/users/cem/notify?text=hello").json() == 0
        for session, text in ((first, "hello"), (second, "hello"), (bob, "bye")):
            assert session.receive_json() == {"notification": text}
