"""Where every run is: what was due by each version of a job, and what came of it. Pure.

A version holds from its change to the next one. The worker learns of a change a moment later, or, when it was cut off,
much later: what it ran until then it ran by the version before. So a version counts up to the last of its results, if
that lies behind the change, and the next one counts from there. Instants of the new version between the change and its
arrival that fell to nobody are due and not delivered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from streamswarm.schedules import Schedule

#: From one instant to before another, in microseconds since 1970.
Period = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Version:
    """How a job was scheduled for a while; instants in microseconds since 1970."""

    number: int
    valid_from_us: int
    #: None while it holds.
    valid_until_us: int | None
    schedule: Schedule
    paused: bool


@dataclass(frozen=True, kw_only=True)
class Received:
    """Runs of one version that ended alike."""

    version: int
    #: `ok`, `failed`, `error` or `missed`.
    status: str
    #: Whether they lie on the grid of the version's schedule, whatever its windows and hours are.
    on_grid: bool = True
    count: int
    #: The first and the last of their due instants.
    first_us: int
    last_us: int


@dataclass(frozen=True, kw_only=True)
class Span:
    """When a version counts: its instants in [start, end)."""

    version: Version
    start_us: int
    end_us: int

    @property
    def due(self) -> int:
        """How many of its instants lie in it."""
        if self.version.paused or self.start_us >= self.end_us:
            return 0
        return self.version.schedule.count(self.start_us, self.end_us - 1)

    def within(self, start_us: int, end_us: int) -> Span:
        """Return what of it lies in [start, end)."""
        return replace(self, start_us=max(self.start_us, start_us), end_us=min(self.end_us, end_us))

    @property
    def edges_us(self) -> tuple[int, int]:
        """Where its instants can lie: [first, last)."""
        schedule = self.version.schedule
        first = self.start_us if schedule.cron else max(self.start_us, schedule.anchor_us)
        if schedule.starts_us is not None:
            first = max(first, schedule.starts_us)
        return first, self.end_us if schedule.ends_us is None else min(self.end_us, schedule.ends_us)


@dataclass(frozen=True, kw_only=True)
class OnPlan:
    """Of the results of a job, those at instants that were due by its versions."""

    runs: int = 0
    #: Those that say something about the destination.
    measured: int = 0


@dataclass(frozen=True, kw_only=True)
class Account:
    """Where every run is: `expected - undelivered + beyond == ok + failed + error + missed`."""

    #: Due by the known plan while the worker was in service.
    expected: int = 0
    ok: int = 0
    failed: int = 0
    error: int = 0
    #: Due and not started, as the worker told with its reason.
    missed: int = 0
    #: Received although the known plan did not have them: by no version, or at instants that its schedule lacks.
    beyond: int = 0
    #: Those of them that say something about the destination.
    beyond_measured: int = 0
    #: "Run now" runs, which are in nothing else here.
    aside: int = 0
    #: Due while the worker was drained, and nothing has come of them; in nothing else here.
    drained: int = 0

    @property
    def received(self) -> int:
        """Runs with a result, whatever it was."""
        return self.ok + self.failed + self.error + self.missed

    @property
    def undelivered(self) -> int:
        """Runs that were due and of which nothing came."""
        return self.expected - (self.received - self.beyond)

    @property
    def measured(self) -> int:
        """Runs that say something about the destination."""
        return self.ok + self.failed

    @property
    def availability(self) -> float | None:
        """Share of measured runs that were ok; None without any."""
        return self.ok / self.measured if self.measured else None

    @property
    def covered(self) -> int:
        """Expected runs that were measured."""
        return self.measured - self.beyond_measured

    @property
    def coverage(self) -> float | None:
        """Share of expected runs that were measured; None when none was expected."""
        return self.covered / self.expected if self.expected else None

    def __add__(self, other: Account) -> Account:
        return Account(**{name: getattr(self, name) + getattr(other, name) for name in self.__dict__})


def spans(
    versions: Iterable[Version], received: Sequence[Received], *, start_us: int, end_us: int
) -> tuple[Span, ...]:
    """Return when each version of a job counts within [start, end); they do not overlap."""
    last: dict[int, int] = {}
    for runs in received:
        if not runs.on_grid:
            continue  # it tells of no run of the version
        last[runs.version] = max(last.get(runs.version, runs.last_us), runs.last_us)
    return spans_until(versions, last, start_us=start_us, end_us=end_us)


def spans_until(
    versions: Iterable[Version], last: Mapping[int, int], *, start_us: int, end_us: int
) -> tuple[Span, ...]:
    """Return the same from the due instant of the last result of each version, where it has any."""
    found = []
    behind_us = start_us
    for version in sorted(versions, key=lambda version: version.number):
        if version.schedule.once:
            # Due once, whenever its job was retired, unless it was withdrawn before; its result follows from it.
            begin, until = start_us, end_us
            if version.valid_until_us is not None:
                until = min(until, version.valid_until_us)
        else:
            begin = max(behind_us, version.valid_from_us)
            until = end_us if version.valid_until_us is None else version.valid_until_us
            until = min(end_us, max(until, last.get(version.number, until - 1) + 1))
        if begin < until:
            found.append(Span(version=version, start_us=begin, end_us=until))
            behind_us = until
    return tuple(found)


def account(
    known: Sequence[Span],
    received: Iterable[Received],
    *,
    on_plan: OnPlan | None = None,
    drains: Iterable[Period] = (),
) -> Account:
    """Return the account of one job, all of whose results are on plan unless it is told how many are.

    In `drains` its worker was out of service; they do not overlap. What lacks from then is drained and not expected.
    """
    counts = dict.fromkeys(("ok", "failed", "error", "missed"), 0)
    for runs in received:
        counts[runs.status] += runs.count
    made = Account(expected=sum(span.due for span in known), **counts)
    if on_plan is not None:
        made = replace(
            made, beyond=made.received - on_plan.runs, beyond_measured=made.measured - on_plan.measured
        )
    drained = sum(span.within(start, end).due for start, end in drains for span in known)
    # A worker that comes back measures a moment before the controller hears of it.
    drained = min(drained, made.undelivered)
    return replace(made, expected=made.expected - drained, drained=drained)


def may_stray(known: Sequence[Span], received: Iterable[Received]) -> bool:
    """Whether some result may be none of its version's: outside of its span, or at an instant that was not due."""
    within = {span.version.number: span for span in known if not span.version.paused}

    def strays(runs: Received) -> bool:
        span = within.get(runs.version)
        if span is None or not runs.on_grid:
            return True
        first_us, end_us = span.edges_us
        schedule = span.version.schedule
        return bool(schedule.cron or schedule.windows) or runs.first_us < first_us or runs.last_us >= end_us

    return any(strays(runs) for runs in received)
