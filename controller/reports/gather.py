"""Gathers what a report is about: one look at the database, all queries at the same instant."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from psycopg.errors import QueryCanceled
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from controller.errors import StreamSwarmError
from controller.planning.accounts import Account
from controller.reports.accounting import is_aside, stretches
from controller.reports.records import LineReport, Report, TestReport
from controller.store.queries import report_figures, report_rows, schedules
from controller.store.queries.accounts import read_accounts
from controller.store.queries.expiries import counted_from
from controller.store.queries.report_figures import Statistics
from controller.store.queries.reports import ReportRecord
from controller.store.queries.results import Plan, bucket_width, gaps_of_buckets, plans_of
from controller.store.queries.schedules import ScheduledJob, ScheduledTest
from controller.store.queries.versions import SETTLING
from streamswarm import __version__, contract
from streamswarm.contract import Kind, Metric

#: Points of a line's chart: as many as can be told apart on paper.
_POINTS = 160
#: Lengths that people can name, for finding the worst time, and how many a range should have at the most.
_PERIODS = tuple(dt.timedelta(minutes=minutes) for minutes in (5, 15, 60, 180, 360, 1440))
_MOST_PERIODS = 32
#: Roles of metrics that are worth a line of their own in the table.
_ROLES = ("latency", "loss", "jitter", "throughput", "utilisation")
#: Longest single query, and longest pause between two.
_STATEMENT_S = 120
_IDLE_S = 60
#: Reading takes no longer: the queue takes a task that runs for ten minutes for lost.
_LONGEST_S = 300.0


@dataclass(kw_only=True)
class _Pair:
    """The jobs of one worker and destination."""

    shown: ScheduledJob
    jobs: list[ScheduledJob] = field(default_factory=list)
    aside: list[int] = field(default_factory=list)


def gather(engine: Engine, asked: ReportRecord, tell: Callable[[str], None]) -> Report:
    """Read everything that a report is about; `tell` hears in words what is being read."""
    try:
        return _gather(engine, asked, tell)
    except OperationalError as error:
        if getattr(error.orig, "pgcode", None) != QueryCanceled.sqlstate:
            raise
        raise too_much() from error


def too_much() -> StreamSwarmError:
    """Return the error that reading takes too long."""
    return StreamSwarmError(
        f"there is more to read than can be read in {_LONGEST_S / 60:g} minutes",
        mend="ask for a shorter range or fewer tests",
    )


def _gather(engine: Engine, asked: ReportRecord, tell: Callable[[str], None]) -> Report:
    ends = time.monotonic() + _LONGEST_S
    with Session(engine) as session, session.begin():
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        session.execute(text("SET TRANSACTION READ ONLY"))
        session.execute(text(f"SET LOCAL statement_timeout = '{_STATEMENT_S}s'"))
        session.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{_IDLE_S}s'"))
        read_at: dt.datetime = session.execute(select(func.now())).scalar_one()
        end = max(asked.start, min(asked.end, read_at - SETTLING))
        tests = []
        for index, test_id in enumerate(asked.tests, 1):
            tell(f"reading results of test {index} of {len(asked.tests)}")
            tests.append(_test(session, test_id, asked.start, end, ends))
    with Session(engine) as session:
        tests = [_unexpired(session, test, asked.start, end) for test in tests]
    return Report(
        number=asked.id,
        start=asked.start,
        end=end,
        asked_end=asked.end,
        read_at=read_at,
        made_by=asked.made_by,
        version=__version__,
        tests=tuple(tests),
    )


def _test(session: Session, test_id: int, start: dt.datetime, end: dt.datetime, ends: float) -> TestReport:
    test = schedules.read_test(session, test_id)
    kind = contract.kind(test.kind)
    loss = next((metric for metric in kind.metrics if metric.role == "loss"), None)
    known = stretches(test, schedules.read_changes(session, test_id), start=start, end=end)
    pairs = _pairs(test, schedules.read_jobs(session, test_id, test.kind))
    asked = [(kind.name, [job.id for job in pair.jobs]) for pair in pairs]
    plans = plans_of(session, asked, start=start, end=end)
    pace_s = min((plan.pace_s for plan in plans if plan.pace_s), default=None)
    width = bucket_width(end - start, points=_POINTS, interval_s=pace_s)
    lines = []
    for pair, plan in zip(pairs, plans, strict=True):
        if time.monotonic() > ends:
            raise too_much()
        line = _line(session, kind, loss, pair, plan, start, end, width)
        if line is not None:
            lines.append(line)
    used = [job.id for pair in pairs for job in pair.jobs]
    period = _period(end - start)
    return TestReport(
        test=test,
        kind=kind,
        loss=loss,
        lines=tuple(lines),
        statistics=report_figures.statistics(
            session, kind.name, _worthwhile(kind), used, start=start, end=end
        ),
        previous=_previous(session, kind, used, start, end),
        width=width,
        periods=report_figures.periods(
            session, kind.name, kind.headline.name, None, used, start=start, end=end, width=period
        ),
        period=period,
        troubles=report_figures.troubles(session, kind.name, used, start=start, end=end),
        stretches=known,
        digest=report_rows.digest(session, kind.name, used, start=start, end=end),
    )


def _line(
    session: Session,
    kind: Kind,
    loss: Metric | None,
    pair: _Pair,
    plan: Plan,
    start: dt.datetime,
    end: dt.datetime,
    width: dt.timedelta,
) -> LineReport | None:
    """Return a line; None for one that neither was due nor delivered anything in the range."""
    found = read_accounts(session, kind.name, [job.id for job in pair.jobs], start=start, end=end)
    total = sum(found.by_job.values(), Account())
    if pair.aside:
        total += Account(
            aside=report_figures.count_runs(session, kind.name, pair.aside, start=start, end=end)
        )
    if not (total.expected or total.received or total.aside):
        return None
    jobs, name = [job.id for job in pair.jobs], kind.headline.name
    periods = report_figures.periods(
        session, kind.name, name, loss.name if loss else None, jobs, start=start, end=end, width=width
    )
    return LineReport(
        worker=pair.shown.worker_name,
        destination=pair.shown.destination_name,
        target=pair.shown.target,
        account=total,
        statistics=report_figures.statistics(session, kind.name, [name], jobs, start=start, end=end)[name],
        previous=_previous(session, kind, jobs, start, end),
        periods=periods,
        gaps=gaps_of_buckets(session, plan, [period.start for period in periods], width),
    )


def _previous(
    session: Session, kind: Kind, jobs: list[int], start: dt.datetime, end: dt.datetime
) -> Statistics:
    """Return the headline of the time of equal length before."""
    name = kind.headline.name
    return report_figures.statistics(
        session, kind.name, [name], jobs, start=start - (end - start), end=start
    )[name]


def _unexpired(session: Session, found: TestReport, start: dt.datetime, end: dt.datetime) -> TestReport:
    """Return what was read, without the time before where its results have partly expired; raise where the range's have.

    What is left would be told as the whole. It is asked about after everything was read, and outside of that look at
    one instant: days that are removed meanwhile are gone for it too, and the look does not see that they were.
    """
    there_from = counted_from(session, found.kind.name, start)
    if there_from > start:
        raise StreamSwarmError(
            f"results due before {there_from.isoformat()} have expired since the report was asked for",
            mend="ask for another that begins there",
        )
    earlier = start - (end - start)
    if counted_from(session, found.kind.name, earlier) == earlier:
        return found
    return replace(found, previous=None, lines=tuple(replace(line, previous=None) for line in found.lines))


def _pairs(test: ScheduledTest, jobs: Sequence[ScheduledJob]) -> list[_Pair]:
    """Return the jobs by worker and destination, "run now" apart."""
    found: dict[tuple[object, object], _Pair] = {}
    for job in jobs:
        pair = found.setdefault((job.worker_id, job.destination_id), _Pair(shown=job))
        if is_aside(test, job):
            pair.aside.append(job.id)
        else:
            pair.jobs.append(job)
            pair.shown = job
    return list(found.values())


def _worthwhile(kind: Kind) -> list[str]:
    return [metric.name for metric in kind.metrics if metric.headline or metric.role in _ROLES]


def _period(span: dt.timedelta) -> dt.timedelta:
    return next((period for period in _PERIODS if span <= period * _MOST_PERIODS), dt.timedelta(days=7))
