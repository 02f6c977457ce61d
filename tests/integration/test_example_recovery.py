"""The example page loses nothing when a worker, Redis, the network or the page itself goes away."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from fastapi_rooms.testing import Direction, Proxy, RedisServer
from tests.integration.browser import Tab, hide
from tests.integration.browser import window as new_window
from tests.integration.example import COMMANDS, Scene, on_each, started
from tests.integration.servers import Server, Start, starter

pytestmark = pytest.mark.asyncio(loop_scope="session")  # that of the browser

rooms = itertools.count()


@pytest.fixture(scope="module")
def keeping_redis() -> Iterator[RedisServer]:
    """A Redis that has again what it had, when it is started again."""
    with RedisServer(arguments=("--appendonly", "yes")) as server:
        yield server


@pytest.fixture(scope="module")
def server(
    keeping_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Two workers; another takes the place of one that ends."""
    with starter(tmp_path_factory.mktemp("servers")) as start:
        yield started(start, "uvicorn", keeping_redis)


@pytest_asyncio.fixture(loop_scope="session")
async def network(server: Server) -> AsyncIterator[Proxy]:
    """What is between Bob and the server."""
    async with Proxy("127.0.0.1", server.port) as proxy:
        yield proxy


@pytest_asyncio.fixture(loop_scope="session")
async def two(server: Server, network: Proxy, browser: Browser) -> AsyncIterator[tuple[Tab, Tab]]:
    """Ann, whose network is good, and Bob, on another worker and in a window of his own.

    They are in a room in which nothing was ever said.
    """
    await asyncio.to_thread(server.wait_for_workers, 2)
    room = f"#room-{next(rooms)}"
    async with new_window(browser) as anns, new_window(browser) as bobs:
        ann = await Tab.open(anns, server.url(f"/{room}", "http"), "Ann")
        bob = await Tab.open(bobs, f"http://{network.host}:{network.port}/{room}", "Bob")
        await bob.reconnect_until_not_on(await ann.worker())
        yield ann, bob
    assert ann.errors + bob.errors == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_nothing_is_lost_when_a_worker_ends(
    two: tuple[Tab, Tab], how: signal.Signals
) -> None:
    ann, bob = two
    async with numbers(ann):
        await bob.hears_more(5)
        worker = await bob.worker()
        os.kill(int(worker.split(":")[-1]), how)
        await expect(bob.at("worker-badge")).not_to_have_attribute("data-worker", worker)
        await bob.is_online()
        await bob.hears_more(5)
    await has_heard_all(bob, ann)


async def test_nothing_is_lost_when_redis_is_restarted(
    two: tuple[Tab, Tab], keeping_redis: RedisServer
) -> None:
    ann, bob = two
    async with numbers(ann):
        await bob.hears_more(5)
        await asyncio.to_thread(keeping_redis.restart)
        await bob.hears_more(20)
    await has_heard_all(bob, ann)


async def test_older_messages_that_are_gone_are_said_to_be(
    two: tuple[Tab, Tab], network: Proxy, keeping_redis: RedisServer
) -> None:
    ann, bob = two
    await ann.say("before")
    await bob.hears("before", "Ann")
    network.refuse()
    await expect(bob.at("status")).to_have_attribute("data-state", "waiting")
    await ann.say("lost")
    keeping_redis.command("FLUSHALL")
    await asyncio.to_thread(keeping_redis.restart)
    async with numbers(ann):  # until one of them is heard
        await expect(
            ann.page.locator('[data-testid="message"][data-state="sent"]')
        ).not_to_have_count(2)
    await ann.say("after")
    await network.accept()
    await bob.hears("after", "Ann")
    await expect(bob.at("back")).to_have_text("Older messages are gone")
    await expect(bob.at("event").filter(has_text="Older messages are gone")).to_have_count(1)
    entries = bob.page.locator('[data-testid="message-text"], [data-testid="event"]')
    texts = [text.splitlines()[0] for text in await entries.all_inner_texts()]
    gone = texts.index("Older messages are gone")
    assert texts[gone - 1] == "before"
    assert "lost" not in texts
    assert texts[-1] == "after"


async def test_who_comes_back_is_told_what_was_missed(two: tuple[Tab, Tab], network: Proxy) -> None:
    ann, bob = two
    await ann.say("before")
    await bob.hears("before", "Ann")
    await expect(bob.at("back")).to_be_empty()
    network.cut()
    await expect(bob.at("back")).to_have_text("You missed nothing")
    for missed, words in ((1, "1 message while"), (2, "2 messages while")):
        await bob.page.context.set_offline(True)
        network.refuse()
        await expect(bob.at("status")).to_contain_text("Offline")
        for number in range(missed):
            await ann.say(f"missed {number} of {missed}")
        await network.accept()
        await bob.page.context.set_offline(False)
        await expect(bob.at("back")).to_contain_text(words)
    await ann.say("after")
    await bob.hears("after", "Ann")
    await expect(bob.at("back")).to_be_empty()
    said = ["before", "missed 0 of 1", "missed 0 of 2", "missed 1 of 2", "after"]
    await expect(bob.words).to_have_text(said)


async def test_a_dead_connection_is_left_when_the_network_changes(
    two: tuple[Tab, Tab], network: Proxy
) -> None:
    ann, bob = two
    for connection in network.connections:
        connection.stall()
    await ann.say("from the old network")
    await bob.page.evaluate('dispatchEvent(new Event("online"))')
    await bob.hears("from the old network", "Ann")
    await expect(bob.at("back")).to_have_text("1 message while you were away")


@pytest.mark.parametrize("is_frozen", [False, True])
async def test_a_hidden_tab_has_missed_nothing_when_it_is_seen_again(
    two: tuple[Tab, Tab], network: Proxy, is_frozen: bool
) -> None:
    ann, bob = two
    await hide(bob.page)
    if is_frozen:
        await bob.page.evaluate('document.dispatchEvent(new Event("freeze"))')
    network.refuse()
    await expect(bob.at("status")).to_have_attribute("data-state", "waiting")
    for number in range(3):
        await ann.say(str(number))
    await network.accept()
    await hide(bob.page, hidden=False)
    await expect(bob.words).to_have_text(["0", "1", "2"])
    await expect(bob.at("back")).to_have_text("3 messages while you were away")


async def test_a_reload_in_full_flow_neither_loses_nor_doubles_anything(
    two: tuple[Tab, Tab],
) -> None:
    ann, bob = two
    async with numbers(ann, every=5, up_to=60):  # more than a newcomer gets
        await expect(bob.words).to_have_count(60)
    async with numbers(ann, every=200):
        for _ in range(3):
            await bob.hears_more(2)
            await bob.page.reload()
            await bob.is_online()
        await bob.hears_more(2)
    await has_heard_all(bob, ann)


@pytest.mark.parametrize("is_hidden", [False, True])
async def test_a_duplicated_tab_loses_nothing_and_neither_does_its_original(
    two: tuple[Tab, Tab], is_hidden: bool
) -> None:
    ann, bob = two
    async with numbers(ann):
        await bob.hears_more(5)
        await hide(bob.page, hidden=is_hidden)
        async with bob.page.expect_popup() as opened:
            await bob.page.evaluate("window.open(location.href)")  # with a copy of its session
        copy = Tab(await opened.value, "Bob")
        await copy.is_online()
        await copy.hears_more(5)
        await hide(bob.page, hidden=False)
        await bob.hears_more(5)
    await has_heard_all(bob, ann)
    if is_hidden:
        await has_heard_all(copy, ann)
    else:  # it is a newcomer
        first = int(await copy.words.first.inner_text())
        await expect(copy.words).to_have_text((await numbers_of(ann))[first - 1 :])
    assert copy.errors == []


async def test_what_is_not_confirmed_is_shown_and_not_sent_again_by_itself(
    two: tuple[Tab, Tab], network: Proxy
) -> None:
    ann, bob = two
    network.stall(Direction.TO_SERVER)
    await bob.at("composer").fill("Do you hear me?")
    await bob.click("send")
    said = bob.message("Do you hear me?", "Bob")
    await expect(said).to_have_attribute("data-state", "sending")
    async with bob.connects_anew():
        network.cut()
        network.resume()
    await bob.say("And now?")
    await ann.hears("And now?", "Bob")
    await expect(said).to_have_attribute("data-state", "unsure")
    await expect(ann.words).to_have_text(["And now?"])
    await bob.click(said.get_by_role("button", name="Send again"))
    await ann.hears("Do you hear me?", "Bob")
    await expect(bob.words).to_have_text(["And now?", "Do you hear me?"])
    await expect(said).to_have_attribute("data-state", "sent")


async def test_what_was_heard_after_all_counts_as_sent_even_after_a_reload(
    two: tuple[Tab, Tab], network: Proxy
) -> None:
    ann, bob = two
    network.stall(Direction.TO_CLIENT)
    await bob.at("composer").fill("Do you hear me?")
    await bob.click("send")
    await ann.hears("Do you hear me?", "Bob")
    await bob.page.evaluate('dispatchEvent(new PageTransitionEvent("pagehide"))')
    said = bob.message("Do you hear me?", "Bob")
    await expect(said).to_have_attribute("data-state", "unsure")
    network.cut()
    network.resume()
    await bob.page.reload()
    await expect(said).to_have_attribute("data-state", "sent")
    await expect(said).to_have_attribute("data-own", "true")
    await expect(bob.words).to_have_count(1)


@on_each("own_scene")
async def test_tabs_come_back_after_a_restart_of_the_server(
    own_scene: Scene, start: Start, own_redis: RedisServer, request: pytest.FixtureRequest
) -> None:
    server, ann, bob = own_scene
    await ann.say("before")
    await bob.hears("before", "Ann")
    old = {await ann.worker(), await bob.worker()}
    assert server.complaints == []

    await asyncio.to_thread(server.stop)
    for tab in (ann, bob):
        await expect(tab.at("status")).to_have_attribute("data-state", "waiting")
    command = COMMANDS[request.node.callspec.params["own_scene"]]
    again = start(command, server.port, ROOMS_URL=own_redis.url)
    await asyncio.to_thread(again.wait_for_workers, 2)
    for tab in (ann, bob):
        await tab.is_online()
    assert {await ann.worker(), await bob.worker()}.isdisjoint(old)

    await bob.reload_until_not_on(await ann.worker())
    await ann.sees("Ann", "Bob")
    await bob.sees("Ann", "Bob")
    await bob.say("after")
    await ann.hears("after", "Bob")
    await ann.hears("before", "Ann")
    await bob.hears("before", "Ann")
    assert again.complaints == []


async def test_a_room_says_what_was_missed_as_far_as_it_knows(
    browser: Browser, server: Server
) -> None:
    async with new_window(browser) as window:
        page = await window.new_page()
        await page.goto(server.url("/", "http"))
        told = await page.evaluate(
            """async () => {
                const { Room } = await import("/static/rooms.js");
                const told = {};
                function room(title, ...steps) {
                    const room = new Room("tea", { entries: [{ kind: "say", position: "1" }] });
                    const lacks = [];
                    for (const step of steps) {
                        if (typeof step === "boolean") room.returns(step);
                        else if (step === "lost") room.leaves();
                        else {
                            const met = room.meets(step);
                            if (met.lacks) lacks.push(step);
                            if (!met.isKnown) room.add({ kind: "say", position: step });
                        }
                    }
                    if (room.enters()) lacks.push("end");
                    told[title] = [room.back, ...lacks];
                }
                room("newcomer", "2");
                room("nothing", true);
                room("one", true, "2");
                room("lost again", true, "2", "lost", true, "3");
                room("gone", false, "7", "8");
                room("emptied", false);
                room("not gone after all", false, "1", "2");
                room("gone in between", true, "2", false, "7");
                room("gone, and lost again", false, "lost", true, "7");
                return told;
            }"""
        )
    gone = "Older messages are gone"
    assert told == {
        "newcomer": [""],
        "nothing": ["You missed nothing"],
        "one": ["1 message while you were away"],
        "lost again": ["2 messages while you were away"],
        "gone": [gone, "7"],
        "emptied": [gone, "end"],
        "not gone after all": ["1 message while you were away"],
        "gone in between": [gone, "7"],
        "gone, and lost again": [gone, "7"],
    }


@asynccontextmanager
async def numbers(tab: Tab, *, every: int = 100, up_to: int = 1000) -> AsyncIterator[None]:
    """Until the block ends, somebody says one number after the other, with so many ms between.

    A room remembers 200, and so many are kept over a reload: nobody may be away for more.
    """
    script = """([every, upTo]) => {
        const field = document.getElementById("composer");
        window.number ??= 0;
        window.saying = setInterval(() => {
            if (field.value === "" && window.number < upTo) field.value = ++window.number;
            field.form.requestSubmit();
        }, every);
    }"""
    await tab.page.evaluate(script, [every, up_to])
    yield
    await tab.page.evaluate(
        "() => { clearInterval(window.saying); document.getElementById('composer').value = '' }"
    )


async def numbers_of(tab: Tab) -> list[str]:
    """The numbers that somebody has said, and knows to be heard."""
    own = '[data-testid="message"][data-own="true"]'
    await expect(tab.page.locator(f'{own}[data-state="sending"]')).to_have_count(0)
    heard = tab.page.locator(f'{own}[data-state="sent"] [data-testid="message-text"]')
    return await heard.all_inner_texts()


async def has_heard_all(tab: Tab, speaker: Tab) -> None:
    """Somebody has heard all the numbers of somebody else: each once, and in order."""
    said = await numbers_of(speaker)
    assert said == sorted(set(said), key=int)
    await expect(tab.words).to_have_text(said)
    await expect(tab.at("event").filter(has_text="gone")).to_have_count(0)
