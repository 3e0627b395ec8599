"""Scores new results: each job's rows since the last look, its model, and for suspicions the batch model.

Bounded in every round: so many jobs, so many rows of each, so many suspicions. A job's row of state is locked while it
is scored and says how far; a round that is cut short, runs twice or beside another scores no run twice. A result
that arrives later than one that was due after it is not scored: the normal range does not miss it.

Jobs are scored some at a time. When that fails, each is scored by itself, and the one that fails again is left as it is: the
next look at it tries again.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, func, literal, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from controller.diagnosis.learning import forest
from controller.diagnosis.learning.forest import Question
from controller.diagnosis.learning.model import JobModel, Run
from controller.diagnosis.learning.season import slot_of
from controller.diagnosis.learning.usual import LOOK_BACK, usual
from controller.diagnosis.watched import watched
from controller.keeper import learnt
from controller.logs import reason
from controller.store import results
from controller.store.entities import Job
from controller.store.entities.diagnosis import DiagnosisState
from streamswarm.v1 import probe_pb2
from streamswarm.zones import from_microseconds

_log = logging.getLogger(__name__)

#: Jobs that are scored in one transaction.
_CHUNK = 50
#: Jobs that are found due in one round; more than it can score.
_MOST = 10_000
#: Jobs that get their first row of state in one round.
_NEW = 2000
#: Rows of a job that are scored at a look; the first look takes the newest ones.
ROWS = 400
#: A round ends after so long; the next goes on with those that waited longest.
_ROUND_S = 5.0
#: A job is looked at once an interval, but neither more nor less often than this.
_SHORTEST_LOOK_S = 4.0
_LONGEST_LOOK_S = 60.0


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
    due = _due(engine)
    jobs = runs = 0
    suspicions: list[_Suspicion] = []
    for start in range(0, len(due), _CHUNK):
        looked, scored, found = _score_guarded(engine, due[start : start + _CHUNK])
        jobs, runs = jobs + looked, runs + scored
        suspicions += found
        if time.monotonic() > deadline or len(suspicions) >= forest.QUESTIONS:
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


def _is_due() -> ColumnElement[bool]:
    pause = func.make_interval(
        0, 0, 0, 0, 0, 0,
        func.least(func.greatest(Job.interval_us / literal(1e6), _SHORTEST_LOOK_S), _LONGEST_LOOK_S),
    )  # fmt: skip
    return and_(
        Job.retired_at.is_(None),
        Job.kind.in_(results.kinds()),
        or_(DiagnosisState.looked_at.is_(None), DiagnosisState.looked_at <= func.now() - pause),
    )


def _due(engine: Engine) -> Sequence[int]:
    """Return the jobs to look at, those first that have waited longest: found once a round, for it reads all states."""
    statement = (
        select(DiagnosisState.job_id)
        .join(Job, Job.id == DiagnosisState.job_id)
        .where(_is_due())
        .order_by(DiagnosisState.looked_at.asc().nulls_first(), DiagnosisState.job_id)
        .limit(_MOST)
    )
    with engine.begin() as connection:
        return connection.execute(statement).scalars().all()


def _score_guarded(engine: Engine, jobs: Sequence[int]) -> tuple[int, int, list[_Suspicion]]:
    """Score these jobs, each by itself where they cannot be scored together, so that one holds up no other."""
    try:
        return _score_chunk(engine, jobs)
    except (OperationalError, ProgrammingError):
        raise  # a lock that was not had, a connection that broke, another release's schema: no job's fault
    except Exception as error:  # noqa: BLE001  whatever it is, it is one job's
        if len(jobs) == 1:
            _pass_over(engine, jobs[0], error)
            return 1, 0, []
    looked = runs = 0
    suspicions: list[_Suspicion] = []
    for job in jobs:
        mine, scored, found = _score_guarded(engine, [job])
        looked, runs = looked + mine, runs + scored
        suspicions += found
    return looked, runs, suspicions


def _pass_over(engine: Engine, job_id: int, error: Exception) -> None:
    """Leave a job that cannot be scored as it is, and tell of it, once for each reason, until it is scored again."""
    why = reason(error)
    with Session(engine) as session, session.begin():
        state = session.get(DiagnosisState, job_id, with_for_update=True)
        if state is None:
            return
        told = state.reading.get("fault") == why
        state.looked_at, state.reading = func.now(), {**state.reading, "fault": why}
    if not told:
        _log.error(
            "job %s cannot be diagnosed, and the others are: %s; where its state is to blame, DELETE FROM "
            "diagnosis_states WHERE job_id = %s lets it learn anew",
            job_id,
            why,
            job_id,
            exc_info=error,
        )


def _score_chunk(engine: Engine, jobs: Sequence[int]) -> tuple[int, int, list[_Suspicion]]:
    """Score those of these jobs that are still due; return how many were looked at, their new runs, the suspicions."""
    statement = (
        select(
            DiagnosisState.job_id,
            DiagnosisState.version,
            DiagnosisState.fingerprint,
            DiagnosisState.position,
            (DiagnosisState.reading == {}).label("blank"),
            Job.kind,
            Job.target,
            Job.spec,
            Job.updated_at,
        )
        .join(Job, Job.id == DiagnosisState.job_id)
        .where(DiagnosisState.job_id.in_(jobs), _is_due())
        .order_by(DiagnosisState.job_id)
        .with_for_update(of=DiagnosisState, skip_locked=True)
    )
    runs = 0
    with engine.begin() as connection:
        looks = [_Look(row) for row in connection.execute(statement)]
        for kind in sorted({look.kind for look in looks}):
            after = {look.job_id: look.position for look in looks if look.kind == kind}
            new = learnt.new_runs(connection, kind, after, most=ROWS)
            for look in looks:
                look.runs = new.get(look.job_id, look.runs)
        learnt.forget_seasons(connection, [look.job_id for look in looks if look.begins_anew])
        changed = [look for look in looks if look.runs or look.blank or look.begins_anew]
        known = learnt.models(connection, [look.job_id for look in changed if not look.begins_anew])
        hours = learnt.seasons(connection, {hour for look in changed for hour in look.hours})
        suspicions = []
        written = []
        for look in changed:
            model = JobModel(look.kind, known.get(look.job_id))
            for run in look.runs:
                model.score(run, hours[look.job_id, slot_of(run.at)])
            runs += len(look.runs)
            written.append(look.learnt(model))
            if look.runs and model.suspected:
                question = _question(connection, look, model)
                suspicions.append(
                    _Suspicion(
                        job_id=look.job_id, kind=look.kind, version=look.version + 1, question=question
                    )
                )
        unchanged = [look.job_id for look in looks if look not in changed]
        learnt.save(connection, written, hours, unchanged=unchanged)
    return len(looks), runs, suspicions


class _Look:
    """One job while it is looked at."""

    def __init__(self, row: Row[Any]) -> None:
        self.job_id: int = row.job_id
        self.kind: str = row.kind
        self.version: int = row.version
        self.blank: bool = row.blank
        self.fingerprint = _fingerprint(row)
        #: Another target or other parameters: what was normal says nothing about them.
        self.begins_anew = bool(row.fingerprint) and row.fingerprint != self.fingerprint
        self.position: dt.datetime | None = row.updated_at if self.begins_anew else row.position
        #: New ones, oldest first.
        self.runs: Sequence[Run] = ()

    @property
    def hours(self) -> set[learnt.Hour]:
        """The hours of the week that the runs fall into."""
        return {(self.job_id, slot_of(run.at)) for run in self.runs}

    def learnt(self, model: JobModel) -> learnt.Learnt:
        """Return what is kept of it."""
        position = self.runs[-1].at if self.runs else self.position
        return learnt.Learnt(
            job_id=self.job_id,
            fingerprint=self.fingerprint,
            position=None if position is None else position.isoformat(),
            needed=model.needed,
            model=model.dump(),
            reading=model.reading(),
        )


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


def _question(connection: Connection, look: _Look, model: JobModel) -> Question:
    """Return the quiet runs before the suspicion and the runs that raised it."""
    table = results.table(look.kind)
    columns = [table.c[results.metric_column(look.kind, metric.name).name] for metric in watched(look.kind)]
    suspected = model.suspected
    since = min(detector.since_us or 0 for detector in suspected)
    odd = [from_microseconds(at) for detector in suspected for at in detector.beyond_us()]
    quiet = connection.execute(
        select(*columns)
        .where(
            table.c.job_id == look.job_id,
            table.c.scheduled_at < from_microseconds(since),
            table.c.status == probe_pb2.STATUS_OK,
        )
        .order_by(table.c.scheduled_at.desc())
        .limit(LOOK_BACK)
    )
    suspect = connection.execute(
        select(*columns).where(table.c.job_id == look.job_id, table.c.scheduled_at.in_(odd))
    )
    names = [metric.name for metric in watched(look.kind)]
    return Question(
        quiet=usual([_measured(row) for row in quiet], names, suspected),
        suspect=[_measured(row) for row in suspect],
    )


def _measured(row: Iterable[float | None]) -> list[float | None]:
    return [results.measured(value) for value in row]


def _fingerprint(job: Any) -> str:
    what = json.dumps([job.kind, job.target, job.spec], sort_keys=True)
    return hashlib.sha256(what.encode()).hexdigest()[:16]
