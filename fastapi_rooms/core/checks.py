"""Validates settings; the error names the setting, what it may be, and the value."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from fastapi_rooms.errors import ConfigurationError


def check_positive(name: str, value: object, unit: str = "seconds") -> None:
    """Raise `ConfigurationError` unless `value` is a finite number above zero."""
    if _number(value) <= 0:
        raise ConfigurationError(f"{name} must be {unit} above zero, not {value!r}.")


def check_not_negative(name: str, value: object, unit: str = "seconds") -> None:
    """Raise `ConfigurationError` unless `value` is a finite number of at least zero."""
    if _number(value) < 0:
        raise ConfigurationError(f"{name} must be {unit}, zero or more, not {value!r}.")


def check_count(name: str, value: object, unit: str) -> None:
    """Raise `ConfigurationError` unless `value` is an `int` of at least one."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(
            f"{name} must be a whole number of {unit} above zero, not {value!r}."
        )


def check_path(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless `value` is a path that begins with a slash."""
    if not isinstance(value, str) or not value.startswith("/"):
        raise ConfigurationError(f"{name} must be a path such as '/health', not {value!r}.")


def check_one_of(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise `ConfigurationError` unless `value` is one of some strings."""
    if not isinstance(value, str) or value not in choices:
        raise ConfigurationError(
            f"{name} must be {' or '.join(map(repr, choices))}, not {value!r}."
        )


def _number(value: object) -> float:
    """Return `value` if it is a finite number, else -1, which every check refuses."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return -1
    return value
