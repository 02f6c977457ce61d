"""The example's page in a real browser, as the person in front of it sees it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, BrowserContext, Locator, Page, async_playwright, expect

from tests.integration.clients import TIMEOUT

MILLISECONDS = 1000
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
)


class BrowserNotInstalled(Exception):
    """There is no browser to start."""


def find_browser() -> str:
    """The path of the installed Chromium or Chrome, or of what CHROMIUM names."""
    wanted = os.environ.get("CHROMIUM")
    for name in (wanted,) if wanted else NAMES:
        if path := shutil.which(name):
            return path
    raise BrowserNotInstalled(
        f"{wanted or 'Chromium'} is not installed, and these tests look at the example's page. "
        "Install it: `apt-get install chromium` on Debian, `dnf install chromium` on Fedora; or "
        "set CHROMIUM to the path of a Chromium or Chrome. Nothing is downloaded for you."
    )


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A headless browser. Each of its contexts is a window with a profile of its own."""
    expect.set_options(timeout=TIMEOUT * MILLISECONDS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=find_browser(), args=[*ARGUMENTS], headless=True
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def window(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A window of a browser, without cookies or storage; its pages are the tabs."""
    context = await browser.new_context(reduced_motion="reduce")
    context.set_default_timeout(TIMEOUT * MILLISECONDS)
    try:
        yield context
    finally:
        await context.close()


async def hide(page: Page, *, hidden: bool = True) -> None:
    """Have a page believe that another tab is in front of it, or that it is seen again.

    A headless Chromium takes all of its tabs for seen, whatever one does.
    """
    await page.evaluate(
        """(hidden) => {
            const visibilityState = hidden ? "hidden" : "visible";
            for (const [name, value] of Object.entries({ hidden, visibilityState })) {
                Object.defineProperty(document, name, { value, configurable: true });
            }
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


class Tab:
    """One person's tab with the chat."""

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self.name = name
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    @classmethod
    async def open(cls, context: BrowserContext, url: str, name: str) -> Tab:
        """Open a tab and come into the lobby by a name."""
        tab = cls(await context.new_page(), name)
        await tab.page.goto(url)
        await tab.at("name-input").fill(name)
        await tab.click("name-submit")
        await tab.is_online()
        return tab

    def at(self, test_id: str) -> Locator:
        """An element of the page."""
        return self.page.get_by_test_id(test_id)

    async def click(self, what: str | Locator) -> None:
        """Click an element in front: behind other tabs, it would wait for seconds to be drawn."""
        await self.page.bring_to_front()
        await (self.at(what) if isinstance(what, str) else what).click()

    async def worker(self) -> str:
        """The worker that serves it, as the badge says."""
        return await self.at("worker-badge").get_attribute("data-worker") or ""

    async def reload_until_not_on(self, worker: str) -> None:
        """Reload until another worker than that serves it."""
        async with asyncio.timeout(TIMEOUT):
            while await self.worker() == worker:
                await self.page.reload()
                await self.is_online()

    async def reconnect_until_not_on(self, worker: str) -> None:
        """Connect anew until another worker than that serves it, and it is in its room."""
        async with asyncio.timeout(TIMEOUT):
            while await self.worker() == worker:
                async with self.connects_anew():
                    await self.click("reconnect")

    @asynccontextmanager
    async def connects_anew(self) -> AsyncIterator[None]:
        """Wait at the end until another connection than now is open, and has joined the room.

        The page is drawn a moment late: that it is online may be said of its last connection.
        """
        me = '[data-testid="person"][data-self="true"]'
        sid = await self.page.locator(me).get_attribute("data-sid")
        yield
        await expect(self.page.locator(f'{me}:not([data-sid="{sid}"])')).to_be_attached()
        await self.is_online()

    async def is_online(self) -> None:
        """Wait until the page is connected and has joined the room it shows."""
        await expect(self.at("status")).to_have_attribute("data-state", "open")
        await expect(self.current_room).to_have_attribute("data-joined", "true")

    async def sign_in(self, token: str) -> None:
        """Answer the question for the admin's token, which `/?admin` asks."""
        await self.at("admin-input").fill(token)
        await self.click("admin-submit")

    async def disconnect(self, name: str) -> None:
        """As an admin, disconnect somebody in the room that is open."""
        await self.click(self.person(name).get_by_test_id("disconnect"))
        await self.click("disconnect-confirm")

    @property
    def current_room(self) -> Locator:
        return self.page.locator('[data-testid="room-item"][data-current]')

    async def go_to(self, room: str) -> None:
        """Open a room, by its name."""
        await self.at("room-input").fill(room)
        await self.click("room-add")
        await expect(self.at("room-title")).to_have_text(room)
        await expect(self.current_room).to_have_attribute("data-joined", "true")

    async def say(self, text: str) -> None:
        """Say something, and wait until the room has it."""
        await self.at("composer").fill(text)
        await self.click("send")
        await expect(self.message(text, self.name)).to_have_attribute("data-state", "sent")

    def message(self, text: str, author: str) -> Locator:
        """What somebody said."""
        said = self.page.locator(f'[data-testid="message"][data-author="{author}"]')
        return said.filter(has=self.page.get_by_text(text, exact=True))

    async def hears(self, text: str, author: str) -> None:
        """Wait until that message is there, once."""
        await expect(self.message(text, author)).to_have_count(1)

    async def sees(self, *names: str) -> None:
        """Wait until those people, and nobody else, are in the room."""
        await expect(self.at("person")).to_have_count(len(names))
        for name in names:
            await expect(self.person(name)).to_have_count(1)

    @property
    def words(self) -> Locator:
        """All that was said in the room, as far as the page shows it."""
        return self.at("message").get_by_test_id("message-text")

    async def hears_more(self, count: int) -> None:
        """Wait until so many more messages are there."""
        await expect(self.words.nth(await self.words.count() + count - 1)).to_be_attached()

    def person(self, name: str) -> Locator:
        """Somebody in the list of who is in the room."""
        return self.page.locator(f'[data-testid="person"][data-name="{name}"]')
