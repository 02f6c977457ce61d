"""The verbs of requests between workers, as they are written on the wire."""

from __future__ import annotations

from fastapi_rooms.wire.verbs import Verb

WRITTEN = {
    "FETCH": "fetch",
    "COUNT": "count",
    "JOIN": "join",
    "LEAVE": "leave",
    "DISCONNECT": "disconnect",
    "ROOMS": "rooms",
    "EMIT": "emit",
    "FORGET": "forget",
    "DESCRIBE": "describe",
}
"""Workers of several versions talk to each other: what is here stays, and what is new is added."""


def test_every_verb_is_written_as_it_always_was() -> None:
    assert {verb.name: verb.value for verb in Verb} == WRITTEN


def test_a_verb_is_the_string_that_is_written() -> None:
    assert f"{Verb.FETCH}" == str(Verb.FETCH) == "fetch"
    assert Verb("fetch") is Verb.FETCH
