"""What the task queue logs when the database goes away: one line each, without the library's traceback.

The keeper itself tells when the database is gone and when it is back; what broke off meanwhile is told here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import psycopg
import psycopg2
from psycopg_pool import PoolTimeout

from controller.logs import reason

#: Classes of SQLSTATE that say that the connection is lost: connection exceptions, the server's shutdown or crash.
_LOST = ("08", "57P")


def is_outage(error: BaseException) -> bool:
    """Whether the database was away, for whatever library told it first."""
    return any(_tells_of_one(each) for each in _causes(error))


class OneLineEach(logging.Filter):
    """Turns the queue's errors of an outage into a warning of one line; everything else passes as it is."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is of use."""
        error = record.exc_info[1] if record.exc_info else None
        if not record.name.startswith("procrastinate") or error is None or not is_outage(error):
            return True
        if record.name == "procrastinate.utils":
            return False  # the same error again, as the worker's parts are put away
        record.msg, record.args = "%s broke off and is tried again: %s", (_what(record), reason(error))
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.exc_info = record.exc_text = None
        return True


def _what(record: logging.LogRecord) -> str:
    job = getattr(record, "job", None)
    if isinstance(job, dict):
        return f"task {job['call_string']}"
    part = getattr(record, "task_name", None) or str(getattr(record, "action", "")).removesuffix("_error")
    return f"the queue's part `{part}`"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        # SQLAlchemy keeps the driver's error beside the cause.
        error = getattr(error, "orig", None) or error.__cause__


def _tells_of_one(error: BaseException) -> bool:
    if isinstance(error, PoolTimeout):
        return True
    if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        code = error.pgcode
    elif isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        code = error.sqlstate
    else:
        return False
    # The library says so itself, without a code, when the connection breaks under it or does not come about.
    return code is None or code.startswith(_LOST)
