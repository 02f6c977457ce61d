"""What `fastapi-rooms doctor` looks at, one finding after the other.

Everything but the server's own settings is found out in the way the application does it: by a
manager that looks, and an emitter that publishes for it to hear.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from enum import Enum
from statistics import median
from typing import Any, NamedTuple
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
from fastapi_rooms.cli.advice import TRUST, advice_for, hello
from fastapi_rooms.cli.session import Session, check_connected

ROUND_TRIPS = 5
SLOW = 0.05
"""Seconds for a message to come round, past which people notice."""
SMALL_BUFFER = 8 * 1024 * 1024
"""Bytes; Redis' own limit for a minute, and not more than a few large messages."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Grade(Enum):
    """How grave a finding is."""

    FINE = "ok"
    UNSURE = "?"
    NOTE = "note"
    WRONG = "WRONG"


class Finding(NamedTuple):
    """One thing that was looked at."""

    subject: str
    grade: Grade
    text: str
    advice: str = ""
    """What to do about it."""

    @property
    def is_wrong(self) -> bool:
        """Whether the application does not work as it is."""
        return self.grade is Grade.WRONG

    def as_row(self) -> dict[str, str]:
        """For JSON."""
        return {**self._asdict(), "grade": self.grade.value.lower()}


async def examine(session: Session) -> AsyncIterator[Finding]:
    """Look at one thing after the other, until one of them makes the next ones pointless.

    Raises:
        UsageError: the session's options make no sense.
    """
    manager = session.manager()
    try:
        async with manager:
            check_connected(manager)
            text = f"connected; what is published on {session.prefix}#… comes back"
            yield Finding("connection", Grade.FINE, text)
            yield encryption(session.url)
            for finding in await _server(session):
                yield finding
            yield await _round_trip(session, manager)
            for finding in await _workers(session, manager):
                yield finding
    except AdapterUnavailable as error:
        yield Finding("connection", Grade.WRONG, str(error), await advice_for(session))


def encryption(url: str) -> Finding:
    """Whether others on the way can read along."""
    parts = urlsplit(url)
    if parts.scheme.startswith("rediss"):
        return _identity(dict(parse_qsl(parts.query)))
    hosts = [host.rpartition("@")[2] for host in parts.netloc.split(",")]
    if parts.scheme == "unix" or all(urlsplit(f"//{h}").hostname in _LOOPBACK for h in hosts):
        return Finding("encryption", Grade.FINE, "none, and none needed: this machine")
    return Finding(
        "encryption", Grade.NOTE, "none", "Where the network is not your own, use rediss://"
    )


def _identity(options: dict[str, str]) -> Finding:
    """Whether whoever is at the other end of the TLS connection has to prove who it is."""
    if options.get("ssl_cert_reqs", "").lower() in ("none", "cert_none"):
        text = "TLS, but with whom is not known: the server's certificate is not checked"
        advice = f"Leave out ssl_cert_reqs=none. {TRUST}"
        return Finding("encryption", Grade.NOTE, text, advice)
    if options.get("ssl_check_hostname", "").lower() in ("false", "f", "no", "n", "0"):
        text = "TLS, but a certificate for any host is taken for the server's"
        return Finding("encryption", Grade.NOTE, text, "Leave out ssl_check_hostname=false.")
    return Finding("encryption", Grade.FINE, "TLS")


async def _server(session: Session) -> list[Finding]:
    """Its version and its settings, as far as this user may know them."""
    if "+" in urlsplit(session.url).scheme:
        text = "several servers: their versions and settings are not looked at"
        return [Finding("server", Grade.UNSURE, text, "Ask them: redis-cli -h <host> INFO server")]
    client: Any = Redis.from_url(
        session.url, socket_timeout=session.timeout, socket_connect_timeout=session.timeout
    )
    async with client:
        return [await _version(client), await _output_buffer(client)]


async def _version(client: Any) -> Finding:
    try:
        version = (await hello(client))[b"version"].decode("ascii", "replace")
    except (RedisError, KeyError, TypeError, ValueError, AttributeError) as error:
        return Finding("server", Grade.UNSURE, f"it does not tell its version: {error}")
    return Finding("server", Grade.FINE, f"version {version}")


async def _output_buffer(client: Any) -> Finding:
    subject, setting = "output buffer", "client-output-buffer-limit"
    try:
        reply: Any = await client.execute_command("CONFIG", "GET", setting, NEVER_DECODE=True)
        values = list(reply.values()) if isinstance(reply, dict) else reply[1::2]
        hard, soft, seconds = pubsub_limit(values[0].decode("ascii"))
    except (RedisError, ValueError, IndexError, AttributeError):
        advice = f"Ask the server's keeper for its {setting}."
        return Finding(subject, Grade.UNSURE, "this user may not ask for the limit", advice)
    text = f"{setting} pubsub {hard} {soft} {seconds}"
    if not all(limit == 0 or limit >= SMALL_BUFFER for limit in (hard, soft)):
        advice = (
            "A worker that is busy for a moment is cut off, and misses messages: "
            f'CONFIG SET {setting} "pubsub 33554432 8388608 60"'
        )
        return Finding(subject, Grade.NOTE, text, advice)
    return Finding(subject, Grade.FINE, text)


def pubsub_limit(setting: str) -> tuple[int, int, int]:
    """What `client-output-buffer-limit` says of subscribers: bytes, bytes, seconds."""
    words = setting.split()
    at = words.index("pubsub")
    hard, soft, seconds = map(int, words[at + 1 : at + 4])
    return hard, soft, seconds


async def _round_trip(session: Session, manager: RoomManager) -> Finding:
    """How long a message takes from an emitter to a listener."""
    room = f"doctor {secrets.token_hex(8)}"
    spans = []
    try:
        async with (
            asyncio.timeout(session.timeout),
            session.emitter() as emitter,
            manager.listen(room) as messages,
        ):
            for _ in range(ROUND_TRIPS):
                began = time.perf_counter()
                await emitter.to(room).send_text("")
                await anext(messages)
                spans.append(time.perf_counter() - began)
    except TimeoutError:
        text = f"a message did not come round in {session.timeout:g} s"
        return Finding("round trip", Grade.WRONG, text, "Is Redis, or this machine, overloaded?")
    text = f"{median(spans) * 1000:.1f} ms from publishing to receiving"
    if median(spans) > SLOW:
        return Finding("round trip", Grade.NOTE, text, "Bring the workers nearer to their Redis.")
    return Finding("round trip", Grade.FINE, text)


async def _workers(session: Session, manager: RoomManager) -> Sequence[Finding]:
    """Whether there are any, whether they answer, and whether they are of one version."""
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
        advice = f"If there should be: have they this Redis, and the prefix {session.prefix!r}?"
        return [Finding("workers", Grade.NOTE, "there are none", advice)]
    findings = []
    if silent:
        advice = "See whether they are blocked: a busy loop, a debugger, a stopped process."
        findings.append(Finding("workers", Grade.WRONG, f"{_some(silent)} did not answer", advice))
    if refused:
        text = f"{_some(len(refused))} would not say anything: {'; '.join(sorted(set(refused)))}"
        advice = "See what their logs say."
        findings.append(Finding("workers", Grade.WRONG, text, advice))
    if workers:
        sockets = sum(worker.sockets for worker in workers)
        text = f"{_some(len(workers))} answered, with {sockets} sockets"
        findings.append(Finding("workers", Grade.FINE, text))
    return [*findings, *_versions(workers, unsupported)]


def _versions(workers: list[Worker], unsupported: int) -> list[Finding]:
    versions = sorted({worker.version for worker in workers})
    if unsupported or len(versions) > 1:
        text = (
            f"different ones run: {', '.join([*versions, *['an older one'] * bool(unsupported)])}"
        )
        return [Finding("versions", Grade.NOTE, text, "Finish the deployment.")]
    if versions and versions != [__version__]:
        text = f"the workers have {versions[0]}, this command has {__version__}"
        return [Finding("versions", Grade.NOTE, text)]
    return [Finding("versions", Grade.FINE, version) for version in versions]


def _some(number: int) -> str:
    return f"{number} worker" if number == 1 else f"{number} workers"
