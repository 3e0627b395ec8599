"""What a report is made of: values that composition turns into words, tables and pictures."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from controller.planning.accounts import Account
from controller.planning.gaps import Gap
from controller.reports.accounting import Stretch
from controller.store.queries.report_figures import Period, Statistics, Trouble
from controller.store.queries.report_rows import Digest
from controller.store.queries.schedules import ScheduledTest
from streamswarm.contract import Kind, Metric

#: Stands between worker and destination; the embedded fonts have it.
ARROW = "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}"


@dataclass(frozen=True, kw_only=True)
class LineReport:
    """One line: a test from one worker to one destination."""

    worker: str
    #: Empty for kinds without a destination.
    destination: str
    target: str
    account: Account
    #: Of the headline metric, in the range and in the one of equal length before: None where results of it have expired.
    statistics: Statistics
    previous: Statistics | None
    periods: tuple[Period, ...]
    #: Where it has no periods, and why.
    gaps: tuple[Gap, ...]

    @property
    def name(self) -> str:
        """How people call it."""
        return f"{self.worker} {ARROW} {self.destination}" if self.destination else self.worker


@dataclass(frozen=True, kw_only=True)
class TestReport:
    """One test."""

    __test__ = False  # keeps pytest from taking it for a test class

    test: ScheduledTest
    kind: Kind
    #: The kind's metric of loss, where it has one.
    loss: Metric | None
    lines: tuple[LineReport, ...]
    #: Of every metric with a role, all lines together, by name.
    statistics: dict[str, Statistics]
    #: Of the headline metric, in the time of equal length before; None where results of it have expired.
    previous: Statistics | None
    #: Width of the lines' periods.
    width: dt.timedelta
    #: All lines together, in stretches that people can name.
    periods: tuple[Period, ...]
    period: dt.timedelta
    troubles: tuple[Trouble, ...]
    #: How its schedule was over the range.
    stretches: tuple[Stretch, ...]
    digest: Digest

    @property
    def account(self) -> Account:
        """All lines together."""
        return sum((line.account for line in self.lines), Account())

    @property
    def headline(self) -> Statistics:
        """Of the headline metric, all lines together."""
        return self.statistics[self.kind.headline.name]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that is printed."""

    number: int
    start: dt.datetime
    #: Runs due from then on are not counted: what is due now has not arrived yet.
    end: dt.datetime
    #: The end that was asked for.
    asked_end: dt.datetime
    #: When the database was read, all of it at the same instant.
    read_at: dt.datetime
    made_by: str
    #: Release that made it.
    version: str
    tests: tuple[TestReport, ...]
