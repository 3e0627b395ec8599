"""Scores new results: each job's rows since the last look, its model, and for suspicions the batch model.

Bounded in every round: so many jobs, so many rows of each, so many suspicions. A job's row of state is locked while it
is scored and says how far; a round that is cut short, runs twice or beside another scores no run twice. A result
that arrives later than one that was due after it is not scored: the normal range does not miss it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, delete, func, literal, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from controller.diagnosis.learning import forest
from controller.diagnosis.learning.forest import Question
from controller.diagnosis.learning.model import JobModel, Run
from controller.diagnosis.learning.season import Season, slot_of
from controller.diagnosis.learning.usual import LOOK_BACK, usual
from controller.diagnosis.watched import watched
from controller.store import results
from controller.store.diagnoses import DiagnosisSeason, DiagnosisState
from controller.store.entities import Job
from streamswarm.v1 import probe_pb2

#: Jobs that are scored in one transaction.
_CHUNK = 50
#: Jobs that get their first row of state in one round.
_NEW = 2000
#: Rows of a job that are scored at a look; the first look takes the newest ones.
ROWS = 400
#: A round ends after so long; the next goes on with those that waited longest.
_ROUND_S = 5.0
#: A job is looked at once an interval, but neither more nor less often than this.
_SHORTEST_LOOK_S = 4.0
_LONGEST_LOOK_S = 60.0
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What one round did."""

    jobs: int
    runs: int
    suspected: int
    called: int


@dataclass(frozen=True, kw_only=True)
class _Suspicion:
    """A job about which the batch model is asked, at the version of its state that the question is about."""

    job_id: int
    kind: str
    version: int
    question: Question


def diagnose(engine: Engine, *, round_s: float = _ROUND_S) -> Scored:
    """Score what is new, then ask the batch model about what is suspected; return what was done."""
    deadline = time.monotonic() + round_s
    _add_states(engine)
    jobs = runs = 0
    suspicions: list[_Suspicion] = []
    while True:
        looked, scored, found = _score_chunk(engine)
        jobs, runs = jobs + looked, runs + scored
        suspicions += found
        if looked < _CHUNK or time.monotonic() > deadline or len(suspicions) >= forest.QUESTIONS:
            break
    asked = suspicions[: forest.QUESTIONS]
    answers = forest.ask([suspicion.question for suspicion in asked])
    called = sum(_answer(engine, suspicion, agreed) for suspicion, agreed in zip(asked, answers, strict=True))
    return Scored(jobs=jobs, runs=runs, suspected=len(suspicions), called=called)


def _add_states(engine: Engine) -> None:
    """Give every scheduled job its row of state."""
    lacking = (
        select(Job.id)
        .where(
            Job.retired_at.is_(None),
            ~Job.one_shot,
            Job.kind.in_(results.kinds()),
            ~select(DiagnosisState.job_id).where(DiagnosisState.job_id == Job.id).exists(),
        )
        .limit(_NEW)
    )
    with engine.begin() as connection:
        connection.execute(upsert(DiagnosisState).from_select(["job_id"], lacking).on_conflict_do_nothing())


def _score_chunk(engine: Engine) -> tuple[int, int, list[_Suspicion]]:
    """Score the jobs that have waited longest; return how many were looked at, their new runs, the suspicions."""
    pause = func.make_interval(
        0, 0, 0, 0, 0, 0,
        func.least(func.greatest(Job.interval_us / literal(1e6), _SHORTEST_LOOK_S), _LONGEST_LOOK_S),
    )  # fmt: skip
    due = (
        select(DiagnosisState, Job)
        .join(Job, Job.id == DiagnosisState.job_id)
        .where(
            Job.retired_at.is_(None),
            Job.kind.in_(results.kinds()),
            or_(DiagnosisState.looked_at.is_(None), DiagnosisState.looked_at <= func.now() - pause),
        )
        .order_by(DiagnosisState.looked_at.asc().nulls_first(), DiagnosisState.job_id)
        .limit(_CHUNK)
        .with_for_update(of=DiagnosisState, skip_locked=True)
    )
    runs = 0
    suspicions = []
    with Session(engine) as session, session.begin():
        found = session.execute(due).all()
        for state, job in found:
            scored, suspicion = _score(session, state, job)
            runs += scored
            if suspicion is not None:
                suspicions.append(suspicion)
    return len(found), runs, suspicions


def _score(session: Session, state: DiagnosisState, job: Job) -> tuple[int, _Suspicion | None]:
    """Score the new runs of one job."""
    fingerprint = _fingerprint(job)
    if state.fingerprint != fingerprint:
        # Another target or other parameters: what was normal says nothing about them.
        if state.fingerprint:
            session.execute(delete(DiagnosisSeason).where(DiagnosisSeason.job_id == job.id))
            state.position = job.updated_at
        state.fingerprint, state.model, state.reading = fingerprint, {}, {}
    model = JobModel(job.kind, state.model)
    new = _new_runs(session, job, after=state.position)
    seasons = _seasons(session, job.id, {slot_of(run.at) for run in new})
    for run in new:
        model.score(run, seasons[slot_of(run.at)])
    state.looked_at = func.now()
    if new:
        state.position = new[-1].at
    if new or not state.reading:
        state.needed, state.model, state.reading = model.needed, model.dump(), model.reading()
        state.version += 1
    for slot, season in seasons.items():
        values = {"job_id": job.id, "slot": slot, "weeks": season.dump()}
        session.execute(
            upsert(DiagnosisSeason)
            .values(values)
            .on_conflict_do_update(index_elements=["job_id", "slot"], set_={"weeks": values["weeks"]})
        )
    if not new or not model.suspected:
        return len(new), None
    question = _question(session, job, model)
    return len(new), _Suspicion(job_id=job.id, kind=job.kind, version=state.version, question=question)


def _answer(engine: Engine, suspicion: _Suspicion, agreed: bool) -> bool:
    """Write down what the batch model says, unless the job was scored on meanwhile; return whether it was called."""
    with Session(engine) as session, session.begin():
        state = session.get(DiagnosisState, suspicion.job_id, with_for_update=True)
        if state is None or state.version != suspicion.version:
            return False
        model = JobModel(suspicion.kind, state.model)
        model.judged(agreed)
        state.model, state.reading = model.dump(), model.reading()
        state.version += 1
    return agreed


def _question(session: Session, job: Job, model: JobModel) -> Question:
    """Return the quiet runs before the suspicion and the runs that raised it."""
    table = results.table(job.kind)
    columns = [table.c[results.metric_column(job.kind, metric.name).name] for metric in watched(job.kind)]
    suspected = model.suspected
    since = min(detector.since_us or 0 for detector in suspected)
    odd = [instant(at) for detector in suspected for at in detector.beyond_us()]
    quiet = session.execute(
        select(*columns)
        .where(
            table.c.job_id == job.id,
            table.c.scheduled_at < instant(since),
            table.c.status == probe_pb2.STATUS_OK,
        )
        .order_by(table.c.scheduled_at.desc())
        .limit(LOOK_BACK)
    )
    suspect = session.execute(select(*columns).where(table.c.job_id == job.id, table.c.scheduled_at.in_(odd)))
    names = [metric.name for metric in watched(job.kind)]
    return Question(
        quiet=usual([list(row) for row in quiet], names, suspected), suspect=[list(row) for row in suspect]
    )


def _new_runs(session: Session, job: Job, *, after: dt.datetime | None) -> Sequence[Run]:
    """Return the job's runs after an instant, oldest first; at the first look the newest ones."""
    table = results.table(job.kind)
    named = [(metric.name, results.metric_column(job.kind, metric.name).name) for metric in watched(job.kind)]
    statement = select(
        table.c.scheduled_at,
        table.c.status,
        table.c.failure_source,
        table.c.error,
        table.c.clock_offset_ms,
        *(table.c[column] for _, column in named),
    ).where(table.c.job_id == job.id)
    if after is None:
        rows = session.execute(statement.order_by(table.c.scheduled_at.desc()).limit(ROWS)).all()[::-1]
    else:
        statement = statement.where(table.c.scheduled_at > after)
        rows = list(session.execute(statement.order_by(table.c.scheduled_at).limit(ROWS)).all())
    return [
        Run(
            at=row.scheduled_at,
            status=_word(probe_pb2.Status, row.status, "STATUS_"),
            source=_word(probe_pb2.FailureSource, row.failure_source, "FAILURE_SOURCE_"),
            error=row.error or "",
            clock_offset_ms=row.clock_offset_ms,
            values={name: row._mapping[column] for name, column in named},
        )
        for row in rows
    ]


def _seasons(session: Session, job_id: int, slots: set[int]) -> dict[int, Season]:
    """Return the hours of the week that the runs fall into."""
    if not slots:
        return {}
    rows = session.execute(
        select(DiagnosisSeason.slot, DiagnosisSeason.weeks).where(
            DiagnosisSeason.job_id == job_id, DiagnosisSeason.slot.in_(slots)
        )
    )
    known = {slot: Season.load(weeks) for slot, weeks in rows}
    return {slot: known.get(slot, Season()) for slot in slots}


def instant(at_us: int) -> dt.datetime:
    """Return the instant of microseconds since the epoch."""
    return _EPOCH + dt.timedelta(microseconds=at_us)


def _fingerprint(job: Job) -> str:
    what = json.dumps([job.kind, job.target, job.spec], sort_keys=True)
    return hashlib.sha256(what.encode()).hexdigest()[:16]


def _word(enum: Any, number: int, prefix: str) -> str:
    return str(enum.Name(number)).removeprefix(prefix).lower()
