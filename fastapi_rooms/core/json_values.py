"""Values that JSON gives back as they were: what can be kept as JSON without becoming another."""

from __future__ import annotations

from math import isfinite
from typing import Any

from fastapi_rooms.core.json_codec import MAX_DEPTH

_AS_THEY_ARE = frozenset({str, int, bool, type(None)})
_CONTAINERS = (dict, list)
_PLAIN = (str, int, float, dict, list)

_Link = tuple[Any, Any] | None
"""Where something is: the place of what holds it, and the key or the index in that."""


class NotKept(ValueError):
    """A value would come back as another, or not at all: where it is, and why."""

    def __init__(self, why: str, path: tuple[Any, ...]) -> None:
        super().__init__(why)
        self.path = path
        """The keys and indices that lead to it, from the outermost."""


def copy_kept(values: dict[str, Any]) -> dict[str, Any]:
    """A copy, all the way down, of values that are to be kept as JSON.

    Types are taken exactly, as a subclass of `str` or `dict` would come back as a plain one.

    Raises:
        NotKept: JSON does not give one of them back as it is.
    """
    if type(values) is not dict:
        raise NotKept(_why(values), ())
    copied: dict[str, Any] = {}
    open_: list[tuple[Any, Any, _Link, int]] = [(values, copied, None, 1)]
    while open_:  # no recursion: it may be nested as deeply as a client likes
        source, target, link, depth = open_.pop()
        is_dict = type(target) is dict
        for key, value in source.items() if is_dict else enumerate(source):
            if is_dict and type(key) is not str:
                raise NotKept(f"has the key {key!r}, and keys come back as text", _path(link))
            kind = type(value)
            kept = value
            if kind not in _AS_THEY_ARE and not (kind is float and isfinite(value)):
                if kind not in _CONTAINERS:
                    raise NotKept(_why(value), _path((link, key)))
                if depth == MAX_DEPTH:
                    deep = f"holds itself, or has more than {MAX_DEPTH} levels"
                    raise NotKept(deep, _path((link, key))[:1])
                kept = kind()
                open_.append((value, kept, (link, key), depth + 1))
            if is_dict:
                target[key] = kept
            else:
                target.append(kept)
    return copied


def _path(link: _Link) -> tuple[Any, ...]:
    path = []
    while link is not None:
        link, key = link
        path.append(key)
    return tuple(reversed(path))


def _why(value: Any) -> str:
    kind = type(value)
    if kind is float:
        return f"is {value!r}, which JSON does not have"
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    name = f"is of type {module}{kind.__qualname__}"
    if isinstance(value, tuple | set | frozenset):
        return f"{name}, and would come back as a list"
    for plain in _PLAIN:
        if isinstance(value, plain):
            return f"{name}, and would come back as a plain {plain.__name__}"
    return f"{name}, which JSON does not have"
