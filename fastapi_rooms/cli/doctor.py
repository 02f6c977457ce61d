"""The checks of `fastapi-rooms doctor`.

All but those of the server's settings use what applications use: a manager, which observes, and an
emitter, whose messages it receives.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from statistics import median
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from redis.asyncio import Redis
from redis.exceptions import RedisError

from fastapi_rooms import (
    AdapterUnavailable,
    RequestError,
    RequestTimeout,
    RoomManager,
    Worker,
    __version__,
)
from fastapi_rooms.adapters import verifies
from fastapi_rooms.cli.advice import TRUST, advice_for, hello, settings_of
from fastapi_rooms.cli.edge_checks import edge_findings
from fastapi_rooms.cli.findings import Finding, Grade
from fastapi_rooms.cli.history_checks import history_findings
from fastapi_rooms.cli.output import plural
from fastapi_rooms.cli.presence_checks import presence_findings
from fastapi_rooms.cli.rabbitmq_checks import advice_for_rabbitmq, rabbitmq_findings
from fastapi_rooms.cli.session import Session, check_connected

ROUND_TRIPS = 5
SLOW = 0.05
"""A round trip longer than this, in seconds, is noticeable to people."""
SMALL_BUFFER = 8 * 1024 * 1024
"""In bytes: Redis' default soft limit, which a few large messages reach."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ANYONES = "TLS, but the server's certificate is not verified: it could be anyone's"


async def examine(session: Session) -> AsyncIterator[Finding]:
    """Run the checks in order; without a connection the first one is the only one.

    Raises:
        UsageError: the options are invalid.
    """
    manager = session.manager()
    try:
        async with manager:
            check_connected(manager)
            text = f"connected; messages published on {session.prefix}#… are received"
            yield Finding("connection", Grade.OK, text)
            yield encryption(session.carrier_url)
            for finding in await _server(session):
                yield finding
            yield await _round_trip(session, manager)
            if not session.is_rabbitmq:
                for finding in await history_findings(session):
                    yield finding
                for finding in await presence_findings(session):
                    yield finding
            for finding in await _workers(session, manager):
                yield finding
    except AdapterUnavailable as error:
        advice = await (advice_for_rabbitmq if session.is_rabbitmq else advice_for)(session)
        yield Finding("connection", Grade.WRONG, str(error), advice)


def encryption(url: str) -> Finding:
    """Whether the connection is encrypted, or does not leave this machine."""
    parts = urlsplit(url)
    if parts.scheme == "amqps":
        return _identity_of_rabbitmq(url)
    if parts.scheme.startswith("rediss"):
        return _identity_of_redis(dict(parse_qsl(parts.query)))
    hosts = [host.rpartition("@")[2] for host in parts.netloc.split(",")]
    if parts.scheme == "unix" or all(urlsplit(f"//{h}").hostname in _LOOPBACK for h in hosts):
        text = f"no TLS, and none needed: {_carrier_of(parts.scheme)} is on this machine"
        return Finding("encryption", Grade.OK, text)
    secure = "amqps://" if parts.scheme == "amqp" else "rediss://"
    advice = f"Use {secure} unless the network is your own."
    return Finding("encryption", Grade.NOTE, "no TLS", advice)


def _carrier_of(scheme: str) -> str:
    return "RabbitMQ" if scheme.startswith("amqp") else "Redis"


def _identity_of_rabbitmq(url: str) -> Finding:
    """Whether TLS verifies the identity of the server."""
    if verifies(url):
        return Finding("encryption", Grade.OK, "TLS")
    advice = (
        "Remove verify, or no_verify_ssl, and trust the server's CA: "
        "amqps://…?cafile=/path/to/ca.pem"
    )
    return Finding("encryption", Grade.NOTE, _ANYONES, advice)


def _identity_of_redis(options: dict[str, str]) -> Finding:
    """Whether TLS verifies the identity of the server."""
    if options.get("ssl_cert_reqs", "").lower() in ("none", "cert_none"):
        advice = f"Remove ssl_cert_reqs=none. {TRUST}"
        return Finding("encryption", Grade.NOTE, _ANYONES, advice)
    if options.get("ssl_check_hostname", "").lower() in ("false", "f", "no", "n", "0"):
        text = "TLS, but a certificate for any host name is accepted"
        return Finding("encryption", Grade.NOTE, text, "Remove ssl_check_hostname=false.")
    return Finding("encryption", Grade.OK, "TLS")


async def _server(session: Session) -> list[Finding]:
    """The version and settings of the server, as far as this user may read them."""
    if session.is_rabbitmq:
        return await rabbitmq_findings(session)
    if not session.is_one_server:
        text = "several servers: their versions and settings are not checked"
        return [
            Finding("server", Grade.UNKNOWN, text, "Check each: redis-cli -h <host> INFO server")
        ]
    client: Any = Redis.from_url(
        session.redis_url, socket_timeout=session.timeout, socket_connect_timeout=session.timeout
    )
    async with client:
        return [await _version(client), await _output_buffer(client)]


async def _version(client: Any) -> Finding:
    try:
        version = (await hello(client))[b"version"].decode("ascii", "replace")
    except (RedisError, KeyError, TypeError, ValueError, AttributeError) as error:
        return Finding("server", Grade.UNKNOWN, f"the version is unknown: {error}")
    return Finding("server", Grade.OK, f"version {version}")


async def _output_buffer(client: Any) -> Finding:
    subject, setting = "output buffer", "client-output-buffer-limit"
    try:
        hard, soft, seconds = pubsub_limit((await settings_of(client, setting))[setting])
    except (RedisError, ValueError, LookupError):
        advice = f"Ask the administrator of Redis for {setting}."
        return Finding(subject, Grade.UNKNOWN, "this user may not read the setting", advice)
    text = f"{setting} pubsub {hard} {soft} {seconds}"
    if not all(limit == 0 or limit >= SMALL_BUFFER for limit in (hard, soft)):
        advice = (
            "Redis disconnects a worker that is busy for a moment. Raise the limit: "
            f'CONFIG SET {setting} "pubsub 33554432 8388608 60"'
        )
        return Finding(subject, Grade.NOTE, text, advice)
    return Finding(subject, Grade.OK, text)


def pubsub_limit(setting: str) -> tuple[int, int, int]:
    """Parse the `pubsub` part of `client-output-buffer-limit`: hard, soft (bytes), soft seconds."""
    words = setting.split()
    at = words.index("pubsub")
    hard, soft, seconds = map(int, words[at + 1 : at + 4])
    return hard, soft, seconds


async def _round_trip(session: Session, manager: RoomManager) -> Finding:
    """Measure how long a message takes from an emitter to a listener."""
    room = f"{secrets.token_hex(8)}.{secrets.token_urlsafe(12)}"  # as a sid: it has no history
    durations = []
    try:
        async with (
            asyncio.timeout(session.timeout),
            session.emitter() as emitter,
            manager.listen(room) as messages,
        ):
            for _ in range(ROUND_TRIPS):
                start = time.perf_counter()
                await emitter.to(room).send_text("")
                await anext(messages)
                durations.append(time.perf_counter() - start)
    except TimeoutError:
        text = f"a message did not arrive within {session.timeout:g} s"
        return Finding(
            "round trip", Grade.WRONG, text, f"Is {session.carrier}, or this machine, overloaded?"
        )
    text = f"{median(durations) * 1000:.1f} ms from publishing to receiving"
    if median(durations) > SLOW:
        return Finding(
            "round trip", Grade.NOTE, text, f"Run the workers closer to {session.carrier}."
        )
    return Finding("round trip", Grade.OK, text)


async def _workers(session: Session, manager: RoomManager) -> Sequence[Finding]:
    """Whether there are workers, whether they answer, and whether they run one version."""
    silent, unsupported = 0, 0
    refused: list[str] = []
    try:
        workers = await manager.workers()
    except RequestError as error:
        workers = error.partial
        refused = [why for node, why in error.refusals.items() if node not in error.unsupported]
        unsupported = len(error.unsupported)
        if isinstance(error, RequestTimeout):
            silent = len(error.silent) + error.unidentified
    if not workers and not refused and not unsupported and not silent:
        advice = (
            f"If some should run: do they use this {session.carrier}, and the prefix "
            f"{session.prefix!r}?"
        )
        return [Finding("workers", Grade.NOTE, "there are none", advice)]
    findings = []
    if silent:
        advice = "Check whether they are blocked: a busy loop, a debugger, a stopped process."
        findings.append(
            Finding("workers", Grade.WRONG, f"{plural(silent, 'worker')} did not answer", advice)
        )
    if refused:
        text = (
            f"{plural(len(refused), 'worker')} refused to answer: {'; '.join(sorted(set(refused)))}"
        )
        advice = "Check their logs."
        findings.append(Finding("workers", Grade.WRONG, text, advice))
    if workers:
        sockets = sum(worker.sockets for worker in workers)
        text = f"{plural(len(workers), 'worker')} answered, with {plural(sockets, 'socket')}"
        findings.append(Finding("workers", Grade.OK, text))
    return [*findings, *edge_findings(workers), *_versions(workers, unsupported)]


def _versions(workers: list[Worker], unsupported: int) -> list[Finding]:
    versions = sorted({worker.version for worker in workers})
    if unsupported or len(versions) > 1:
        text = f"workers differ: {', '.join([*versions, *['an older one'] * bool(unsupported)])}"
        return [Finding("versions", Grade.NOTE, text, "Finish the deployment.")]
    if versions and versions != [__version__]:
        text = f"the workers have {versions[0]}, this command has {__version__}"
        return [Finding("versions", Grade.NOTE, text)]
    return [Finding("versions", Grade.OK, version) for version in versions]
