"""Whether what the extra `rabbitmq` installs is here."""

from __future__ import annotations

from importlib.util import find_spec

from fastapi_rooms.errors import ConfigurationError


def require(who: str) -> None:
    """Raise `ConfigurationError`, which says how to get it, if it is missing."""
    try:
        is_here = find_spec("pamqp") is not None
    except ValueError:  # somebody has put something else in its place
        is_here = False
    if not is_here:
        raise ConfigurationError(
            f"{who} needs pamqp to speak with RabbitMQ: install the extra rabbitmq, "
            'pip install "fastapi-rooms[rabbitmq]"'
        )
