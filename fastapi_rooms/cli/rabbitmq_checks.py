"""The checks of `fastapi-rooms doctor` that are RabbitMQ's."""

from __future__ import annotations

import ssl

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.adapters import RabbitMQReport, report_on_rabbitmq
from fastapi_rooms.cli.findings import Finding, Grade
from fastapi_rooms.cli.output import plural
from fastapi_rooms.cli.session import Session

REACH = "Check that RabbitMQ runs, and that its host and port (5672) are reachable from here."
OTHER = "Check that the URL leads to a RabbitMQ, and see its log."
ALARM = (
    "RabbitMQ takes nothing until it has memory and disk again: see rabbitmq-diagnostics alarms, "
    "vm_memory_high_watermark and disk_free_limit."
)
CHANNELS = 3
"""Channels of one connection that a worker uses."""


async def rabbitmq_findings(session: Session) -> list[Finding]:
    """The version, what this user may do, alarms and limits."""
    try:
        report = await report_on_rabbitmq(session.url, session.prefix, session.timeout)
    except AdapterUnavailable as error:
        return [Finding("server", Grade.UNKNOWN, str(error))]
    return [_server(report), _permissions(report), _alarms(report), _limits(report)]


async def advice_for_rabbitmq(session: Session) -> str:
    """What to do about a manager that cannot connect."""
    try:
        report = await report_on_rabbitmq(session.url, session.prefix, session.timeout)
    except AdapterUnavailable as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLCertVerificationError):
            return REACH
        return str(error).partition(". ")[2] or OTHER  # what is wrong, and then what to do
    return ALARM if report.alarm else _limits(report).advice or report.permissions


def _server(report: RabbitMQReport) -> Finding:
    text = f"{report.product} {report.version}"
    if report.product != "RabbitMQ":
        return Finding("server", Grade.NOTE, f"{text}, with which nothing here was tried")
    return Finding("server", Grade.OK, text)


def _permissions(report: RabbitMQReport) -> Finding:
    text = f"this user may configure, write and read what it needs of {report.exchange}"
    return Finding("permissions", Grade.OK, text)


def _alarms(report: RabbitMQReport) -> Finding:
    if report.alarm:
        return Finding("alarms", Grade.WRONG, report.alarm, ALARM)
    return Finding("alarms", Grade.OK, "none: what is published is taken")


def _limits(report: RabbitMQReport) -> Finding:
    channels = plural(report.channel_max, "channel") if report.channel_max else "any channels"
    text = f"{channels} in a connection, frames of {report.frame_max or 'any number of'} bytes"
    if 0 < report.channel_max < CHANNELS:
        advice = f"A worker needs {CHANNELS}: raise channel_max in rabbitmq.conf."
        return Finding("limits", Grade.WRONG, text, advice)
    return Finding("limits", Grade.OK, text)
