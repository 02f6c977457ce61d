"""JSON as applications send it: texts of one length, all different, and the same in every run."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from benchmarks.paths import WORK

Messages = Literal["noise", "chat", "dashboard"]

_MOST_BYTES, _MOST_TEXTS = 1 << 20, 500

_NAMES = ("Ada", "Grace", "Edsger", "Barbara", "Donald", "Margaret", "Alan", "Radia")
_STATES = ("ok", "ok", "ok", "degraded", "down")
# fmt: off
_WORDS = [
    "the", "of", "and", "to", "in", "is", "you", "that", "it", "was", "for", "on", "are",
    "with", "as", "they", "be", "at", "one", "have", "this", "from", "or", "had", "by", "hot",
    "but", "some", "what", "there", "we", "can", "out", "other", "were", "all", "your", "when",
    "up", "use", "word", "how", "said", "an", "each", "she", "which", "do", "their", "time",
    "if", "will", "way", "about", "many", "then", "them", "would", "write", "like", "so",
    "these", "her", "long", "make", "thing", "see", "him", "two", "has", "look", "more", "day",
    "could", "go", "come", "did", "my", "sound", "no", "most", "number", "who", "over", "know",
    "water", "than", "call", "first", "people", "may", "down", "side", "been", "now", "find",
    "any", "new", "work", "part", "take", "get", "place", "made",
]
# fmt: on


def texts_of(messages: Messages, length: int) -> Path | None:
    """A file of texts of so many bytes each, one after the other; `None` for noise."""
    if messages == "noise":
        return None
    path = WORK / "messages" / f"{messages}-{length}"
    path.parent.mkdir(parents=True, exist_ok=True)
    make = {"chat": _chat, "dashboard": _dashboard}[messages]
    chance = random.Random(length)
    count = min(_MOST_TEXTS, _MOST_BYTES // length)
    texts = [_of_length(make, length, chance, number) for number in range(count)]
    path.write_bytes(b"".join(texts))
    return path


def _of_length(
    make: Callable[[random.Random, int, int], dict[str, Any]],
    length: int,
    chance: random.Random,
    number: int,
) -> bytes:
    """A message whose text is as long as it takes."""
    value = make(chance, number, length)
    for what in ("text", "note"):
        if what in value:
            missing = length - len(_dumped({**value, what: ""}))
            value[what] = _sentence(chance, missing)
    return _dumped(value)


def _chat(chance: random.Random, number: int, _: int) -> dict[str, Any]:
    return {
        "type": "message",
        "room": "general",
        "user": {"id": chance.randrange(10_000), "name": chance.choice(_NAMES)},
        "text": "",
        "sent_at": _time(chance, number),
    }


def _dashboard(chance: random.Random, number: int, length: int) -> dict[str, Any]:
    """Of many machines, how each is; the last rows may leave some room, which a note fills."""
    value: dict[str, Any] = {"type": "update", "at": _time(chance, number), "hosts": [], "note": ""}
    while len(_dumped(value)) < length - 250:
        value["hosts"].append(
            {
                "host": f"web-{len(value['hosts']):03}.example.com",
                "state": chance.choice(_STATES),
                "cpu": round(chance.uniform(0, 100), 1),
                "memory": chance.randrange(1 << 34),
                "requests": chance.randrange(100_000),
                "latency_ms": round(chance.expovariate(0.05), 2),
            }
        )
    return value


def _time(chance: random.Random, number: int) -> str:
    minutes, seconds = divmod(number, 60)
    return f"2026-06-{1 + number % 28:02}T10:{minutes:02}:{seconds:02}.{chance.randrange(1000):03}Z"


def _sentence(chance: random.Random, length: int) -> str:
    text = ""
    while len(text) < length:
        text += chance.choice(_WORDS) + " "
    return text[:length]


def _dumped(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
