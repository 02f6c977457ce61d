"""The browser client in a bare page of a real browser, as an application serves it."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.integration.browser import hide
from tests.integration.browser import window as new_window
from tests.integration.client_page import ClientPage
from tests.integration.uvicorn_thread import uvicorn_thread

pytestmark = pytest.mark.asyncio(loop_scope="session")  # that of the browser

LONG = 3_600_000  # milliseconds


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[ClientPage, str]]:
    """The application, and where it is."""
    application = ClientPage()
    with uvicorn_thread(application.app, log_level="error") as port:
        yield application, f"http://127.0.0.1:{port}"


@pytest.fixture
def came(served: tuple[ClientPage, str]) -> list[str | None]:
    """The tokens of the connections that are made in a test."""
    application, _ = served
    application.came.clear()
    return application.came


@pytest_asyncio.fixture(loop_scope="session")
async def page(served: tuple[ClientPage, str], browser: Browser) -> AsyncIterator[Page]:
    """A page that has loaded the module, and whose timers wait for the test.

    Nothing is to go wrong in it.
    """
    _, url = served
    errors: list[str] = []
    async with new_window(browser) as context:
        page = await context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        await page.clock.install(time=0)
        await page.goto(url)
        await expect(page).to_have_title("Loaded")
        await page.clock.pause_at(LONG)
        yield page
    assert errors == []


async def start(page: Page, path: str, options: str = "{}") -> None:
    """Connect to an endpoint, with options in JavaScript."""
    await page.evaluate(f"start({path!r}, {options})")


async def send(page: Page, message: str) -> None:
    """Send something that is written in JavaScript."""
    await page.evaluate(f"client.send({message})")


async def states(page: Page, *states: str) -> None:
    """Wait until these are the states that the connection has been in."""
    await expect(page.locator("#states li")).to_have_text(list(states))


async def messages(page: Page, *messages: str) -> None:
    """Wait until these are the messages that have come."""
    await expect(page.locator("#messages li")).to_have_text(list(messages))


async def everything_wakes_it(page: Page) -> None:
    """Whatever makes a client connect that waits: the network, the page, and the time."""
    await page.context.set_offline(True)
    await page.context.set_offline(False)
    await hide(page)
    await hide(page, hidden=False)
    await page.evaluate('dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }))')
    await page.clock.run_for(LONG)


async def test_an_application_serves_the_module_and_its_types(
    served: tuple[ClientPage, str],
) -> None:
    _, url = served

    def get(name: str) -> tuple[str, str]:
        with urllib.request.urlopen(f"{url}/rooms/{name}", timeout=10) as response:
            return response.headers.get_content_type(), response.read().decode()

    kind, module = await asyncio.to_thread(get, "client.js")
    assert kind in {"text/javascript", "application/javascript"}
    assert "export const connect" in module
    _, types = await asyncio.to_thread(get, "client.d.ts")
    assert "export function connect" in types


async def test_a_plain_endpoint_says_and_hears_and_is_come_back_to(
    page: Page, came: list[str | None]
) -> None:
    await start(page, "/echo")
    await states(page, "connecting", "open")
    for message in ('"text"', '"\\0m as in a frame"', '{ a: ["json", 1] }'):
        await send(page, message)
    said = ["text", "\0m as in a frame", '{"a":["json",1]}']
    await messages(page, *said)
    await send(page, '"close 1012"')
    await states(page, "connecting", "open", "waiting 1012 as you say")
    assert len(came) == 1
    await page.clock.fast_forward(LONG)
    again = ("connecting", "open", "waiting 1012 as you say", "connecting", "open")
    await states(page, *again)
    await send(page, '"after"')
    await messages(page, *said, "after")
    await states(page, *again)
    assert len(came) == 2


@pytest.mark.parametrize("path", ["/memories", "/edge/memories"], ids=["worker", "edge"])
async def test_what_was_missed_is_there_when_it_is_back(
    page: Page, came: list[str | None], path: str
) -> None:
    await start(page, path)
    await messages(page, "welcome")
    await send(page, '"missed"')
    await states(page, "connecting", "open", "waiting 1012")
    await page.clock.fast_forward(LONG)
    await messages(page, "welcome", '{"memories":true}', "missed", "welcome")
    assert len(came) == 2


async def test_an_endpoint_without_rooms_is_spoken_to_as_by_any_websocket(page: Page) -> None:
    await start(page, "/without")
    await states(page, "connecting", "open")
    await send(page, '"\\0m"')
    await messages(page, "welcome", "\0m")


async def test_what_is_closed_for_good_stays_closed(page: Page, came: list[str | None]) -> None:
    await start(page, "/echo")
    await states(page, "connecting", "open")
    await page.evaluate("client.close()")
    await everything_wakes_it(page)
    await states(page, "connecting", "open", "closed 1000")
    assert len(came) == 1
    await page.evaluate("client.reconnect()")
    await states(page, "connecting", "open", "closed 1000", "connecting", "open")


@pytest.mark.parametrize("code", [1000, 1008, 4003, 4403])
async def test_after_a_final_code_it_does_not_come_back(
    page: Page, came: list[str | None], code: int
) -> None:
    await start(page, "/echo")
    await states(page, "connecting", "open")
    await send(page, f'"close {code}"')
    await states(page, "connecting", "open", f"closed {code} as you say")
    await everything_wakes_it(page)
    await states(page, "connecting", "open", f"closed {code} as you say")
    assert len(came) == 1


async def test_a_token_that_has_expired_is_refreshed_before_the_next_attempt(
    page: Page, came: list[str | None]
) -> None:
    await start(page, "/members", "{ token: ({ refresh }) => refresh ? 'fresh' : 'stale' }")
    await states(page, "connecting", "open", "waiting 4401 expired")
    await page.clock.fast_forward(LONG)
    await messages(page, "welcome")
    await states(page, "connecting", "open", "waiting 4401 expired", "connecting", "open")
    assert came == ["stale", "fresh"]


async def test_a_token_that_is_refused_when_it_is_new_is_the_end(
    page: Page, came: list[str | None]
) -> None:
    await start(page, "/members", "{ token: async () => 'stale' }")
    await states(page, "connecting", "open", "waiting 4401 expired")
    await page.clock.fast_forward(LONG)
    await states(
        *(page, "connecting", "open", "waiting 4401 expired"),
        *("connecting", "open", "closed 4401 expired"),
    )
    await everything_wakes_it(page)
    assert came == ["stale", "stale"]


async def test_a_hidden_tab_that_lost_its_connection_is_back_as_soon_as_it_is_seen(
    page: Page, came: list[str | None]
) -> None:
    await start(page, "/echo")
    await states(page, "connecting", "open")
    await hide(page)
    await send(page, '"close 1013"')
    lost = ("connecting", "open", "waiting 1013 as you say")
    await states(page, *lost)
    await hide(page, hidden=False)  # and no timer runs
    await states(page, *lost, "connecting", "open")
    assert len(came) == 2


async def test_a_frozen_page_leaves_its_connection_and_is_back_when_it_goes_on(
    page: Page, came: list[str | None]
) -> None:
    await start(page, "/echo")
    await states(page, "connecting", "open")
    await page.evaluate('document.dispatchEvent(new Event("freeze"))')
    left = ("connecting", "open", "waiting 1001 page hidden")
    await states(page, *left)
    await page.clock.run_for(LONG)
    await states(page, *left)
    await page.evaluate('document.dispatchEvent(new Event("resume"))')
    await states(page, *left, "connecting", "open")
    assert len(came) == 2
