"""Clients that are slow, that are plain, and that are no WebSockets."""

from __future__ import annotations

import asyncio
import json

from playwright.async_api import Page

from fastapi_rooms.testing import Proxy, eventually
from tests.integration.browser import chromium
from tests.integration.clients import Client
from tests.integration.raw import Frame, RawClient
from tests.integration.workers import Workers
from tests.recovery.conftest import NewPerson
from tests.recovery.scene import OUTBOX_BYTES

FILLER = "x" * 128 * 1024


async def test_a_slow_client_in_a_recoverable_room_is_closed_and_resumes_without_a_hole(
    workers: Workers, person: NewPerson, voices: list[Client]
) -> None:
    """It is closed when its outbox is full, and may be given more than that when it is back."""
    room = "slow"
    slow, quick = person(room), person(room)
    await quick.comes(0)
    await slow.comes(0, buffer=8192)
    slow.client.stop_reading()
    sent: list[str] = []

    async def is_closed() -> bool:
        sent.append(f"{len(sent)} {FILLER}")
        await voices[1].rooms.to(room).send_text(sent[-1])
        return slow.client.sid not in (await workers.state(0))["sids"]

    await eventually(is_closed, 30, what="the slow client is closed")
    while len(FILLER) * len(sent) < 3 * OUTBOX_BYTES:
        await is_closed()
    slow.client.read_on()
    assert await slow.client.closed() == 1013
    assert len(slow.heard) < len(sent)
    await slow.comes(2)
    assert slow.recovered is True
    await voices[1].rooms.to(room).send_text("end")
    assert await slow.hears("end") == [*sent, "end"] == await quick.hears("end")


async def test_a_plain_client_sees_no_byte_of_framing(
    workers: Workers, person: NewPerson, voices: list[Client]
) -> None:
    """It is in the same room, and on the same worker, as clients that resume."""
    room = "framing"
    plain = await asyncio.to_thread(RawClient, workers.server(0).port)
    try:
        welcome = await asyncio.to_thread(plain.read_frame)
        sid = json.loads(welcome.data)["sid"]
        plain.send(1, json.dumps([0, "socket", ["join", [[room], {}]]]).encode())
        joined = await asyncio.to_thread(plain.read_frame)
        ann, bob = person(room), person(room)
        await ann.comes(0)
        await ann.client.socket.to(room).send_text("from ann")
        await ann.is_cut_off()
        await voices[1].rooms.to(room).send_bytes(b"\0bytes of the application's")
        await voices[1].rooms.to(room).except_(sid).send_text("not for the plain one")
        await ann.comes(0)
        await bob.comes(0)
        await ann.client.socket.leave(room)
        await voices[2].rooms.to(room).send_text("end")
        frames = [await asyncio.to_thread(plain.read_frame)]
        while frames[-1].data != b"end":
            frames.append(await asyncio.to_thread(plain.read_frame))
        assert welcome.first == joined.first == 0x81
        assert json.loads(joined.data)["reply"] == 0
        assert frames == [
            Frame(0x81, b"from ann"),
            Frame(0x82, b"\0bytes of the application's"),
            Frame(0x81, b"end"),
        ]
        assert await bob.hears("end") == ["end"]
        assert ann.heard == [b"\0bytes of the application's", "not for the plain one"]
    finally:
        plain.close()


async def test_event_source_resumes_by_its_id(workers: Workers, voices: list[Client]) -> None:
    """That of a browser, which says by itself what it had last when it comes again."""
    room = "events"
    first, second = workers.server(0), workers.server(1)
    async with Proxy("127.0.0.1", first.port) as wire, chromium() as browser:
        page = await browser.new_page()
        await page.goto(f"http://{wire.host}:{wire.port}/health")
        await page.evaluate(
            """room => {
                window.heard = [];
                const source = new EventSource(`/listen/${room}`);
                source.addEventListener("listening", () => heard.push("listening"));
                source.onmessage = event => heard.push(event.data);
                source.addEventListener("reload", () => heard.push("reload"));
            }""",
            room,
        )
        await heard(page, ["listening"])
        await voices[0].rooms.to(room).send_text("seen")
        await heard(page, ["listening", "seen"])
        wire.refuse()
        for text in ("missed 1", "missed 2"):
            await voices[2].rooms.to(room).send_text(text)
        wire.lead_to("127.0.0.1", second.port)
        await wire.accept()
        missed = ["listening", "seen", "listening", "missed 1", "missed 2"]
        await heard(page, missed)
        await voices[0].rooms.to(room).send_text("new")
        await heard(page, [*missed, "new"])
        await page.close()


async def heard(page: Page, texts: list[str]) -> None:
    """Wait until a page has heard so much, and no more."""

    async def has_heard() -> bool:
        return bool(len(await page.evaluate("heard")) >= len(texts))

    await eventually(has_heard, what=f"{texts} are heard")
    assert await page.evaluate("heard") == texts
