"""What a verdict reads of jobs: of calm ones little, and it says the same as if it had read everything."""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from controller.diagnosis.verdicts.records import Verdict
from controller.store.entities import Destination, DiagnosisState, Job, Test, Worker
from controller.store.queries import diagnosis
from streamswarm.zones import to_microseconds

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
#: A run of a job: how it ended and what failed.
ENDS = (("ok", ""), ("failed", "network"), ("failed", "target"), ("error", "vantage"), ("missed", "schedule"))
ALL = 10_000


def reading(*ends: tuple[str, str], age_s: float = 5, **states: str) -> dict[str, Any]:
    """A job's reading: its runs every ten seconds, the last so long ago, and metrics in such states; `learning` has no range."""
    count = len(ends)
    ats = [to_microseconds(NOW - dt.timedelta(seconds=age_s + 10 * back)) for back in reversed(range(count))]
    known = {
        name: {
            "name": name, "state": state, "low": 1.0, "normal": 2.0, "high": 3.0, "now": 60.0 if state == "called" else 2.0,
            "since_us": None if state == "normal" else ats[-1], "beyond": 5 if state == "called" else 0, "seasonal": False,
        }
        for name, state in states.items()
    }  # fmt: skip
    for metric in known.values():
        if metric["state"] == "learning":
            metric |= {"low": None, "normal": None, "high": None, "since_us": None}
    return {
        "metrics": list(known.values()),
        "runs": [[at, *end] for at, end in zip(ats, ends, strict=True)],
        "error": "" if all(end == ENDS[0] for end in ends) else "no answer",
        "clock_offset_ms": 3.0,
    }


class Ground:
    """A test of pings with a worker for each job, and one that looks at the same workers' hosts."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        with Session(engine) as session, session.begin():
            pings = Test(name="Pings", kind="ping", spec={}, interval_s=10)
            hosts = Test(name="Hosts", kind="system", spec={}, interval_s=10)
            place = Destination(name="target", address="192.0.2.1")
            session.add_all([pings, hosts, place])
            session.flush()
            self.pings, self.hosts, self.place = pings.id, hosts.id, place.id
        self._workers = 0

    def worker(
        self, ping: dict[str, Any] | None, system: dict[str, Any] | None = None, *, needed: int = 0
    ) -> None:
        """Add a worker; None is a job that the keeper has not looked at yet."""
        self._workers += 1
        name = f"worker-{self._workers:03}"
        with Session(self.engine) as session, session.begin():
            worker = Worker(name=name, host_name=name)
            session.add(worker)
            session.flush()
            for test, kind, place, read, lacks in (
                (self.pings, "ping", self.place, ping, needed),
                (self.hosts, "system", None, system, 0),
            ):
                job = Job(
                    test_id=test, worker_id=worker.id, destination_id=place, kind=kind, target="192.0.2.1" if place else "",
                    spec={}, interval_us=10_000_000, anchor_us=0,
                )  # fmt: skip
                session.add(job)
                session.flush()
                if read is not None:
                    session.add(DiagnosisState(job_id=job.id, needed=lacks, reading=read, looked_at=NOW))

    def diagnose(self, whole: int) -> tuple[Verdict, diagnosis.Readings]:
        with Session(self.engine) as session:
            return diagnosis.diagnose(session, self.pings, now=NOW, whole=whole)


@pytest.fixture
def ground(engine: Engine) -> Ground:
    """Both tests, and no workers."""
    return Ground(engine)


def said(verdict: Verdict) -> Verdict:
    """A verdict without what may differ: the readings that its evidence names, which are compared by their jobs."""
    return replace(
        verdict,
        evidence=tuple(replace(one, job=one.job.job_id) for one in verdict.evidence),  # type: ignore[arg-type]
    )


def brief(found: diagnosis.Readings) -> list[bool]:
    """Which of a test's jobs were read without their metrics, by their workers' names."""
    return [not job.metrics and len(job.runs) == 1 for job in found.jobs]


OK20 = [ENDS[0]] * 20


def test_only_calm_jobs_are_read_in_brief(ground: Ground) -> None:
    """One run among twenty that is not ok, one metric that is called, one run that is still needed: all of it is read."""
    ground.worker(reading(*OK20, rtt_avg_ms="normal", loss_pct="suspected"))
    ground.worker(reading(*OK20, rtt_avg_ms="called"))
    ground.worker(reading(ENDS[4], *OK20, rtt_avg_ms="normal"))
    ground.worker(reading(*OK20, rtt_avg_ms="learning"), needed=12)
    ground.worker(reading(*OK20, age_s=3600, rtt_avg_ms="normal", loss_pct="learning"))
    ground.worker({})
    ground.worker(None)
    verdict, found = ground.diagnose(0)
    assert brief(found) == [True, False, False, False, True, False, False]
    assert found.jobs[0].runs[0].at == NOW - dt.timedelta(seconds=5)
    # Two, one, one, none, one: those of the calm are counted where they are kept.
    assert found.ranges == 5
    assert (verdict.status, verdict.bad, verdict.judged, verdict.needed) == ("fault", 1, 3, 12)
    _, found = ground.diagnose(2)
    assert brief(found) == [False, False, False, False, True, False, False], (
        "the first ones are read as a whole"
    )


def test_a_verdict_is_the_same_as_of_all_that_is_known(ground: Ground) -> None:
    """Of random jobs, calm and not, with what their hosts show."""
    chance = random.Random(4)
    states = ("normal", "normal", "normal", "suspected", "called")
    for _ in range(60):
        calm = chance.random() < 0.6
        ends = [ENDS[0] if calm else chance.choice(ENDS) for _ in range(chance.randint(1, 20))]
        ping = reading(
            *ends, age_s=chance.choice((5, 5, 5, 600)), rtt_avg_ms="normal" if calm else chance.choice(states)
        )
        system = reading(*OK20, cpu_busy_pct=chance.choice(states))
        ground.worker(ping, chance.choice((system, system, None)), needed=chance.choice((0, 0, 0, 7)))
        shortly, found = ground.diagnose(0)
        whole, everything = ground.diagnose(ALL)
        assert said(shortly) == said(whole)
        assert [job.job_id for job in found.jobs] == [job.job_id for job in everything.jobs]
    assert 10 < sum(brief(found)) < 50
    assert whole.bad > 5
