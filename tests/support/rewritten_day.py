"""A day of results that is rewritten: its rows, and what an attempt leaves beside it."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Connection, Engine, text

from controller.store.upkeep.rewriting import Day

DAY = Day(table="result_ping", day=dt.date(2026, 3, 29))
START = dt.datetime(2026, 3, 29, tzinfo=dt.UTC)


def insert(connection: Connection, job: int, second: int) -> None:
    """Store the result of a job that was due in a second of the day."""
    connection.execute(
        text(
            "INSERT INTO result_ping (job_id, scheduled_at, started_at, duration_ms, job_version, status, "
            "failure_source, rtt_avg_ms) VALUES (:job, :at, :at, 1, 1, 1, 0, :value)"
        ),
        {"job": job, "at": START + dt.timedelta(seconds=second), "value": second / 1000},
    )


def stored(engine: Engine) -> list[tuple[int, int]]:
    """Return job and second of every result in the order in which they lie on disk; none is there twice."""
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT job_id, extract(epoch FROM scheduled_at - :start)::int AS second FROM result_ping "
                "WHERE tableoid = to_regclass(:name) ORDER BY ctid"
            ),
            {"start": START, "name": DAY.name},
        ).all()
    found = [(row.job_id, row.second) for row in rows]
    assert len(found) == len(set(found))
    return found


def beside(engine: Engine) -> list[str]:
    """Return the tables and triggers that an attempt has left."""
    with engine.connect() as connection:
        return list(
            connection.execute(
                text(
                    "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^(new|old|late)_' "
                    "UNION ALL SELECT tgname FROM pg_trigger WHERE tgname = 'keep_late' ORDER BY 1"
                )
            ).scalars()
        )
