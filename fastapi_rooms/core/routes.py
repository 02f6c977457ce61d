"""Which backend serves a path: by whole segments, the longest beginning wins."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi_rooms.errors import ConfigurationError

MAX_NAME = 100
"""Characters that the name of a backend has at most."""

_ENDS = {"?", "#", "%"}  # what a path that came is decoded to is compared


class Routes:
    """Names of backends by path. Raises `ConfigurationError` for what is no path or name."""

    def __init__(self, routes: Mapping[str, str]) -> None:
        if not routes:
            raise ConfigurationError('A Gateway needs routes, such as {"/chat": "chat"}.')
        self._by_segments: dict[tuple[str, ...], str] = {}
        for path, name in routes.items():
            if not path.startswith("/"):
                raise ConfigurationError(f"The route {path!r} is no path that begins with a slash.")
            if has_dots(path) or not _ENDS.isdisjoint(path):
                raise ConfigurationError(
                    f"The route {path!r} is no path: write it decoded, and without a query."
                )
            check_name(f"The route {path!r}", name)
            segments = _segments(path)
            if segments in self._by_segments:
                raise ConfigurationError(f"There are two routes for {path!r}.")
            self._by_segments[segments] = name
        self._longest = max(map(len, self._by_segments))
        self.names = dict(routes)
        """As they were given."""

    def find(self, path: str) -> str | None:
        """The name of the backend for a path, decoded once; or `None`."""
        segments = _segments(path)
        for size in range(min(len(segments), self._longest), -1, -1):
            name = self._by_segments.get(segments[:size])
            if name is not None:
                return name
        return None


def check_name(what: str, name: object) -> None:
    """Raise `ConfigurationError` unless `name` can be that of a backend."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise ConfigurationError(
            f"{what} needs the name of a backend, of 1 to {MAX_NAME} characters, not {name!r}."
        )


def has_dots(path: str) -> bool:
    """Whether a path has segments that stand for this folder, or the one above."""
    return any(segment in (".", "..") for segment in path.split("/"))


def _segments(path: str) -> tuple[str, ...]:
    stripped = path.strip("/")
    return tuple(stripped.split("/")) if stripped else ()
