"""Why RabbitMQ could not be connected to or refused something, in words that say what to do."""

from __future__ import annotations

import ssl

from fastapi_rooms.adapters.rabbitmq.links.frames import ProtocolError

ACCESS_REFUSED, NOT_FOUND, NOT_ALLOWED = 403, 404, 530


class Refused(Exception):
    """RabbitMQ has closed the connection or a channel of it, and says why."""

    def __init__(self, code: int, text: str, *, logging_in: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.logging_in = logging_in
        """Whether it refused the login."""

    def __str__(self) -> str:
        """What it says, and what to do about it."""
        if self.logging_in and self.code == ACCESS_REFUSED:
            return (
                f"{self.text.rstrip('.')}. Check the user and the password; in a URL both are "
                "percent-encoded: amqp://user:password@host:5672/vhost. The user guest may log in "
                "from RabbitMQ's own machine only"
            )
        if self.code == NOT_ALLOWED and "vhost" in self.text:
            return (
                f"{self.text}. The virtual host is the path of the URL, percent-encoded: "
                "amqp://user:password@host:5672/vhost; without one it is /"
            )
        if self.code == ACCESS_REFUSED:
            return (
                f"{self.text}. The user needs to configure, write and read what begins with the "
                "prefix: rabbitmqctl set_permissions -p <vhost> <user> '^rooms' '^rooms' '^rooms'"
            )
        return self.text


def is_refused(error: BaseException) -> bool:
    """Whether RabbitMQ rejects the login, or forbids what is required."""
    return isinstance(error, Refused) and error.code in (ACCESS_REFUSED, NOT_ALLOWED)


def reason_of(error: BaseException) -> str:
    """The reason, and its cure where there is one. It holds no password."""
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, ProtocolError):
        return f"what came is not AMQP 0-9-1: {error}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate is not trusted: {error.verify_message}. Name the authority that "
            "signed it: amqps://…?cafile=/path/to/ca.pem"
        )
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer came in time"
    return str(error) or type(error).__name__
