"""The page of docs/howto/browser.md, in a real browser."""

from __future__ import annotations

import asyncio
from types import ModuleType

import pytest
from playwright.async_api import BrowserContext, Dialog, expect

from fastapi_rooms.testing import Proxy, RedisServer, eventually
from tests.docs.conftest import Serve
from tests.docs.registry import shows

PAGE = "docs/howto/browser.md"


@shows(PAGE, "app.py")
@pytest.mark.asyncio(loop_scope="session")  # that of the browser
async def test_the_page_has_everything_once_whatever_becomes_of_its_connection(
    example: ModuleType, serve: Serve, redis_server: RedisServer, window: BrowserContext
) -> None:
    redis_server.command("FLUSHALL")  # other pages have rooms of these names
    host, port = serve(example.app).split(":")
    alerts: list[str] = []

    async def noted(dialog: Dialog) -> None:
        alerts.append(dialog.message)
        await dialog.dismiss()

    async with Proxy(host, int(port)) as proxy:
        page = await window.new_page()
        page.on("dialog", noted)
        await page.goto(f"http://{proxy.host}:{proxy.port}/")
        state, said, text = (page.locator(name) for name in ("#state", "#said li", "input"))
        await expect(state).to_have_text("open")
        await text.fill("one")
        await text.press("Enter")
        await expect(said).to_have_text(["one"])
        await expect(text).to_have_value("")
        proxy.refuse()
        await expect(state).not_to_have_text("open")
        say = example.rooms.sync.to("chat-tea").send_text
        await asyncio.to_thread(say, "two")
        await text.fill("three")
        await text.press("Enter")
        await eventually(lambda: alerts == ["not connected"])
        await expect(text).to_have_value("three")
        await proxy.accept()
        await expect(said).to_have_text(["one", "two"])
        proxy.refuse()
        await expect(state).not_to_have_text("open")
        for number in range(201):
            await asyncio.to_thread(say, str(number))
        await proxy.accept()
        await expect(said).to_have_text([str(number) for number in range(151, 201)])
