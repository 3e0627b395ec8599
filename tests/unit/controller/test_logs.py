"""Log lines cannot be forged, and what is tried again and again is told when it changes."""

from __future__ import annotations

import logging

import psycopg
import pytest
from procrastinate.exceptions import ConnectorException
from sqlalchemy.exc import OperationalError

from controller.logs import LineFormatter, Trouble, reason


def test_control_characters_are_escaped() -> None:
    """A line break, a terminal's escape and a line separator in a host's name or a traceback make no new line."""
    try:
        raise ValueError("a\nb")
    except ValueError as error:
        record = logging.makeLogRecord(
            {
                "name": "controller.gateway",
                "levelname": "WARNING",
                "msg": "host %s",
                "args": ("x\r\n2030-01-01 INFO forged\x1b[2J\u2028",),
                "exc_info": (ValueError, error, error.__traceback__),
            }
        )
    line = LineFormatter().format(record)
    assert line.isprintable()
    assert "controller.gateway: host x\\r\\n2030-01-01 INFO forged\\x1b[2J\\u2028 | Traceback" in line
    assert "ValueError: a\\nb" in line


def test_the_reason_is_what_the_driver_said() -> None:
    """One line, without the background that SQLAlchemy names and the wrapping that says nothing."""
    refused = psycopg.OperationalError("connection failed:\n\tConnection refused")
    assert reason(OperationalError("SELECT 1", {}, refused)) == "connection failed: Connection refused"
    wrapped = ConnectorException("Database error.")
    wrapped.__cause__ = refused
    assert reason(wrapped) == "connection failed: Connection refused"
    assert reason(TimeoutError()) == "TimeoutError"


def test_trouble_is_told_when_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    """Once for each reason in turn, and once when it is over."""
    caplog.set_level(logging.INFO)
    trouble = Trouble(logging.getLogger("test"), failing="it fails", working="it works")
    trouble.worked()
    for why in ("a", "a", "b", "b"):
        trouble.failed(why)
    trouble.worked()
    trouble.worked()
    trouble.failed("b")
    assert [record.getMessage() for record in caplog.records] == [
        "it fails: a",
        "it fails: b",
        "it works",
        "it fails: b",
    ]
