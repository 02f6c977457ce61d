"""RabbitMQ URLs: every spelling that there is, and no password in what is said of them."""

from __future__ import annotations

import ssl
import subprocess
import sys

import pytest

from fastapi_rooms import (
    AsyncEmitter,
    ConfigurationError,
    Emitter,
    RabbitMQAdapter,
    RoomManager,
)
from fastapi_rooms.adapters.rabbitmq.links.access import access_of
from fastapi_rooms.adapters.rabbitmq.links.frames import ProtocolError
from fastapi_rooms.adapters.rabbitmq.links.reasons import Refused, is_refused, reason_of
from fastapi_rooms.testing import Certificates


@pytest.mark.parametrize(
    ("url", "vhost"),
    [
        ("amqp://host", "/"),
        ("amqp://host/", "/"),
        ("amqp://host//", "/"),
        ("amqp://host/%2F", "/"),
        ("amqp://host/%2f", "/"),
        ("amqp://host/prod", "prod"),
        ("amqp://host/a%2Fb", "a/b"),
        ("amqp://host/%C3%BC", "ü"),
        ("AMQP://host/prod?heartbeat=3", "prod"),
    ],
)
def test_the_path_is_the_virtual_host(url: str, vhost: str) -> None:
    assert access_of(url, "x").vhost == vhost


def test_a_login_is_decoded_and_left_out_is_guests() -> None:
    assert access_of("amqp://host", "x")[1:3] == ("guest", "guest")
    assert access_of("amqp://u%40:p%2F%3A@host", "x")[1:3] == ("u@", "p/:")
    assert access_of("amqp://ann:@host", "x")[1:3] == ("ann", "")


def test_there_may_be_several_hosts() -> None:
    access = access_of("amqp://one,two:1,[::1]:2/v", "x")
    assert access.hosts == (("one", 5672), ("two", 1), ("::1", 2))
    assert access_of("amqps://one,two", "x").hosts == (("one", 5671), ("two", 5671))
    assert access_of("amqp://", "x").hosts == (("localhost", 5672),)


def test_options_are_those_of_rabbitmq_and_of_its_clients() -> None:
    access = access_of("amqp://h?heartbeat=3&connection_name=shop&auth_mechanism=EXTERNAL", "x")
    assert (access.heartbeat, access.name, access.external) == (3, "shop", True)
    for query in ("verify=verify_none", "no_verify_ssl=1", "verify=none"):
        tls = access_of(f"amqps://h?{query}", "x").tls
        assert tls is not None
        assert tls.verify_mode is ssl.CERT_NONE
    tls = access_of("amqps://h", "x").tls
    assert tls is not None
    assert tls.check_hostname
    assert access_of("amqp://h", "x").tls is None


def test_a_context_of_ones_own_is_used(certificates: Certificates) -> None:
    context = ssl.create_default_context(cafile=str(certificates.authority))
    assert access_of("amqps://h", "x", context).tls is context
    with pytest.raises(ConfigurationError, match="amqps://"):
        RabbitMQAdapter("amqp://h", ssl=context)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("amqp://user:sec/ret@host", "can be read in two ways"),
        ("amqp://user:sec#ret@host", "can be read in two ways"),
        ("amqp://user:secret@one,user:secret@two", "stands once"),
        ("amqp://user:secret@host:99999", "Ports are 1 to 65535"),
        ("amqp://user:secret@ho st", "hosts or ports"),
        ("amqp://user:secret@host?heartbeat=0", "whole seconds from 1 to 60"),
        ("amqp://user:secret@host?heartbeat=secret", "whole seconds"),
        ("amqp://user:secret@host?hartbeat=1", "did you mean heartbeat"),
        ("amqp://user:secret@host?secret=1", "There are heartbeat"),
        ("amqp://user:secret@host?cafile=/secret.pem", "amqps://"),
        ("amqps://user:secret@host?cafile=/secret.pem", "PEM"),
        ("amqps://user:secret@host?verify=secret", "peer or none"),
        ("amqp://user:secret@host?auth=secret", "plain or external"),
        (f"amqp://user:secret@host/{'x' * 256}", "at most 255 bytes"),
        ("pyamqp://user:secret@host", "Write amqp:// for pyamqp://"),
    ],
)
def test_one_that_cannot_be_used_is_refused_and_not_quoted(url: str, why: str) -> None:
    for take in (RabbitMQAdapter, RoomManager, Emitter, AsyncEmitter):
        with pytest.raises(ConfigurationError, match=why) as raised:
            take(url)
        assert "secret" not in str(raised.value)
    assert "secret" not in repr(access_of("amqp://user:secret@host", "x"))


def test_other_things_than_urls_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="takes a URL"):
        RabbitMQAdapter(5)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ConfigurationError, match="RabbitMQAdapter takes amqp://"):
        RabbitMQAdapter("redis://host")


@pytest.mark.parametrize(
    "settings",
    [{"publish_timeout": 0}, {"probe_interval": -1}, {"max_queue_bytes": 0}, {"prefix": "amq.x"}],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        RabbitMQAdapter("amqp://host", **settings)  # type: ignore[arg-type]  # on purpose


def test_without_the_extra_all_else_works_and_the_error_names_it() -> None:
    program = """
import sys
sys.modules["pamqp"] = None
import fastapi_rooms, fastapi_rooms.cli, fastapi_rooms.testing
fastapi_rooms.RoomManager("redis://host")
for take in (
    fastapi_rooms.RoomManager,
    fastapi_rooms.RabbitMQAdapter,
    fastapi_rooms.Emitter,
    fastapi_rooms.AsyncEmitter,
):
    try:
        take("amqp://host")
    except fastapi_rooms.ConfigurationError as error:
        assert "fastapi-rooms[rabbitmq]" in str(error), error
    else:
        raise AssertionError(take)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_reasons_say_what_to_do() -> None:
    login = Refused(403, "ACCESS_REFUSED - Login was refused", logging_in=True)
    assert "percent-encoded" in str(login)
    assert is_refused(login)
    vhost = Refused(530, "NOT_ALLOWED - vhost x not found")
    assert "virtual host is the path" in reason_of(vhost)
    rights = Refused(403, "ACCESS_REFUSED - write access to exchange 'rooms' refused")
    assert "set_permissions" in reason_of(rights)
    of_queue = "ACCESS_REFUSED - access to queue 'a+b.0123456789abcdef.lost' in vhost '/' refused"
    assert r"'^a\+b' '^a\+b' '^a\+b'" in reason_of(Refused(403, of_queue))
    other = Refused(406, "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'rooms'")
    assert "another prefix" in reason_of(other)
    full = Refused(530, "NOT_ALLOWED - access to vhost 'x': connection limit (2) is reached")
    assert not is_refused(full)
    assert "raise the limit" in reason_of(full)
    assert len(reason_of(Refused(320, "\x1b\n" * 99999))) < 5000
    assert "\n" not in reason_of(Refused(320, "CONNECTION_FORCED - \n"))
    assert reason_of(Refused(320, "CONNECTION_FORCED - bye")) == "CONNECTION_FORCED - bye"
    assert not is_refused(Refused(320, "CONNECTION_FORCED - bye"))
    assert reason_of(ProtocolError("HTTP")) == "what came is not AMQP 0-9-1: HTTP"
    assert reason_of(TimeoutError()) == "no answer came in time"
    assert reason_of(OSError("refused")) == "refused"
    assert reason_of(ValueError()) == "ValueError"
    untrusted = ssl.SSLCertVerificationError(1, "self-signed")
    untrusted.verify_message = "self-signed certificate"
    assert "cafile" in reason_of(untrusted)
