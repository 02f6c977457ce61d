"""What `doctor` makes of what a RabbitMQ says of itself."""

from __future__ import annotations

import ssl

import pytest

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.adapters import RabbitMQReport
from fastapi_rooms.adapters.rabbitmq.links.frames import ProtocolError
from fastapi_rooms.adapters.rabbitmq.links.reasons import Refused, reason_of
from fastapi_rooms.cli import rabbitmq_checks
from fastapi_rooms.cli.findings import Grade
from fastapi_rooms.cli.rabbitmq_checks import advice_for_rabbitmq, rabbitmq_findings
from fastapi_rooms.cli.session import Session

SESSION = Session("amqp://localhost", "rooms", "/", 1.0)
SOUND = RabbitMQReport("RabbitMQ", "3.10.8", "rooms", 2047, 131072, "", "set_permissions")


def unavailable(cause: Exception) -> AdapterUnavailable:
    """What is raised where that is the reason."""
    error = AdapterUnavailable(reason_of(cause))
    error.__cause__ = cause
    return error


def untrusted() -> Exception:
    error = ssl.SSLCertVerificationError(1, "self-signed")
    error.verify_message = "self-signed certificate"
    return error


def says(monkeypatch: pytest.MonkeyPatch, answer: RabbitMQReport | Exception) -> None:
    async def report(*_: object) -> RabbitMQReport:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(rabbitmq_checks, "report_on_rabbitmq", report)


@pytest.mark.parametrize(
    ("report", "subject", "grade", "text"),
    [
        (SOUND, "server", Grade.OK, "RabbitMQ 3.10.8"),
        (SOUND._replace(product="LavinMQ"), "server", Grade.NOTE, "LavinMQ"),
        (SOUND, "alarms", Grade.OK, "none"),
        (SOUND._replace(alarm="low on memory"), "alarms", Grade.WRONG, "low on memory"),
        (SOUND._replace(channel_max=0), "limits", Grade.OK, "any channels"),
        (SOUND._replace(channel_max=2), "limits", Grade.WRONG, "2 channels"),
        (SOUND, "permissions", Grade.OK, "rooms"),
    ],
)
async def test_each_check_has_its_grade(
    monkeypatch: pytest.MonkeyPatch, report: RabbitMQReport, subject: str, grade: Grade, text: str
) -> None:
    says(monkeypatch, report)
    (finding,) = [found for found in await rabbitmq_findings(SESSION) if found.subject == subject]
    assert finding.grade is grade
    assert text in finding.text
    assert bool(finding.advice) == (grade is Grade.WRONG)


async def test_one_that_cannot_be_asked_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, AdapterUnavailable("it is gone"))
    (finding,) = await rabbitmq_findings(SESSION)
    assert (finding.grade, finding.text) == (Grade.UNKNOWN, "it is gone")


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (SOUND._replace(alarm="low on disk"), "disk_free_limit"),
        (SOUND, "set_permissions"),
        (SOUND._replace(channel_max=2), "raise channel_max"),
        (unavailable(Refused(403, "ACCESS_REFUSED - no", logging_in=True)), "Check the user"),
        (unavailable(Refused(530, "NOT_ALLOWED - vhost x not found")), "the path of the URL"),
        (unavailable(Refused(530, "user connection limit (1) is reached")), "raise the limit"),
        (unavailable(Refused(541, "INTERNAL_ERROR - vhost 'x' is down")), "restart_vhost"),
        (unavailable(Refused(320, "CONNECTION_FORCED - bye")), "see its log"),
        (unavailable(ProtocolError("HTTP is spoken there")), "leads to a RabbitMQ"),
        (unavailable(untrusted()), "Name the authority"),
        (unavailable(TimeoutError()), "Check that RabbitMQ runs"),
        (unavailable(ConnectionRefusedError("connection refused")), "Check that RabbitMQ runs"),
    ],
)
async def test_there_is_advice_for_whoever_cannot_connect(
    monkeypatch: pytest.MonkeyPatch, answer: RabbitMQReport | Exception, advice: str
) -> None:
    says(monkeypatch, answer)
    assert advice in await advice_for_rabbitmq(SESSION)
