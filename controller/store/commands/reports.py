"""Changes reports: people ask for them and delete them; keepers take them up and finish them.

A keeper that takes a report up gets the number of its attempt and hands it back with every change. One that was
paused meanwhile, and whose report another keeper has taken up, changes nothing any more.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import delete as delete_rows
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from controller.checking import Checker
from controller.errors import ConflictError
from controller.store import queue
from controller.store.commands import audit
from controller.store.commands.audit import Actor
from controller.store.entities import Report, Test
from controller.store.entities.upkeep import RAW, Expiry
from controller.store.queries import reports
from controller.store.queries.reports import ReportRecord

FIELDS = ("tests", "last", "from", "to")
MOST_TESTS = 20
LONGEST_RANGE = dt.timedelta(days=92)
#: A report is kept for so long.
KEPT = dt.timedelta(days=30)
#: Reports that may wait at the same time; they are made one after another.
MOST_PENDING = 20
#: A report whose keeper was lost so often is given up. Below what the queue itself tries.
MOST_ATTEMPTS = 3
_LAST = re.compile(r"([1-9][0-9]{0,3})([hd])\Z")
_HOURS = {"h": 1, "d": 24}
#: Clocks of callers may be a little ahead.
_AHEAD = dt.timedelta(minutes=5)
_LONGEST_TITLE = 200


def create(session: Session, values: Mapping[str, Any], *, actor: Actor) -> ReportRecord:
    """Ask for a report on `tests` (ids) over `last` (`24h`, `7d`) or from `from` to `to`; a keeper makes it."""
    checker = Checker(values, FIELDS)
    now: dt.datetime = session.execute(select(func.date_trunc("second", func.clock_timestamp()))).scalar_one()
    start, end = _range(checker, now)
    wanted = checker.ids("tests", most=MOST_TESTS)
    if not wanted and not checker.problems:
        checker.add("tests", "must name at least one test")
    named = session.execute(select(Test.id, Test.name).where(Test.id.in_(wanted), Test.deleted_at.is_(None)))
    names = {row.id: row.name for row in named}
    for index, test_id in enumerate(wanted):
        if test_id not in names:
            checker.add(f"tests[{index}]", f"there is no test {test_id}")
    gone_before = _gone_before(session, names)
    if gone_before is not None and start < gone_before:
        # What has expired would be told as runs that never came.
        checker.add(
            "from" if "from" in values else "last",
            f"results due before {gone_before.isoformat()} have expired; a report can begin there",
        )
    checker.done()
    # Two that ask at the same time must not both be the last that finds room.
    session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    if reports.count_pending(session) >= MOST_PENDING:
        raise ConflictError(
            f"{MOST_PENDING} reports are waiting already; they are made one after another",
            mend="ask again when some of them are ready, or delete some",
        )
    request = {"tests": wanted, "from": start.isoformat(), "to": end.isoformat()}
    entity = Report(
        title=_title([names[test_id] for test_id in wanted]),
        request=request,
        made_by=actor.name,
        expires_at=now + KEPT,
    )
    session.add(entity)
    session.flush()
    audit.record(session, actor, "report.create", "report", entity.id, request)
    session.flush()
    queue.make_report(session.connection(), entity.id)
    return reports.get(session, entity.id)


def _gone_before(session: Session, tests: Iterable[int]) -> dt.datetime | None:
    """Return before which instant results of any of these tests have expired; None when none have."""
    return session.execute(
        select(func.max(Expiry.gone_before))
        .join(Test, Test.kind == Expiry.kind)
        .where(Expiry.layer == RAW, Test.id.in_(tuple(tests)))
    ).scalar_one()


def delete(session: Session, report_id: int, *, actor: Actor) -> None:
    """Delete a report; one that is being made is thrown away when it is done."""
    found = reports.get(session, report_id)
    session.execute(delete_rows(Report).where(Report.id == report_id))
    audit.record(session, actor, "report.delete", "report", report_id, {"title": found.title})


def take_up(session: Session, report_id: int) -> tuple[ReportRecord, int] | None:
    """Take a report up; return it with the number of the attempt, None when there is nothing to do.

    One that was cut short too often becomes `failed`: it may be what ends the keepers.
    """
    entity = session.scalar(
        select(Report)
        .where(Report.id == report_id, Report.state.in_(("waiting", "working")))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if entity is None:
        return None
    if entity.attempt >= MOST_ATTEMPTS:
        _end(
            session,
            report_id,
            entity.attempt,
            state="failed",
            error=f"it was cut short {entity.attempt} times while it was being made",
            mend="ask for a shorter range or fewer tests, and look into the keepers' log",
        )
        return None
    entity.attempt += 1
    entity.state = "working"
    entity.progress = "reading results"
    session.flush()
    return reports.record_of(entity), entity.attempt


def tell(session: Session, report_id: int, attempt: int, progress: str) -> bool:
    """Say what is being done; False when the report is gone or another keeper has it."""
    changed = session.execute(
        update(Report).where(*_mine(report_id, attempt)).values(progress=progress).returning(Report.id)
    )
    return changed.scalar_one_or_none() is not None


def finish(session: Session, report_id: int, attempt: int, content: bytes) -> bool:
    """Store the file; False when the report is gone or another keeper has it."""
    return _end(
        session,
        report_id,
        attempt,
        state="ready",
        file=content,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def fail(session: Session, report_id: int, attempt: int, *, error: str, mend: str) -> bool:
    """Store why there is no file; False when the report is gone or another keeper has it."""
    return _end(session, report_id, attempt, state="failed", error=error, mend=mend)


def give_up(session: Session, report_id: int, *, error: str) -> bool:
    """Note that nobody makes a report any more; False when it is done, or gone."""
    attempt = session.scalar(select(Report.attempt).where(Report.id == report_id))
    return attempt is not None and _end(
        session,
        report_id,
        attempt,
        state="failed",
        error=error,
        mend="ask for it again; if that fails too, look into the keepers' log",
    )


#: Key of the advisory lock under which the waiting ones are counted.
_LOCK = 7_377_230_145_220_653


def _end(session: Session, report_id: int, attempt: int, **values: Any) -> bool:
    changed = session.execute(
        update(Report)
        .where(*_mine(report_id, attempt))
        .values(progress="", finished_at=func.now(), **values)
        .returning(Report.id)
    )
    return changed.scalar_one_or_none() is not None


def _mine(report_id: int, attempt: int) -> tuple[Any, ...]:
    return (
        Report.id == report_id,
        Report.attempt == attempt,
        Report.state.in_(("waiting", "working")),
    )


def _range(checker: Checker, now: dt.datetime) -> tuple[dt.datetime, dt.datetime]:
    """Return the range asked for; the last day when none is."""
    start, end = checker.instant("from"), checker.instant("to")
    last = checker.text("last", longest=10)
    if last and (start or end):
        checker.add("last", "cannot be given together with `from` or `to`")
    if last or not (start or end):
        found = _LAST.match(last or "24h")
        if found is None:
            checker.add("last", "must be a number of hours or days such as `24h` or `7d`")
            return now, now
        end = now
        start = end - dt.timedelta(hours=int(found[1]) * _HOURS[found[2]])
    end = end or now
    if end > now + _AHEAD:
        checker.add("to", "lies in the future")
    end = min(end, now)
    if start is None:
        checker.add("from", "is missing; `to` alone names no range")
        return now, now
    if start >= end:
        checker.add("to", "must lie after `from`, and `from` in the past")
    elif end - start > LONGEST_RANGE:
        checker.add("last" if last else "from", f"the range is longer than {LONGEST_RANGE.days} days")
    return start, end


def _title(names: list[str]) -> str:
    title = ", ".join(names)
    return title if len(title) <= _LONGEST_TITLE else f"{title[: _LONGEST_TITLE - 1]}…"
