"""Makes a report: takes it up, gathers, composes, prints, and stores the file or why there is none.

Doing it twice is harmless: only who took it up last may finish it, and it is finished once.
"""

from __future__ import annotations

import logging

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from controller.errors import StreamSwarmError
from controller.reports.document import compose
from controller.reports.gather import gather
from controller.reports.press import Limits, print_pdf
from controller.store.commands import reports
from controller.store.queries.reports import ReportRecord

_log = logging.getLogger(__name__)


def make_report(engine: Engine, report_id: int, *, limits: Limits | None = None) -> bool:
    """Make a report that waits, or was cut short; return whether there is a file now."""
    with Session(engine) as session, session.begin():
        taken = reports.take_up(session, report_id)
    if taken is None:
        _log.info("report %s is deleted, done or given up", report_id)
        return False
    asked, attempt = taken
    try:
        content = _make(engine, asked, attempt, limits)
    except StreamSwarmError as error:
        _log.warning("report %s cannot be made: %s", report_id, error)
        with Session(engine) as session, session.begin():
            reports.fail(session, report_id, attempt, error=error.message, mend=error.mend)
        return False
    except OperationalError:
        # The database is away: the task tries again, or another keeper does.
        raise
    except Exception:
        with Session(engine) as session, session.begin():
            reports.fail(
                session,
                report_id,
                attempt,
                error="a fault in the program kept it from being made",
                mend="the keeper's log has more; report it as a fault",
            )
        raise
    with Session(engine) as session, session.begin():
        kept = reports.finish(session, report_id, attempt, content)
    if not kept:
        _log.info("report %s was deleted or taken up by another keeper meanwhile", report_id)
    return kept


def _make(engine: Engine, asked: ReportRecord, attempt: int, limits: Limits | None) -> bytes:
    def tell(progress: str) -> None:
        with Session(engine) as session, session.begin():
            reports.tell(session, asked.id, attempt, progress)

    found = gather(engine, asked, tell)
    tell("drawing and printing")
    return print_pdf(compose(found), limits)
