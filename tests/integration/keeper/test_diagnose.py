"""Scoring on a real database: as results arrive, once each, whatever is repeated, late or cut short."""

from __future__ import annotations

import datetime as dt
import math
import random
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, insert, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from support.keepers import Keepers, World
from support.surroundings import wait_for

from controller.diagnosis.learning.forest import ForestError
from controller.diagnosis.learning.season import _week
from controller.diagnosis.verdicts.records import Verdict
from controller.diagnosis.verdicts.verdict import judge
from controller.keeper import diagnose as diagnosing
from controller.keeper import learnt
from controller.keeper.diagnose import Scored, diagnose
from controller.keeper.plan import plan_everything
from controller.keeper.prune import prune
from controller.store import partitions, results
from controller.store.entities import Job
from controller.store.entities.diagnosis import DiagnosisSeason, DiagnosisState
from controller.store.queries.diagnosis import Readings, readings
from streamswarm.v1 import probe_pb2

#: Runs are two seconds apart; the newest is due just now.
STEP = dt.timedelta(seconds=2)
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)


@pytest.fixture
def test_id(world: World) -> int:
    """A ping test on two workers to one destination, planned."""
    for name in ("edge-1", "edge-2"):
        world.worker(name)
    place = world.destination("Router", "192.0.2.1")
    made = world.test("Round trip", "ping", [place])
    plan_everything(world.engine)
    return made


def store(engine: Engine, job: Job, values: list[dict[str, Any]], *, until: dt.datetime = NOW) -> None:
    """Store runs of a job, the last of them due at `until`."""
    rows = [
        {
            "job_id": job.id,
            "scheduled_at": until - STEP * (len(values) - 1 - index),
            "started_at": until - STEP * (len(values) - 1 - index),
            "duration_ms": 1.0,
            "job_version": 1,
            "status": probe_pb2.STATUS_OK,
            "failure_source": probe_pb2.FAILURE_SOURCE_NONE,
            **value,
        }
        for index, value in enumerate(values)
    ]
    with engine.begin() as connection:
        connection.execute(insert(results.table(job.kind)), rows)


def quiet(count: int, *, more_ms: float = 0.0, seed: int = 1) -> list[dict[str, Any]]:
    """Return quiet runs, or runs with so much more delay."""
    chance = random.Random(seed)
    return [{"rtt_avg_ms": 12.0 + more_ms + chance.gauss(0, 0.5), "loss_pct": 0.0} for _ in range(count)]


def look_again(engine: Engine) -> Scored:
    """Score as if the pause between two looks were over."""
    with engine.begin() as connection:
        connection.execute(update(DiagnosisState).values(looked_at=func.now() - dt.timedelta(minutes=2)))
    return diagnose(engine)


def states(engine: Engine) -> list[DiagnosisState]:
    with Session(engine) as session:
        return list(session.scalars(select(DiagnosisState).order_by(DiagnosisState.job_id)))


def verdict(engine: Engine, test_id: int) -> Verdict:
    with Session(engine) as session:
        found = readings(session, test_id, now=NOW + STEP)
    return judge(found.jobs, found.others, now=NOW + STEP)


def test_from_rows_to_a_verdict(engine: Engine, world: World, test_id: int) -> None:
    """Learning, then healthy, then fifty milliseconds more on one of two vantage points, named within five runs."""
    one, two = world.jobs()
    assert verdict(engine, test_id).status == "silent"
    store(engine, one, quiet(12), until=NOW - STEP * 200)
    assert diagnose(engine) == Scored(jobs=2, runs=12, suspected=0, called=0)
    assert states(engine)[0].needed == 18
    store(engine, one, quiet(180), until=NOW - STEP * 5)
    store(engine, two, quiet(180, seed=2))
    assert look_again(engine).runs == 360
    assert verdict(engine, test_id).status == "healthy"

    store(engine, one, quiet(5, more_ms=50.0))
    assert look_again(engine) == Scored(jobs=2, runs=5, suspected=1, called=1)
    found = verdict(engine, test_id)
    assert (found.status, found.domain, found.bad, found.judged) == ("fault", "path_fault", 1, 2)
    assert found.since == NOW - STEP * 4
    assert found.health is not None
    assert 50 < found.health < 90
    [evidence] = found.evidence
    assert evidence.metric is not None
    assert evidence.metric.high is not None
    assert 12 < evidence.metric.high < 20 < 55 < (evidence.metric.now or 0)


def test_what_is_scored_in_pieces_is_what_is_scored_at_once(
    engine: Engine, world: World, test_id: int
) -> None:
    """A keeper that ends between rounds, and rounds that are repeated, change nothing of the model."""
    one, two = world.jobs()
    values = quiet(120)
    diagnose(engine)
    for start in range(0, 120, 30):
        store(engine, one, values[start : start + 30], until=NOW - STEP * (90 - start))
        look_again(engine)
        assert look_again(engine).runs == 0
    store(engine, two, values)
    look_again(engine)
    first, second = states(engine)
    assert first.model == second.model
    assert first.position == second.position == NOW


def test_a_second_round_at_once_looks_at_nothing(engine: Engine, world: World, test_id: int) -> None:
    """A job is looked at once an interval, whoever asks."""
    store(engine, world.jobs()[0], quiet(5))
    assert diagnose(engine).jobs == 2
    assert diagnose(engine) == Scored(jobs=0, runs=0, suspected=0, called=0)


def test_a_round_that_is_cut_short_scores_nothing(
    engine: Engine, world: World, test_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails in the middle leaves position and model as they were; the next round does all of it."""
    one, two = world.jobs()
    store(engine, one, quiet(40))
    store(engine, two, quiet(40, seed=2))
    save = learnt.save

    def fail_after_writing(*arguments: Any, **more: Any) -> None:
        save(*arguments, **more)
        raise OperationalError("cut short", None, Exception())

    monkeypatch.setattr(learnt, "save", fail_after_writing)
    with pytest.raises(OperationalError, match="cut short"):
        diagnose(engine)
    assert [state.position for state in states(engine)] == [None, None]
    monkeypatch.undo()
    assert diagnose(engine).runs == 80


def test_many_jobs_take_no_more_statements_than_few(engine: Engine, world: World, test_id: int) -> None:
    """New runs, models and hours of the week are read and written for all jobs of a transaction together."""
    counted: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *words: counted.append(words[2]))
    taken = []
    for more, end in ((0, NOW - STEP * 100), (9, NOW)):
        for number in range(more):
            place = world.destination(f"Router {number}", f"192.0.2.{number + 10}")
            world.test(f"Round trip {number}", "ping", [place])
        plan_everything(engine)
        for runs, until in ((40, end - STEP), (1, end)):
            for job in world.jobs():
                store(engine, job, quiet(runs), until=until)
            counted.clear()
            looked = look_again(engine)
        assert (looked.jobs, looked.runs) == (2 + 2 * more, 2 + 2 * more)
        taken.append(len(counted))
    assert taken[0] == taken[1] < 20


def test_late_rows_are_left_alone(engine: Engine, world: World, test_id: int) -> None:
    """A run that was due before the last one scored, however wild, changes nothing and breaks nothing."""
    one = world.jobs()[0]
    store(engine, one, quiet(60))
    diagnose(engine)
    before = states(engine)[0].model
    store(engine, one, quiet(20, more_ms=5000.0), until=NOW - STEP * 100)
    assert look_again(engine).runs == 0
    assert states(engine)[0].model == before


def test_a_row_of_tomorrow_holds_up_none_of_today(engine: Engine, world: World, test_id: int) -> None:
    """One run from a clock that was wrong: those that are due now are scored, at the first look and after it."""
    one, other = world.jobs()
    with engine.begin() as connection:
        partitions.ensure_partitions(connection, "ping", [(NOW + dt.timedelta(days=1)).date()])
    store(engine, one, quiet(1, more_ms=5000.0), until=NOW + dt.timedelta(hours=23))
    store(engine, one, quiet(60), until=NOW - STEP * 20)
    assert diagnose(engine).runs == 60
    store(engine, one, quiet(10), until=NOW - STEP * 5)
    store(engine, other, quiet(1), until=NOW + dt.timedelta(hours=23))
    assert look_again(engine).runs == 10
    store(engine, other, quiet(10), until=NOW - STEP * 5)
    assert look_again(engine).runs == 10


def test_what_is_no_measurement_teaches_nothing(engine: Engine, world: World, test_id: int) -> None:
    """Stored by an earlier release, it is neither learnt nor shown to the batch model; large values that may be stored are."""
    one = world.jobs()[0]
    wild = [{"rtt_avg_ms": value, "loss_pct": 0.0} for value in (1.5e308, -1.5e308, math.nan, math.inf) * 3]
    store(engine, one, quiet(90), until=NOW - STEP * 120)
    store(engine, one, wild, until=NOW - STEP * 100)
    store(engine, one, quiet(90), until=NOW - STEP * 8)
    assert diagnose(engine).runs == 192
    store(engine, one, [{"rtt_avg_ms": 1e99, "loss_pct": 0.0} for _ in range(5)])
    assert look_again(engine).called == 1
    assert "fault" not in states(engine)[0].reading


def test_a_job_that_cannot_be_scored_holds_up_no_other(
    engine: Engine, world: World, test_id: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Those beside it are scored; it is told once, and what it has measured is scored when it can be."""
    one, other = world.jobs()
    store(engine, one, quiet(60), until=NOW - STEP * 50)
    store(engine, other, quiet(60), until=NOW - STEP * 50)
    assert diagnose(engine).runs == 120
    with engine.begin() as connection:
        broken = update(DiagnosisState).where(DiagnosisState.job_id == one.id)
        connection.execute(broken.values(model={"detectors": {"rtt_avg_ms": {"values": ["?"]}}}))
    for number in (40, 30):
        store(engine, one, quiet(5), until=NOW - STEP * number)
        store(engine, other, quiet(5), until=NOW - STEP * number)
        assert look_again(engine).runs == 5
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == 1
    assert told[0].startswith(f"job {one.id} cannot be diagnosed, and the others are: ")
    with engine.begin() as connection:
        connection.execute(broken.values(model={}))
    assert look_again(engine).runs == 10
    assert "fault" not in states(engine)[0].reading


def test_numbers_that_json_does_not_hold_spoil_one_job_alone(
    engine: Engine, world: World, test_id: int
) -> None:
    """A state with the numbers of an earlier release, whose sums of squares are infinite: the database refuses it."""
    one, other = world.jobs()
    store(engine, one, quiet(60), until=NOW - STEP * 50)
    diagnose(engine)
    with engine.begin() as connection:
        weeks = {"rtt_avg_ms": {str(_week(NOW)): [9.0, 1e200, 1e300]}}
        connection.execute(update(DiagnosisSeason).values(weeks=weeks))
    store(engine, one, quiet(5), until=NOW - STEP * 40)
    store(engine, other, quiet(5), until=NOW - STEP * 40)
    assert look_again(engine).runs == 5
    assert [state.reading.get("fault") is None for state in states(engine)] == [False, True]


def test_failed_and_unmeasured_rows_teach_nothing(engine: Engine, world: World, test_id: int) -> None:
    """Errors and missed runs are neither values nor zeros; failures are told at once, without any normal range."""
    one, two = world.jobs()
    error = {
        "status": probe_pb2.STATUS_ERROR,
        "failure_source": probe_pb2.FAILURE_SOURCE_VANTAGE,
        "error": "no",
    }
    missed = {"status": probe_pb2.STATUS_MISSED, "failure_source": probe_pb2.FAILURE_SOURCE_SCHEDULE}
    failed = {
        "status": probe_pb2.STATUS_FAILED,
        "failure_source": probe_pb2.FAILURE_SOURCE_NETWORK,
        "error": "no reply within 1000 ms",
        "loss_pct": 100.0,
    }
    none = {"error": None, "loss_pct": None}
    store(engine, one, [none | error, none | missed] * 20)
    store(engine, two, [none | failed] * 3)
    diagnose(engine)
    first, second = states(engine)
    assert (first.needed, second.needed) == (30, 30)
    assert all(not one["values"] for one in first.model["detectors"].values())
    found = verdict(engine, test_id)
    assert (found.status, found.domain, found.health) == ("fault", "path_fault", 0)
    assert (found.bad, found.judged) == (1, 1)


def test_another_target_begins_anew(engine: Engine, world: World, test_id: int) -> None:
    """What was normal for one destination is not normal for another; the old runs are not scored again."""
    one = world.jobs()[0]
    store(engine, one, quiet(60), until=NOW - dt.timedelta(hours=1))
    diagnose(engine)
    assert states(engine)[0].needed == 0
    with engine.begin() as connection:
        moved = update(Job).where(Job.id == one.id)
        connection.execute(moved.values(target="192.0.2.9", updated_at=NOW - dt.timedelta(minutes=30)))
    assert look_again(engine).runs == 0
    assert states(engine)[0].needed == 30
    store(engine, one, quiet(10, more_ms=50.0))
    assert look_again(engine).runs == 10
    assert states(engine)[0].needed == 20


def test_a_batch_model_that_fails_leaves_the_suspicion(
    engine: Engine, world: World, test_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The round fails with the reason; what was scored stays, nothing is called, and the next runs ask again."""
    one = world.jobs()[0]
    store(engine, one, quiet(180), until=NOW - STEP * 10)
    diagnose(engine)
    store(engine, one, quiet(5, more_ms=50.0), until=NOW - STEP * 5)
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(ForestError, match="ended with code 1"):
        look_again(engine)
    monkeypatch.undo()
    assert states(engine)[0].position == NOW - STEP * 5
    assert verdict(engine, test_id).domain is None
    store(engine, one, quiet(5, more_ms=50.0))
    assert look_again(engine).called == 1
    assert verdict(engine, test_id).domain == "path_fault"


def test_an_answer_that_comes_too_late_is_dropped(
    engine: Engine, world: World, test_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the batch model thinks, the job is scored on: its answer is about another state."""
    one = world.jobs()[0]
    store(engine, one, quiet(180), until=NOW - STEP * 10)
    diagnose(engine)
    store(engine, one, quiet(5, more_ms=50.0), until=NOW - STEP * 5)

    def meanwhile(questions: list[Any]) -> list[bool]:
        with engine.begin() as connection:
            connection.execute(update(DiagnosisState).values(version=DiagnosisState.version + 1))
        return [True for _ in questions]

    monkeypatch.setattr(diagnosing.forest, "ask", meanwhile)
    assert look_again(engine).called == 0
    assert verdict(engine, test_id).domain is None


def test_one_round_is_bounded(engine: Engine, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many jobs and long backlogs are worked off in rounds, those that waited longest first."""
    monkeypatch.setattr(diagnosing, "_CHUNK", 4)
    monkeypatch.setattr(diagnosing, "ROWS", 50)
    world.worker("edge-1")
    places = [world.destination(f"place {number}", f"192.0.2.{number}") for number in range(1, 11)]
    world.test("Round trip", "ping", places)
    plan_everything(world.engine)
    diagnose(engine)
    for job in world.jobs():
        store(engine, job, quiet(120))
    with engine.begin() as connection:
        connection.execute(
            update(DiagnosisState).values(
                looked_at=func.now() - dt.timedelta(minutes=2), position=NOW - STEP * 200
            )
        )
    assert diagnose(engine, round_s=0) == Scored(jobs=4, runs=200, suspected=0, called=0)
    assert diagnose(engine, round_s=0).jobs == 4
    assert diagnose(engine, round_s=0).jobs == 2
    assert [state.position for state in states(engine)] == [NOW - STEP * 70] * 10


def test_states_go_with_jobs_that_are_gone(engine: Engine, world: World, test_id: int) -> None:
    """A week after a job has retired, nothing that was learnt of it is kept."""
    one, two = world.jobs()
    store(engine, one, quiet(5))
    diagnose(engine)
    with engine.begin() as connection:
        connection.execute(
            update(Job).where(Job.id == one.id).values(retired_at=func.now() - dt.timedelta(days=8))
        )
    prune(engine)
    with Session(engine) as session:
        assert session.scalars(select(DiagnosisState.job_id)).all() == [two.id]
        assert session.scalars(select(DiagnosisSeason.job_id)).all() == []


def test_a_keeper_scores_by_itself(engine: Engine, world: World, test_id: int, keepers: Keepers) -> None:
    """The process does it every few seconds, after a kill as before."""
    one = world.jobs()[0]
    store(engine, one, quiet(60), until=NOW - STEP)
    process = keepers.start()

    def position() -> dt.datetime | None:
        return next((state.position for state in states(engine)), None)

    wait_for("scoring", lambda: position() == NOW - STEP, 40)
    process.kill()
    process.wait(10)
    store(engine, one, quiet(1))
    keepers.start()
    wait_for("scoring by the next keeper", lambda: position() == NOW, 60)


def test_what_else_a_worker_measures_is_read_where_a_job_is_bad(
    engine: Engine, world: World, test_id: int
) -> None:
    """Of the workers from which the test is bad, and of no other; of a test that is well nothing but its own jobs."""
    world.worker("edge-9")
    world.test("Hosts", "system", [], selection={"workers": [str(world.worker("edge-8"))]})
    everywhere = world.test("All hosts", "system", [])
    plan_everything(world.engine)

    def read() -> Readings:
        with Session(engine) as session:
            return readings(session, test_id, now=NOW + STEP)

    one, *well = [job for job in world.jobs() if job.test_id == test_id]
    for job in (one, *well):
        store(engine, job, quiet(12))
    diagnose(engine)
    found = read()
    assert {job.worker_name for job in found.jobs} == {"edge-1", "edge-2", "edge-8", "edge-9"}
    assert {job.test_id for job in found.jobs} == {test_id}
    assert found.others == ()
    failed = {"status": probe_pb2.STATUS_FAILED, "failure_source": probe_pb2.FAILURE_SOURCE_NETWORK}
    later = NOW + STEP * 3
    store(engine, one, [failed] * 3, until=later)
    look_again(engine)
    with Session(engine) as session:
        found = readings(session, test_id, now=later + STEP)
    assert {(job.test_id, job.worker_id) for job in found.others} == {(everywhere, one.worker_id)}
