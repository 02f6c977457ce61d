"""The documentation as it is published: it fits on a phone, and common words find its pages."""

from __future__ import annotations

import asyncio
import fcntl
import functools
import html
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from playwright.async_api import Browser, Page

from tests.docs.pages import ROOT

PHONE: Any = {"width": 390, "height": 844}
TABS = 4

CUT_OFF = """() => {
    const width = document.documentElement.clientWidth;
    const scrolls = (element) => ["auto", "scroll"].includes(getComputedStyle(element).overflowX);
    const inABox = (element) => {
        for (let box = element.parentElement; box !== document.body; box = box.parentElement) {
            if (scrolls(box) && box.getBoundingClientRect().right <= width + 1) return true;
        }
        return false;
    };
    const found = [...document.querySelectorAll(".md-content *")].filter((element) => {
        const { width: own, right } = element.getBoundingClientRect();
        return own > 0 && right > width + 1 && !inABox(element);
    });
    if (document.documentElement.scrollWidth > width) found.unshift(document.documentElement);
    return found.map((element) => element.outerHTML.slice(0, 100));
}"""
"""What reaches beyond the right edge of the screen, and cannot be scrolled to."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built as it is published, once for all processes of the run."""
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "site"
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "is_whole").exists():
            build_into(directory / "built")
            (directory / "is_whole").touch()
    return directory / "built"


def build_into(directory: Path) -> None:
    # What is watched is for `mkdocs serve`; the package may be installed elsewhere.
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(directory), watch=[])
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    config.plugins.on_shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, which a browser may keep, and says nothing of it."""

    def do_GET(self) -> None:
        """The index of all pages, which each page would read, it does not have."""
        if "/workers/search" in self.path:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            super().do_GET()

    def end_headers(self) -> None:
        """One header more."""
        self.send_header("Cache-Control", "max-age=3600")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def serving(directory: Path) -> Iterator[str]:
    """Serve a directory, and give its address."""
    handler = functools.partial(Quiet, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def paths(site: Path) -> list[str]:
    """Where its pages are."""
    return [path.parent.relative_to(site).as_posix() for path in site.rglob("index.html")]


@pytest.mark.asyncio(loop_scope="session")  # that of the browser
async def test_no_page_is_wider_than_a_phone_and_nothing_on_it_is_cut_off(
    site: Path, paths: list[str], browser: Browser
) -> None:
    assert "howto/deployment" in paths
    left = paths.copy()
    cut_off: dict[str, list[str]] = {}

    async def look_through(tab: Page, address: str) -> None:
        while left:
            path = left.pop()
            await tab.goto(f"{address}/{path}/")
            if found := await tab.evaluate(CUT_OFF):
                cut_off[path] = found

    with serving(site) as address:
        context = await browser.new_context(viewport=PHONE)
        tabs = [await context.new_page() for _ in range(TABS)]
        await asyncio.gather(*(look_through(tab, address) for tab in tabs))
        await context.close()
    assert cut_off == {}


FOUND_BY = {
    "BaseModel": "howto/json/",
    "GIL": "howto/threads/",
    "JWT": "howto/security/",
    "ThreadPool": "howto/threads/",
    "backpressure": "howto/slow-clients/",
    "deflate": "howto/native-websockets/",
    "Last-Event-ID": "howto/history/",
    "epoch": "explanation/recovery/",
    "history": "howto/history/",
    "missed messages": "howto/history/",
    "recovery": "explanation/recovery/",
    "replay": "howto/history/",
    "since": "howto/history/",
    "kubernetes": "howto/deployment/containers/",
    "limit 429": "howto/security/",
    "nginx 502": "howto/deployment/proxies/",
    "online": "howto/presence/",
    "presence": "howto/presence/",
    "prometheus": "reference/health/",
    "pydantic": "howto/json/",
    "reconnect": "reference/close-codes/",
    "scale": "howto/deployment/",
    "sync": "howto/threads/",
    "thread": "howto/threads/",
}


@pytest.mark.parametrize(("words", "page"), FOUND_BY.items())
def test_a_search_finds_the_page(site: Path, words: str, page: str) -> None:
    """As the theme searches: each word of the query is the beginning of a word of the page."""
    index = json.loads((site / "search" / "search_index.json").read_text())
    separator = re.compile(index["config"]["separator"])
    terms: set[str] = set()
    for section in index["docs"]:
        if section["location"].partition("#")[0] == page:
            text = re.sub("<[^>]*>", " ", section["text"])
            for part in separator.split(html.unescape(f"{section['title']} {text}")):
                terms.add(part.lower().strip(".,;?'\""))
    for word in separator.split(words):
        assert any(term.startswith(word.lower()) for term in terms), f"{page} has no {word!r}"
