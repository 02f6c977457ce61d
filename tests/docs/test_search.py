"""What newcomers search for is where search looks first on the page that answers it."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT, prose_of

ANSWERS = {
    "apscheduler": "recipes/scheduled-jobs.md",
    "celery": "recipes/celery.md",
    "looking at": "recipes/who-is-online.md",
    "logging": "howto/deployment/health.md",
    "emitters": "howto/testing.md",
    "cookie": "recipes/jwt.md",
    "history": "recipes/chat-history.md",
    "last-event-id": "howto/history.md",
    "missed": "howto/history.md",
    "recovery": "explanation/recovery.md",
    "replay": "howto/history.md",
    "since": "howto/history.md",
    "jwt": "recipes/jwt.md",
    "online list": "recipes/who-is-online.md",
    "who is online": "recipes/who-is-online.md",
    "notification": "recipes/notifications.md",
    "presence": "recipes/who-is-online.md",
    "prometheus": "recipes/metrics.md",
    "pydantic": "howto/json.md",
    "reconnect": "recipes/reconnect.md",
    "sse": "recipes/server-sent-events.md",
    "thread": "howto/threads.md",
    "typing": "recipes/typing.md",
    "multiplexing": "reference/channels.md",
    "zero-downtime": "howto/deployment/edges.md",
}


@pytest.mark.parametrize(("word", "page"), ANSWERS.items(), ids=list(ANSWERS))
def test_it_is_in_the_title_a_heading_or_the_first_paragraph(word: str, page: str) -> None:
    prose = prose_of(ROOT / "docs" / page)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    paragraphs = (
        re.split(r"^# .+\n", prose, maxsplit=1, flags=re.MULTILINE)[1].strip().split("\n\n")
    )
    assert word in " ".join([*headings, paragraphs[0]]).lower()
