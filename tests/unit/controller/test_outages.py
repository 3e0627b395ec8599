"""What the task queue says of an outage is one line, and nothing else of it is touched."""

from __future__ import annotations

import logging
import sys

import psycopg
import psycopg2
import pytest
from procrastinate.exceptions import ConnectorException
from psycopg_pool import PoolTimeout
from sqlalchemy.exc import OperationalError

from controller.keeper.outages import OneLineEach, is_outage


def wrapped(error: BaseException) -> BaseException:
    """As the queue's connector raises it."""
    outer = ConnectorException()
    outer.__cause__ = error
    return outer


def record(name: str, error: BaseException, **extra: object) -> logging.LogRecord:
    try:
        raise error
    except BaseException:  # noqa: BLE001
        made = logging.getLogger(name).makeRecord(
            name, logging.ERROR, __file__, 1, "it failed", (), sys.exc_info(), extra=extra
        )
    return made


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (psycopg2.OperationalError("connection refused"), True),
        (OperationalError("SELECT 1", {}, psycopg2.OperationalError("server closed the connection")), True),
        (wrapped(psycopg.errors.AdminShutdown("terminating connection")), True),
        (wrapped(psycopg.OperationalError("connection is bad")), True),
        (PoolTimeout("no connection after 10 s"), True),
        (psycopg.errors.LockNotAvailable("lock timeout"), False),
        (psycopg.errors.QueryCanceled("statement timeout"), False),
        (wrapped(psycopg.errors.UniqueViolation("twice")), False),
        (ValueError("a fault of ours"), False),
    ],
)
def test_what_is_an_outage(error: BaseException, outage: bool) -> None:
    """A lost connection, whoever tells it; neither a time-out nor a fault."""
    assert is_outage(error) is outage


def test_a_task_that_an_outage_broke_off_is_one_line() -> None:
    """What it was and why, as a warning without a traceback."""
    found = record(
        "procrastinate.worker", psycopg2.OperationalError("no\nserver"), job={"call_string": "plan[7]()"}
    )
    assert OneLineEach().filter(found)
    assert found.getMessage() == "task plan[7]() broke off and is tried again: no server"
    assert (found.levelno, found.levelname, found.exc_info) == (logging.WARNING, "WARNING", None)


def test_parts_of_the_queue_are_told_once() -> None:
    """The worker tells of its part; the same error as it is put away is left out."""
    error = wrapped(psycopg.OperationalError("gone"))
    found = record("procrastinate.worker.keeper@a", error, task_name="listener", action="side_task_failed")
    assert OneLineEach().filter(found)
    assert found.getMessage() == "the queue's part `listener` broke off and is tried again: gone"
    assert not OneLineEach().filter(record("procrastinate.utils", error, action="listener_error"))


def test_faults_keep_their_traceback() -> None:
    """Of a task that failed for another reason, and of other loggers, nothing changes."""
    for name, error in (
        ("procrastinate.worker", ValueError("ours")),
        ("controller.keeper.app", psycopg2.OperationalError("gone")),
    ):
        found = record(name, error)
        assert OneLineEach().filter(found)
        assert (found.getMessage(), found.levelno) == ("it failed", logging.ERROR)
        assert found.exc_info is not None
