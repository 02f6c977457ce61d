"""What an admin of the example application may do, and nobody else."""

from __future__ import annotations

import pytest
from playwright.async_api import BrowserContext, expect

from tests.integration.browser import Tab
from tests.integration.example import EXAMPLE, TOKEN, Scene, post
from tests.integration.servers import Start, uvicorn

pytestmark = pytest.mark.asyncio(loop_scope="session")  # that of the browser


async def test_an_admin_disconnects_somebody_on_another_worker(
    scene: Scene, window: BrowserContext
) -> None:
    server, ann, bob = scene
    ada = await Tab.open(window, server.url("/?admin", "http"), "Ada")
    other = bob if await ada.worker() == await ann.worker() else ann
    stays = ann if other is bob else bob
    await ada.sees("Ada", "Ann", "Bob")
    await ada.sign_in("open barley")
    await expect(ada.at("admin-wrong")).to_have_text("That is not the token")
    await expect(ada.at("disconnect")).to_have_count(0)
    await ada.sign_in(TOKEN)
    await expect(ada.at("disconnect")).to_have_count(2)
    await expect(ann.at("disconnect")).to_have_count(0)

    await ada.disconnect(other.name)
    await expect(other.at("ended")).to_contain_text("An admin has disconnected you")
    await ada.sees("Ada", stays.name)
    await stays.sees("Ada", stays.name)
    await other.page.evaluate('dispatchEvent(new Event("online"))')  # ends any waiting at once
    await expect(other.at("status")).to_have_attribute("data-state", "closed")

    await other.click("come-back")
    await other.is_online()
    await expect(other.at("ended")).to_be_hidden()
    await ada.sees("Ada", "Ann", "Bob")
    assert ada.errors == []


async def test_a_browser_that_was_away_goes_on_where_it_was(
    scene: Scene, window: BrowserContext
) -> None:
    server, ann, bob = scene
    ada = await Tab.open(window, server.url("/?admin", "http"), "Ada")
    await ada.sign_in(TOKEN)
    await expect(ada.at("disconnect")).to_have_count(2)
    for tab in (ann, bob):
        await tab.go_to("trip")
    await ann.say("before")
    await bob.hears("before", "Ann")
    await ada.disconnect("Bob")
    await expect(bob.at("status")).to_have_attribute("data-state", "closed")
    for number in range(5):
        await ann.say(f"missed {number}")
    await bob.click("come-back")
    await bob.is_online()
    await bob.hears("missed 4", "Ann")
    words = bob.at("message").get_by_test_id("message-text")
    await expect(words).to_have_text(["before", *(f"missed {number}" for number in range(5))])
    await expect(bob.at("event").filter(has_text="missing")).to_have_count(0)
    await bob.page.reload()  # what it has is kept by the tab, and is not shown twice
    await bob.is_online()
    await expect(words).to_have_count(6)
    assert ada.errors == []


async def test_only_who_has_the_token_disconnects_anybody(scene: Scene) -> None:
    server, ann, _ = scene
    sid = await ann.person("Bob").get_attribute("data-sid")
    path = f"/admin/disconnect/{sid}"
    assert await post(server, path) == 401
    assert await post(server, path, token="open barley") == 401
    assert await post(server, "/admin/disconnect/room:lobby", token=TOKEN) == 422
    assert await post(server, "/admin/disconnect/nobody", token=TOKEN) == 404
    await ann.sees("Ann", "Bob")


async def test_without_a_token_there_is_no_admin(start: Start) -> None:
    server = start(uvicorn(app=EXAMPLE), ADMIN_TOKEN="")
    server.wait_for_workers()
    for token in ("", "guess"):
        assert await post(server, "/admin/disconnect/nobody", token=token) == 403
