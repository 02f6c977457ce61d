"""Why RabbitMQ could not be connected to or refused something, in words that say what to do."""

from __future__ import annotations

import re
import ssl
from typing import Final

from fastapi_rooms.adapters.rabbitmq.links.frames import ProtocolError
from fastapi_rooms.core.printable import printable

ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, NOT_ALLOWED = 403, 404, 406, 530

_MAX_TEXT: Final = 400
"""Characters of what a broker says that are passed on."""

_NAME = re.compile(r"(?:exchange|queue) '([^']+?)(?:\.[0-9a-f]{16}(?:\.lost)?)?' in vhost")
"""The exchange, or the queue, that something is said of: a queue's name begins with the former."""

_VHOST_DOWN = re.compile(r"vhost '[^']*' is down")

_LIMIT = re.compile(r"limit \(\d+\) is reached")


def said(text: object) -> str:
    """What a broker says, fit for a log or an error."""
    return printable(str(text)[:_MAX_TEXT])


def permissions_for(exchange: str) -> str:
    """The command that lets a user do what a worker needs: it takes regular expressions."""
    pattern = f"'^{re.escape(exchange)}'"
    return f"rabbitmqctl set_permissions -p <vhost> <user> {pattern} {pattern} {pattern}"


class Refused(Exception):
    """RabbitMQ has closed the connection or a channel of it, and says why."""

    def __init__(self, code: int, text: str, *, logging_in: bool = False) -> None:
        text = said(text)
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
        if self.is_limit:
            return f"{self.text}. A worker needs two connections, an emitter one: raise the limit"
        if _VHOST_DOWN.search(self.text):
            return (
                f"{self.text}. RabbitMQ's log says why, and rabbitmqctl restart_vhost -p <vhost> "
                "starts it again"
            )
        if self.code == NOT_ALLOWED and "vhost" in self.text:
            return (
                f"{self.text}. The virtual host is the path of the URL, percent-encoded: "
                "amqp://user:password@host:5672/vhost; without one it is /"
            )
        if self.code == ACCESS_REFUSED:
            name = _NAME.search(self.text)
            return (
                f"{self.text}. The user needs to configure, write and read what begins with the "
                f"prefix: {permissions_for(name[1] if name else 'rooms')}"
            )
        if self.code == PRECONDITION_FAILED and "for exchange" in self.text:
            return (
                f"{self.text}. Something else has made an exchange of that name: choose another "
                "prefix, or delete the exchange if nothing uses it"
            )
        return self.text

    @property
    def is_limit(self) -> bool:
        """Whether there are as many connections as there may be: one may end."""
        return self.code == NOT_ALLOWED and bool(_LIMIT.search(self.text))


def is_refused(error: BaseException) -> bool:
    """Whether RabbitMQ rejects the login, or forbids what is required."""
    if not isinstance(error, Refused) or error.is_limit:
        return False
    return error.code in (ACCESS_REFUSED, NOT_ALLOWED)


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
