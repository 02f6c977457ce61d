"""The page about channels says what the edge understands, and says."""

from __future__ import annotations

import json
import re

from fastapi_rooms.core.link import MESSAGE_BYTES
from fastapi_rooms.servers.mux import channel
from fastapi_rooms.servers.mux import connection as connections
from fastapi_rooms.wire import mux as wire
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs/reference/channels.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\{.+?\})` \| (client|edge|both) \|", PAGE, re.MULTILINE)


def test_the_edge_reads_what_the_page_has_clients_say() -> None:
    said = [wire.read_text("0:" + row) for row, who in ROWS if who != "edge"]
    assert said == [
        wire.Open(7, "/chat/tea?name=ann"),
        wire.Credit(7, 32768),
        wire.Close(7, 1000, ""),
    ]


def test_the_page_has_all_that_the_edge_says() -> None:
    said = [
        wire.opened(7, channel.WINDOW, "b"),
        wire.denied(7, 403),
        wire.credit(7, 32768),
        wire.reopened(7),
        wire.closed(7, 1000, ""),
    ]
    assert [json.loads(row) for row, who in ROWS if who != "client"] == [
        json.loads(one[2:]) for one in said
    ]


def test_the_numbers_of_the_page_are_right() -> None:
    text = " ".join(PAGE.split())
    for words in (
        f"`{wire.SUBPROTOCOL}`",
        f"from 1 to {wire.MAX_CHANNEL}",
        f"{channel.CLIENT_WINDOW // 1024} KiB unless you say otherwise",
        f"and {MESSAGE_BYTES} for itself",
        f"after {connections.IDLE_TIMEOUT:g} s",
        f"| path and query | {wire.MAX_PATH // 1024} KiB |",
        f"| control message | {wire.MAX_CONTROL // 1024} KiB |",
        f"| subprotocols of a channel | {wire.MAX_PROTOCOLS} |",
        f"| what waits for the endpoints of all channels | {channel.MAX_WAITING // 2**20} MiB;",
    ):
        assert words in text, words
