"""JSON as FastAPI's users have it: what Starlette reads and sends, and what applications hold.

orjson does what it can do exactly, which is nearly everything, in a fraction of the time. The
standard library's `json`, which Starlette uses, does the rest: integers past 64 bits, keys that are
no strings, lone surrogates, deep nesting. What neither knows, such as a Pydantic model, a set or a
Decimal, is converted as FastAPI does it for a response.
"""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from decimal import Decimal
from math import isfinite
from typing import Any, Protocol

import orjson

_ANY_KEYS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS

_DIGITS = bytes(48 if 48 <= byte <= 57 else 32 for byte in range(256))
"""A translation that leaves digits only, all of them zeros."""
_LONG_NUMBER = b"0" * 19
"""Integers of fewer digits fit into 64 bits."""


class JsonCodec(Protocol):
    """How values become JSON, and JSON values: `RoomManager(json=…)` takes one of your own."""

    def dumps(self, value: Any) -> bytes:
        """The value as JSON, in UTF-8. Raises `TypeError` or `ValueError` if it has no JSON."""

    def loads(self, data: str | bytes) -> Any:
        """The value that JSON text stands for. Raises `ValueError` if it is none."""


MAX_DEPTH = 500
"""Lists and objects within each other that are read from a client: so many can also be written."""

_WIRE_MARGIN = 100
"""How much deeper is what holds a client's values: the data of its socket in an answer, say."""


class DefaultJson:
    """The codec of a manager that is given none.

    Whatever it reads it can write, and with something around it, too: an endpoint that sends what
    a client has sent cannot be made to fail by that client.
    """

    def __init__(self, max_depth: int = MAX_DEPTH, *, finite: bool = False) -> None:
        self._max_depth = max_depth
        self._finite = finite

    def dumps(self, value: Any) -> bytes:
        """The value as JSON.

        Raises:
            TypeError: it holds something that has no JSON form.
            ValueError: it holds itself.
        """
        try:
            return orjson.dumps(value, _convert, orjson.OPT_SERIALIZE_NUMPY)
        except TypeError:  # perhaps only orjson cannot
            return _dumps_exactly(value)

    def loads(self, data: str | bytes) -> Any:
        """The value that JSON text stands for, its integers exact.

        Raises:
            ValueError: it is no JSON, is nested too deeply, or has a number of thousands of digits.
        """
        value = self._loads(data)
        if len(data) > self._max_depth:  # else it cannot be that deep
            _check_depth(data, value, self._max_depth)
        return value

    def _loads(self, data: str | bytes) -> Any:
        try:
            if len(data) < len(_LONG_NUMBER):
                return orjson.loads(data)
            # orjson makes floats of integers past 64 bits. `in` on bytes takes longer than `find`.
            raw = data.encode() if isinstance(data, str) else data
            if raw.translate(_DIGITS).find(_LONG_NUMBER) < 0:
                return orjson.loads(data)
        except ValueError:  # perhaps only orjson cannot: half a surrogate pair, say, or NaN
            pass
        return _loads_exactly(data, finite=self._finite)


DEFAULT_JSON: JsonCodec = DefaultJson()

WIRE_JSON: JsonCodec = DefaultJson(MAX_DEPTH + _WIRE_MARGIN, finite=True)
"""For what workers say to each other: numbers that are none are never among it."""


def _check_depth(data: str | bytes, value: Any, limit: int) -> None:
    """Raise `ValueError` for a value whose lists and objects are nested more deeply."""
    lists, objects = ("[", "{") if isinstance(data, str) else (b"[", b"{")
    if data.count(lists) + data.count(objects) <= limit:  # type: ignore[arg-type]
        return
    try:
        orjson.dumps(value)  # fast, and does not go deep
    except (TypeError, ValueError):
        level = [value] if isinstance(value, dict | list) else []
        while level := [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]:
            limit -= 1
            if limit <= 0:
                raise ValueError("nested too deeply") from None


def _loads_exactly(data: str | bytes, *, finite: bool) -> Any:
    number = _finite if finite else None
    try:
        return json.loads(data, parse_float=number, parse_constant=number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text[:20]} is no number of JSON's")
    return number


def _dumps_exactly(value: Any) -> bytes:
    try:
        text = _dumps_by_json(value)
    except RecursionError:
        raise ValueError("This value is nested too deeply for JSON.") from None
    except TypeError as error:  # perhaps only json cannot: keys that are a UUID, a date, an Enum
        try:
            return orjson.dumps(value, _convert, _ANY_KEYS)
        except TypeError:
            raise error from None
    if "NaN" in text or "Infinity" in text:  # perhaps as a number, for which JSON has null
        text = _dumps_by_json(json.loads(text, parse_constant=lambda _: None))
    return text.encode()


def _dumps_by_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), default=_convert_any)


def _convert(value: Any) -> Any:
    """What stands for a value that orjson leaves to us, as FastAPI has it in a response."""
    if isinstance(value, tuple | set | frozenset):  # of tuples, the named ones
        return list(value)
    if isinstance(value, Decimal):
        exponent = value.as_tuple().exponent
        return int(value) if isinstance(exponent, int) and exponent >= 0 else float(value)
    if hasattr(value, "model_dump") and not isinstance(value, type):
        return value.model_dump(mode="json")
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    raise TypeError(
        f"A value of type {module}{kind.__qualname__} cannot be sent as JSON. Convert it first "
        "(FastAPI's `jsonable_encoder` may serve), or give the manager a codec that can: "
        "`RoomManager(json=…)`."
    )


def _convert_any(value: Any) -> Any:
    """What stands for a value that the standard library leaves to us: what orjson makes of it."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    try:
        return orjson.loads(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
    except TypeError:
        return _convert(value)
