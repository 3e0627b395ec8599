"""What upgraded hosts and the control group measured before and after, fetched from the controller's REST API."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from controller.errors import NotFoundError
from controller.fleet.api import Api
from controller.fleet.upgrades.spells import EVER, Spell, bad_spells, other_spells, windows

#: Runs before the upgrade that are looked at, for each line: the previous release's baseline.
BASELINE_RUNS = 100
#: How far back they may lie.
BASELINE = dt.timedelta(days=1)
#: Runs since the upgrade that are looked at, the first ones: of a host that an earlier upgrade left there may be many.
AFTER_RUNS = 500
#: Runs in one page of the API.
_PAGE = 500
#: How long after its time a result may take to be seen, seconds.
SLACK_S = 15.0
#: Hosts of the control group that are asked for their runs, and those that are asked what they measure until so many are found.
_MOST_CONTROL, _MOST_ASKED = 16, 200


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run, as far as it is compared."""

    scheduled_at: dt.datetime
    #: Whether it ended well.
    ok: bool
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A test from one worker to one destination, with its runs."""

    kind: str
    test_id: int
    destination_id: int | None
    host: str
    #: For people: `ping to office`.
    name: str = ""
    #: Seconds between runs, the longest by cron; None for single runs.
    interval_s: float | None = None
    #: The newest first.
    before: Sequence[Run] = field(default=())
    after: Sequence[Run] = field(default=())
    #: Seconds since the upgrade in which runs were due and could arrive; 0 where nothing is due.
    watched_s: float = 0.0
    #: Before this everything that was due since the upgrade has arrived, if it ever will; None where nothing says so.
    arrived_until: dt.datetime | None = None

    @property
    def destination(self) -> tuple[int, int | None]:
        """What lines of different hosts have in common when they measure the same."""
        return self.test_id, self.destination_id


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker is planned to measure, and its latest run."""

    kind: str
    test_id: int
    destination_id: int | None
    #: For people.
    name: str
    #: Seconds between runs, the longest by cron; None for single runs.
    interval_s: float | None
    #: When its newest run was due; None when there is none.
    latest: dt.datetime | None
    #: When it is first due in its worker's session; None when nothing is due any more, or it is paused.
    first_due: dt.datetime | None
    #: When it was due last in that session; None before the first time.
    last_due: dt.datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Member:
    """A worker that takes part in a comparison."""

    host: str
    worker_id: str
    #: The release that is judged there; empty where none is.
    release: str = ""
    #: Runs due before this are its baseline.
    before: dt.datetime
    #: Runs due after this are judged.
    after: dt.datetime


T = TypeVar("T")

#: Runs by destination, the newest first.
_Runs = dict[int | None, list[Run]]


def jobs_of(api: Api, worker_id: str) -> tuple[Job, ...]:
    """Return what a worker is planned to measure now."""
    return tuple(
        Job(
            kind=item["kind"],
            test_id=item["test_id"],
            destination_id=item["destination_id"],
            name=f"{item['kind']} to {item['destination_name']}"
            if item["destination_name"]
            else item["kind"],
            interval_s=item["interval_s"],
            latest=instant(item["latest"]["scheduled_at"]) if item["latest"] else None,
            first_due=instant(item["first_due_at"]) if item["first_due_at"] else None,
            last_due=instant(item["last_due_at"]) if item["last_due_at"] else None,
        )
        for item in api.items(f"/workers/{worker_id}/jobs")
        if item["live"]
    )


def sharing(api: Api, upgraded: Iterable[Member], control: Iterable[Member]) -> list[Member]:
    """Return those of the control group that measure what the upgraded hosts do: the same destinations, else the same tests."""
    ours = {
        (job.test_id, job.destination_id) for member in upgraded for job in jobs_of(api, member.worker_id)
    }
    tests = {test_id for test_id, _ in ours}
    same: list[Member] = []
    similar: list[Member] = []
    for member in list(control)[:_MOST_ASKED]:
        theirs = {
            (job.test_id, job.destination_id)
            for job in _known(functools.partial(jobs_of, api, member.worker_id))
        }
        if ours & theirs:
            same.append(member)
        elif tests & {test_id for test_id, _ in theirs}:
            similar.append(member)
        if len(same) == _MOST_CONTROL:
            break
    return [*same, *similar][:_MOST_CONTROL]


def read(
    api: Api, upgraded: Iterable[Member], control: Iterable[Member], *, now: dt.datetime
) -> tuple[list[Line], list[Line]]:
    """Return the lines of both groups with their runs; of the control group those whose tests the upgraded hosts run.

    What is no baseline of one upgraded host is left out for all: what changed in between must have changed for everybody.
    For the same reason nothing counts from before any host of the control group had the release that it is measured with.
    """
    upgraded, control = list(upgraded), list(control)
    bad = tuple(
        spell
        for member in upgraded
        for spell in bad_spells(
            api,
            member.host,
            member.worker_id,
            judged=member.release,
            since=member.before - BASELINE,
            until=member.before,
        )
    )
    #: By worker, when it had another release; a worker that is gone is none to compare with.
    apart = {
        member.worker_id: spells
        for member in control
        for spells in [_spells_apart(api, member)]
        if spells is not None
    }
    nobodys = _in_all(list(apart.values()))
    ours = [line for member in upgraded for line in _lines(api, member, None, now, (*bad, *nobodys))]
    tests = {line.test_id for line in ours}
    others = [
        line
        for member in control
        if member.worker_id in apart
        for line in _known(
            functools.partial(_lines, api, member, tests, now, (*bad, *apart[member.worker_id]))
        )
    ]
    return ours, others


def _spells_apart(api: Api, member: Member) -> Sequence[Spell] | None:
    """Return when a host that is compared with had another release; None of a worker that is gone."""
    try:
        return other_spells(api, member.worker_id, until=member.before)
    except NotFoundError:
        return None


def _in_all(groups: Sequence[Sequence[Spell]]) -> tuple[Spell, ...]:
    """Return the time before which every group has a spell; none where one has none, or there is no group."""
    if not groups or not all(groups):
        return ()
    end = min(max(spell.end for spell in spells) for spells in groups)
    return (Spell(start=EVER, end=end),)


def _known(question: Callable[[], Iterable[T]]) -> list[T]:
    """Return what a control host is asked for; nothing of one that was deleted meanwhile, which is no fault of the release."""
    try:
        return list(question())
    except NotFoundError:
        return []


def instant(text: str) -> dt.datetime:
    """Read an instant of the API."""
    return dt.datetime.fromisoformat(text)


def _lines(
    api: Api, member: Member, tests: set[int] | None, now: dt.datetime, apart: Sequence[Spell]
) -> list[Line]:
    """Return a worker's lines with their runs; of these tests, or of all; `apart` is no part of its baseline."""
    jobs = [job for job in jobs_of(api, member.worker_id) if tests is None or job.test_id in tests]
    lines = []
    for test_id in sorted({job.test_id for job in jobs}):
        mine = [job for job in jobs if job.test_id == test_id]
        longest = max((job.interval_s or 0.0 for job in mine), default=0.0)
        reach = min(BASELINE, dt.timedelta(seconds=longest * BASELINE_RUNS) if longest else BASELINE)
        query = {"worker": member.worker_id, "limit": _PAGE}
        before: _Runs = {}
        for window in windows(member.before, reach, apart):
            _add_runs(
                before,
                api,
                test_id,
                **query,
                **{"from": window.start.isoformat(), "to": window.end.isoformat()},
            )
        after: _Runs = {}
        until = {"to": _until(member, longest).isoformat()} if longest else {}
        _add_runs(after, api, test_id, **query, **{"from": member.after.isoformat(), **until})
        lines += [
            Line(
                kind=job.kind,
                test_id=test_id,
                destination_id=job.destination_id,
                host=member.host,
                name=job.name,
                interval_s=job.interval_s,
                before=before.get(job.destination_id, [])[:BASELINE_RUNS],
                after=after.get(job.destination_id, []),
                watched_s=max(0.0, (ends - begins).total_seconds()) if begins and ends else 0.0,
                arrived_until=ends,
            )
            for job, (begins, ends) in ((job, _watched(job, member, now)) for job in mine)
        ]
    # The results of a host come in their order, whatever they are of.
    newest = max((line.after[0].scheduled_at for line in lines if line.after), default=None)
    return [
        replace(line, arrived_until=min(newest, line.arrived_until))
        if newest and line.arrived_until
        else line
        for line in lines
    ]


def _watched(job: Job, member: Member, now: dt.datetime) -> tuple[dt.datetime | None, dt.datetime | None]:
    """Return between which instants runs were due since the upgrade that can have arrived; None where nothing is due."""
    if job.first_due is None or job.last_due is None:
        return None, None
    interval_s = job.interval_s or 0.0
    # After the last instant that was due nothing is missed: a window has closed, or the job has ended.
    over = job.last_due + dt.timedelta(seconds=interval_s)
    end = min(now - dt.timedelta(seconds=SLACK_S), _until(member, interval_s), over)
    return max(member.after, job.first_due), end


def _until(member: Member, interval_s: float) -> dt.datetime:
    return member.after + dt.timedelta(seconds=AFTER_RUNS * interval_s)


def _add_runs(found: _Runs, api: Api, test_id: int, **query: Any) -> None:
    """Add runs by destination, the newest first."""
    for item in api.items(f"/tests/{test_id}/results", **query):
        run = Run(
            scheduled_at=instant(item["scheduled_at"]),
            ok=item["status"] == "ok",
            metrics={
                name: float(value)
                for name, value in item["metrics"].items()
                if isinstance(value, int | float) and not isinstance(value, bool)
            },
        )
        found.setdefault(item["destination_id"], []).append(run)
