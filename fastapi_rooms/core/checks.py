"""Settings: which numbers a setting may have, and what is said of those it may not."""

from __future__ import annotations

from math import isfinite

from fastapi_rooms.errors import ConfigurationError


def check_positive(name: str, value: object, unit: str = "seconds") -> None:
    """Raise `ConfigurationError` unless `value` is a finite number above zero."""
    if _number(value) <= 0:
        raise ConfigurationError(f"{name} must be {unit} above zero, not {value!r}.")


def check_not_negative(name: str, value: object, unit: str = "seconds") -> None:
    """Raise `ConfigurationError` unless `value` is a finite number that is not below zero."""
    if _number(value) < 0:
        raise ConfigurationError(f"{name} must be {unit}, zero or more, not {value!r}.")


def check_count(name: str, value: object, unit: str) -> None:
    """Raise `ConfigurationError` unless `value` is a whole number of at least one."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(
            f"{name} must be a whole number of {unit} above zero, not {value!r}."
        )


def _number(value: object) -> float:
    """The number that `value` is, or one that no setting can have."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return -1
    return value
