"""The table of URL schemes, and those who read it."""

from __future__ import annotations

import pytest

from fastapi_rooms import AsyncEmitter, ConfigurationError, Emitter, RoomManager
from fastapi_rooms.adapters import adapter_of
from fastapi_rooms.adapters.schemes import (
    FORMS,
    SCHEMES,
    Scheme,
    one_of,
    scheme_of,
)


def name(scheme: Scheme) -> str:
    return scheme.name


@pytest.mark.parametrize("scheme", SCHEMES, ids=name)
def test_its_form_makes_its_adapter(scheme: Scheme) -> None:
    assert scheme_of(scheme.form) is scheme
    adapter = adapter_of(scheme.form, prefix="shop", publish_timeout=1.0)
    assert type(adapter).__name__ == scheme.carrier.value.partition(" ")[0]
    assert adapter.prefix == "shop"


@pytest.mark.parametrize("scheme", SCHEMES, ids=name)
@pytest.mark.parametrize("kind", [Emitter, AsyncEmitter])
def test_an_emitter_takes_the_form_if_the_table_says_so(
    scheme: Scheme, kind: type[Emitter | AsyncEmitter]
) -> None:
    assert (f"`{scheme.name}://`" in (kind.__doc__ or "")) == scheme.emitters
    if scheme.emitters:
        kind(scheme.form)
    else:
        with pytest.raises(ConfigurationError):
            kind(scheme.form)


@pytest.mark.parametrize("url", ["http://user:secret@host", "localhost:6379", "", "redis:/host"])
def test_an_unknown_url_is_refused_with_every_form(url: str) -> None:
    assert scheme_of(url) is None
    with pytest.raises(ConfigurationError) as raised:
        RoomManager(url)
    assert all(form in str(raised.value) for form in FORMS)
    assert "secret" not in str(raised.value)
    with pytest.raises(ConfigurationError) as raised:
        Emitter(url)
    assert all(scheme.form in str(raised.value) for scheme in SCHEMES if scheme.emitters)
    assert "memory://" not in str(raised.value)


def test_an_emitter_is_told_that_memory_leads_nowhere_else() -> None:
    with pytest.raises(ConfigurationError, match="memory:// leads to this process only"):
        Emitter("memory://")


def test_forms_are_listed_as_in_a_sentence() -> None:
    assert one_of(["a"]) == "a"
    assert one_of(["a", "b", "c"]) == "a, b or c"
