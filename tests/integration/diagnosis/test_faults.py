"""On a network of our own: real probes, real faults, and each named rightly within five runs."""

from __future__ import annotations

import datetime as dt
import os
import statistics
from collections.abc import Iterator
from typing import Any

import pytest
from integration.diagnosis.laboratory import MEASURED, Laboratory, columns_of, laboratory
from sqlalchemy import Engine, insert, select, update
from sqlalchemy.orm import Session
from support.keepers import World

from controller.diagnosis.verdicts.records import Domain, Verdict
from controller.keeper.diagnose import Scored, diagnose
from controller.keeper.plan import plan_everything
from controller.store import results
from controller.store.entities import Job
from controller.store.entities.diagnosis import DiagnosisState
from controller.store.queries.diagnosis import diagnose as judge_test

pytestmark = [pytest.mark.alone, pytest.mark.namespaces, pytest.mark.timeout(240)]

#: Quiet runs of each kind: more than a normal range needs, few enough that all take some seconds.
QUIET = {"ping": 40, "tcp": 100, "dns": 100, "http": 100, "system": 35}
FAULTY = 5
STEP = dt.timedelta(seconds=2)
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def lab() -> Iterator[Laboratory]:
    """The laboratory, for all tests of this module."""
    if os.geteuid() != 0:
        reason = "needs root for network namespaces; run `sudo make test` to include it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with laboratory() as lab:
        yield lab


@pytest.fixture(scope="module")
def quiet(lab: Laboratory) -> Rows:
    """Quiet runs of every kind, measured once."""
    measured = {kind: lab.measure(kind, count) for kind, count in QUIET.items()}
    return {kind: columns_of(found, kind) for kind, found in measured.items()}


class Watch:
    """A controller that has the quiet runs behind it, and gets five more of each kind."""

    def __init__(self, engine: Engine, lab: Laboratory, quiet: Rows) -> None:
        self.engine = engine
        self.lab = lab
        self.now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        world = World(engine)
        world.worker("edge-1")
        self.tests = {}
        for kind, (target, _) in MEASURED.items():
            places = [world.destination(kind, target)] if target else []
            self.tests[kind] = world.test(f"{kind} of the lab", kind, places, interval_s=2.0)
        plan_everything(engine)
        self.jobs = {job.kind: job for job in world.jobs()}
        for kind, rows in quiet.items():
            self._store(self.jobs[kind], rows, until=self.now - STEP * FAULTY)

    def score(self) -> Scored:
        """Have a keeper score what is there."""
        with self.engine.begin() as connection:
            connection.execute(update(DiagnosisState).values(looked_at=None))
        return diagnose(self.engine)

    def measure(self, *kinds: str) -> Scored:
        """Measure the kinds five times each, end the fault, and score what was measured."""
        for kind in kinds:
            rows = columns_of(self.lab.measure(kind, FAULTY), kind)
            self._store(self.jobs[kind], rows, until=self.now)
        self.lab.calm()  # a fault is over once it was measured: busy CPUs would slow the scoring too
        return self.score()

    def verdict(self, kind: str) -> Verdict:
        """Return the verdict on the test of a kind."""
        with Session(self.engine) as session:
            return judge_test(session, self.tests[kind], now=self.now + STEP)[0]

    def told(self) -> str:
        """Return the states of all detectors with their latest values, for a test that fails."""
        with Session(self.engine) as session:
            rows = session.scalars(select(DiagnosisState)).all()
            return "; ".join(
                f"{one['name']} {one['state']} {one['low']} to {one['high']}, now {one['now']}"
                for row in rows
                for one in row.reading.get("metrics", [])
            )

    def _store(self, job: Job, rows: list[dict[str, Any]], *, until: dt.datetime) -> None:
        stored = []
        for index, row in enumerate(rows):
            at = until - STEP * (len(rows) - 1 - index)
            envelope = {"job_id": job.id, "scheduled_at": at, "started_at": at, "job_version": 1}
            stored.append({**envelope, **row})
        with self.engine.begin() as connection:
            connection.execute(insert(results.table(job.kind)), stored)


@pytest.fixture
def watch(engine: Engine, lab: Laboratory, quiet: Rows) -> Iterator[Watch]:
    """A controller that knows what is normal here; every fault ends with the test."""
    watch = Watch(engine, lab, quiet)
    assert watch.score().called == 0
    yield watch
    lab.calm()


def named(watch: Watch, kind: str) -> tuple[str, Domain | None]:
    """Return status and domain of a kind's test."""
    verdict = watch.verdict(kind)
    return verdict.status, verdict.domain


def test_quiet_runs_are_healthy(watch: Watch) -> None:
    """Hundreds of real runs without a fault raise no suspicion, and five more neither."""
    assert watch.measure("ping", "tcp", "dns", "http").called == 0
    for kind in ("ping", "tcp", "dns", "http"):
        verdict = watch.verdict(kind)
        assert (verdict.status, verdict.health) == ("healthy", 100), watch.told()


def test_fifty_milliseconds_more(watch: Watch) -> None:
    """A slower wire is the path's fault for every kind that goes over it, a name server's answers included."""
    watch.lab.impair(delay_ms=50.0)
    assert watch.measure("ping", "tcp", "dns", "http").called == 4, watch.told()
    for kind in ("ping", "tcp", "dns", "http"):
        assert named(watch, kind) == ("fault", "path_fault"), watch.told()
    command = watch.verdict("ping").command
    assert command is not None
    assert command.line == "mtr -n -r -c 20 10.93.0.2"


def test_ten_percent_loss(watch: Watch) -> None:
    """Every tenth packet is lost: the path again, and the evidence says how many."""
    watch.lab.impair(lose_every=10)
    watch.measure("ping")
    verdict = watch.verdict("ping")
    assert (verdict.status, verdict.domain) == ("fault", "path_fault"), watch.told()
    assert verdict.evidence[0].text.startswith("Loss 10\N{NO-BREAK SPACE}%")


def test_a_dead_resolver(watch: Watch) -> None:
    """Names do not resolve any more: not the web server's fault, and nothing is claimed of its health."""
    watch.lab.names_answered = False
    watch.measure("dns", "http", "ping")
    assert named(watch, "http") == ("fault", "resolver_fault")
    assert named(watch, "dns") == ("fault", "resolver_fault")
    assert named(watch, "ping") == ("healthy", None)
    assert watch.verdict("http").health is None


def test_a_refused_port(watch: Watch) -> None:
    """Nothing listens any more: the destination's fault, and the next command looks for the listener there."""
    watch.lab.refuse()
    watch.measure("tcp")
    verdict = watch.verdict("tcp")
    assert (verdict.status, verdict.domain, verdict.health) == ("fault", "target_fault", 0)
    assert verdict.command is not None
    assert verdict.command.line == "ss -ltunp 'sport = :8080'"
    assert "refused" in verdict.sentence


def test_a_slow_server(watch: Watch) -> None:
    """The server thinks longer while connections open as fast as ever: the destination's fault."""
    watch.lab.think_s = 0.25
    watch.measure("http", "tcp")
    assert named(watch, "http") == ("fault", "target_fault"), watch.told()
    assert named(watch, "tcp") == ("healthy", None)


def test_a_busy_worker(watch: Watch, lab: Laboratory, quiet: Rows) -> None:
    """Every CPU of the worker's host is busy: its own fault, not that of what it measures."""
    usual = statistics.quantiles((row["cpu_busy_pct"] for row in quiet["system"]), n=10)[-1]
    if usual > 85.0:
        reason = f"other programs keep this machine {usual:.0f} % busy: there is no room for a fault"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    lab.burn()
    watch.measure("system")
    assert named(watch, "system") == ("fault", "vantage_fault"), watch.told()
    command = watch.verdict("system").command
    assert command is not None
    assert command.line.startswith("top ")
