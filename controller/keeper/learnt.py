"""Reads and writes what diagnosis learns from and has learnt, for many jobs with one statement each.

One job's share of a statement costs a tenth of a statement of its own; a keeper that scores a hundred runs a second feels it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from controller.diagnosis.learning.model import Run
from controller.diagnosis.learning.season import Season
from controller.diagnosis.watched import watched
from controller.store import results
from streamswarm.v1 import probe_pb2

#: Runs that fall into one hour of the week, of one job.
Hour = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """What a look at one job has changed of its state."""

    job_id: int
    fingerprint: str
    position: str | None
    needed: int
    model: dict[str, Any]
    reading: dict[str, Any]


def new_runs(
    connection: Connection, kind: str, after: Mapping[int, dt.datetime | None], *, most: int
) -> dict[int, list[Run]]:
    """Return runs of these jobs after an instant each, oldest first; of those without one the newest.

    Runs that are due only later, by the database's clock, have their turn then: a job whose worker's clock was wrong
    would not be looked at before.
    """
    known = {job: instant for job, instant in after.items() if instant is not None}
    unknown = [job for job, instant in after.items() if instant is None]
    found: dict[int, list[Run]] = {}
    if known:
        condition = "t.scheduled_at > d.after AND t.scheduled_at > :oldest ORDER BY t.scheduled_at"
        values = {"jobs": list(known), "afters": list(known.values()), "oldest": min(known.values())}
        _read(connection, kind, "CAST(:afters AS timestamptz[])", condition, {**values, "most": most}, found)
    if unknown:
        condition = "true ORDER BY t.scheduled_at DESC"
        _read(
            connection, kind, "CAST(NULL AS timestamptz[])", condition, {"jobs": unknown, "most": most}, found
        )
        for job in unknown:
            found.get(job, []).reverse()
    return found


def _read(
    connection: Connection,
    kind: str,
    afters: str,
    condition: str,
    values: Mapping[str, Any],
    found: dict[int, list[Run]],
) -> None:
    names = [metric.name for metric in watched(kind)]
    columns = [results.metric_column(kind, name).name for name in names]
    selected = ", ".join(("scheduled_at", "status", "failure_source", "error", "clock_offset_ms", *columns))
    rows = connection.execute(
        text(
            f"SELECT d.job_id, r.* FROM unnest(CAST(:jobs AS bigint[]), {afters}) AS d (job_id, after), "  # noqa: S608
            f"LATERAL (SELECT {selected} FROM {results.table_name(kind)} t "
            f"WHERE t.job_id = d.job_id AND t.scheduled_at <= now() AND {condition} LIMIT :most) r"
        ),
        values,
    )
    for job, at, status, source, error, offset_ms, *measured in rows:
        found.setdefault(job, []).append(
            Run(
                at=at,
                status=_word(probe_pb2.Status, status, "STATUS_"),
                source=_word(probe_pb2.FailureSource, source, "FAILURE_SOURCE_"),
                error=error or "",
                clock_offset_ms=offset_ms,
                values=dict(zip(names, map(results.measured, measured), strict=True)),
            )
        )


def models(connection: Connection, jobs: Collection[int]) -> dict[int, dict[str, Any]]:
    """Return the models of these jobs as they were dumped."""
    rows = connection.execute(
        text("SELECT job_id, model FROM diagnosis_states WHERE job_id = ANY(:jobs)"), {"jobs": list(jobs)}
    )
    return {row.job_id: row.model for row in rows}


def seasons(connection: Connection, hours: Collection[Hour]) -> dict[Hour, Season]:
    """Return hours of the week, new ones where nothing is known."""
    if not hours:
        return {}
    rows = connection.execute(
        text(
            "SELECT s.job_id, s.slot, s.weeks "
            "FROM unnest(CAST(:jobs AS bigint[]), CAST(:slots AS smallint[])) AS d (job_id, slot) "
            "JOIN diagnosis_seasons s ON s.job_id = d.job_id AND s.slot = d.slot"
        ),
        {"jobs": [job for job, _ in hours], "slots": [slot for _, slot in hours]},
    )
    known = {(row.job_id, row.slot): Season.load(row.weeks) for row in rows}
    return {hour: known.get(hour, Season()) for hour in hours}


_SAVE_STATES = text(
    """
    UPDATE diagnosis_states s SET version = s.version + 1, fingerprint = c.fingerprint, position = c.position,
        looked_at = now(), needed = c.needed, model = c.model, reading = c.reading
    FROM jsonb_to_recordset(:rows)
        AS c (job_id bigint, fingerprint text, position timestamptz, needed integer, model jsonb, reading jsonb)
    WHERE s.job_id = c.job_id
    """
).bindparams(bindparam("rows", type_=JSONB))
_SAVE_SEASONS = text(
    """
    INSERT INTO diagnosis_seasons (job_id, slot, weeks)
    SELECT job_id, slot, weeks FROM jsonb_to_recordset(:rows) AS c (job_id bigint, slot smallint, weeks jsonb)
    ON CONFLICT (job_id, slot) DO UPDATE SET weeks = excluded.weeks
    """
).bindparams(bindparam("rows", type_=JSONB))


def save(
    connection: Connection,
    learnt: Sequence[Learnt],
    hours: Mapping[Hour, Season],
    *,
    unchanged: Sequence[int],
) -> None:
    """Write what was learnt; of the jobs without anything new only that they were looked at."""
    if unchanged:
        connection.execute(
            text("UPDATE diagnosis_states SET looked_at = now() WHERE job_id = ANY(:jobs)"),
            {"jobs": list(unchanged)},
        )
    if learnt:
        connection.execute(_SAVE_STATES, {"rows": [vars(item) for item in learnt]})
    if hours:
        rows = [
            {"job_id": job, "slot": slot, "weeks": season.dump()}
            for (job, slot), season in sorted(hours.items(), key=lambda item: item[0])
        ]
        connection.execute(_SAVE_SEASONS, {"rows": rows})


def forget_seasons(connection: Connection, jobs: Sequence[int]) -> None:
    """Remove what is known of these jobs' hours of the week."""
    if jobs:
        connection.execute(
            text("DELETE FROM diagnosis_seasons WHERE job_id = ANY(:jobs)"), {"jobs": list(jobs)}
        )


def _word(enum: Any, number: int, prefix: str) -> str:
    return str(enum.Name(number)).removeprefix(prefix).lower()
