"""Works off the marks of late results: their buckets are computed again, and the marks removed.

Both happen in one transaction, as long as it takes no longer than it may: a mark that is seen says that its result is. Of a
job of which buckets are passed over, the marks go apart from others: they are read first, and removed once their buckets
are computed or noted.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

from controller.store import partitions, rollups
from controller.store.rollups import DAY, FIVE_MINUTES, HOUR, Layer, computing, frontiers, passed_over
from controller.store.rollups.computing import Stretch
from controller.store.rollups.frontiers import Frontier


@dataclass(frozen=True, kw_only=True)
class _Hour:
    """The marks of one job in one hour."""

    job_id: int
    ids: list[int]
    buckets: set[dt.datetime]


def last(engine: Engine, kind: str) -> int:
    """Return the newest mark of a kind; 0 when there is none."""
    with engine.connect() as connection:
        newest: int = connection.execute(
            text("SELECT coalesce(max(id), 0) FROM dirty_buckets WHERE kind = :kind"), {"kind": kind}
        ).scalar_one()
    return newest


def recompute(engine: Engine, kind: str, together: int, until: int) -> int:
    """Compute the buckets of some marks again and remove the marks, all in one transaction; return how many."""
    with engine.begin() as connection:
        standing = frontiers.locked(connection, kind)
        marks = connection.execute(
            text(
                "DELETE FROM dirty_buckets WHERE id IN ("
                "  SELECT id FROM dirty_buckets WHERE kind = :kind AND id <= :last AND NOT job_id = ANY(:apart) "
                "  ORDER BY id LIMIT :most"
                ") RETURNING job_id, bucket"
            ),
            {
                "kind": kind,
                "last": until,
                "most": together,
                "apart": list(passed_over.jobs(connection, kind)),
            },
        ).all()
        for of, stretches in _stretches(
            connection, kind, {(mark.job_id, mark.bucket) for mark in marks}, standing
        ):
            for source in rollups.sources(kind):
                computing.compute(
                    connection, source, of, sorted(stretches, key=lambda item: (item.job_id, item.start))
                )
    return len(marks)


def recompute_apart(engine: Engine, kind: str, until: int) -> int:
    """Work off the marks of jobs of which buckets are passed over; return how many."""
    with engine.connect() as connection:
        apart = list(passed_over.jobs(connection, kind))
    return _work_off(engine, kind, until, apart) if apart else 0


def recompute_next(engine: Engine, kind: str, until: int) -> int:
    """Work off the marks of the job that has the next one, which takes too long among others; return how many."""
    with engine.connect() as connection:
        apart = passed_over.jobs(connection, kind)
        job = connection.execute(
            text(
                "SELECT job_id FROM dirty_buckets WHERE kind = :kind AND id <= :last AND NOT job_id = ANY(:apart) "
                "ORDER BY id LIMIT 1"
            ),
            {"kind": kind, "last": until, "apart": list(apart)},
        ).scalar_one_or_none()
    return 0 if job is None else _work_off(engine, kind, until, [job])


def _work_off(engine: Engine, kind: str, until: int, jobs: list[int]) -> int:
    count = 0
    lost: dict[int, int] = defaultdict(int)
    for hour in _hours(engine, kind, until, jobs):
        with engine.begin() as connection:
            standing = frontiers.locked(connection, kind)
            marked = {(hour.job_id, bucket) for bucket in hour.buckets}
            wanted = list(_stretches(connection, kind, marked, standing))
        for of, stretches in wanted:
            for stretch in sorted(stretches, key=lambda item: item.start):
                lost[hour.job_id] += _compute_unless_noted(
                    engine, kind, of, stretch, tried=lost[hour.job_id] < computing.MOST_TRIED
                )
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM dirty_buckets WHERE id = ANY(:ids)"), {"ids": hour.ids})
        count += len(hour.ids)
    return count


def _compute_unless_noted(engine: Engine, kind: str, of: Layer, stretch: Stretch, *, tried: bool) -> bool:
    """Compute a bucket, or note it without a try; whether it is lost. What is noted already is tried again in its turn."""
    with engine.begin() as connection:
        if passed_over.noted_anew(connection, kind, of, stretch):
            return False
    lost = computing.compute_halving(engine, kind, of, stretch) if tried else [stretch]
    if lost:
        with engine.begin() as connection:
            passed_over.note(connection, kind, of, lost)
    return bool(lost)


def _hours(engine: Engine, kind: str, until: int, jobs: list[int]) -> list[_Hour]:
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT id, job_id, bucket FROM dirty_buckets "
                "WHERE kind = :kind AND id <= :last AND job_id = ANY(:jobs) ORDER BY id"
            ),
            {"kind": kind, "last": until, "jobs": jobs},
        ).all()
    found: dict[tuple[int, dt.datetime], _Hour] = {}
    for row in rows:
        place = (row.job_id, rollups.floor(row.bucket, HOUR.width))
        hour = found.setdefault(place, _Hour(job_id=row.job_id, ids=[], buckets=set()))
        hour.ids.append(row.id)
        hour.buckets.add(row.bucket)
    return list(found.values())


def _stretches(
    connection: Connection,
    kind: str,
    marked: set[tuple[int, dt.datetime]],
    standing: dict[str, Frontier],
) -> Iterator[tuple[Layer, set[Stretch]]]:
    """Yield by layer the buckets of marks that are to be computed again, narrowest first, and make room for them."""
    gone_before = computing.results_gone_before(connection, kind)
    # Results that have expired are no source any more: what was computed from all of them stands.
    there = {(job, bucket) for job, bucket in marked if gone_before is None or bucket >= gone_before}
    fast = set(computing.fast(connection, sorted({job for job, _ in there})))
    for of in (FIVE_MINUTES, HOUR, DAY):
        stretches = {
            Stretch(job_id=job, start=start, end=start + of.width)
            for job, bucket in there
            if (start := rollups.floor(bucket, of.width)) < standing[of.name].reached
            and (gone_before is None or of.source is not None or start >= gone_before)
            and (job in fast or not of.fast_only)
        }
        for source in rollups.sources(kind):
            partitions.ensure_months(
                connection, rollups.table_name(source, of), {stretch.start for stretch in stretches}
            )
        yield of, stretches
