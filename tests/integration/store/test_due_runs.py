"""How many runs were due in a range: by interval, cron and windows, as the versions of the time had them."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from support.keepers import World

from controller.store.entities import Job, JobVersion
from controller.store.queries.due_runs import Lines, count_due, refuse_too_many
from streamswarm.contract import InvalidInputError

#: A Monday.
BEGIN = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
MINUTE = dt.timedelta(minutes=1)
OFFICE = [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "18:00"}]


class Ground:
    """A test with jobs whose versions are written as they are needed."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.world = World(engine)
        self.test = self.world.test("Alpha", "ping", [])

    def job(self, *versions: dict[str, Any]) -> tuple[int, uuid.UUID]:
        """Add a job with these versions; return it and its worker."""
        worker = self.world.worker(f"edge-{uuid.uuid4().hex[:8]}")
        with Session(self.engine) as session, session.begin():
            job = Job(
                test_id=self.test,
                worker_id=worker,
                kind="ping",
                spec={},
                interval_us=0,
                anchor_us=0,
                target="192.0.2.1",
            )
            session.add(job)
            session.flush()
            for number, values in enumerate(versions, 1):
                session.add(
                    JobVersion(
                        job_id=job.id,
                        version=number,
                        **{"interval_us": 0, "anchor_us": 0, "valid_from": BEGIN, **values},
                    )
                )
            return job.id, worker

    def due(self, days: float = 28, **values: Any) -> dict[int, int]:
        """Count from the beginning on."""
        with Session(self.engine) as session:
            lines = Lines(test_id=self.test, kind="ping", **values)
            return count_due(session, lines, start=BEGIN, end=BEGIN + days * DAY)


@pytest.fixture
def ground(engine: Engine) -> Ground:
    """A test without jobs."""
    return Ground(engine)


@pytest.mark.parametrize(
    ("schedule", "runs"),
    [
        ({"interval_us": 10_000_000}, 28 * 8640),
        ({"interval_us": 10_000_000, "windows": OFFICE}, 20 * 3600),
        ({"cron": "* * * * *"}, 28 * 1440),
        ({"cron": "30 8 * * *"}, 28),
        ({"cron": "30 8 1 * *"}, 0),
        ({"cron": "*/5 8 * * 1-5", "zone": "Europe/Berlin", "anchor_us": 41_000_000}, 20 * 12),
        ({"cron": "0 * * * *", "windows": OFFICE}, 20 * 10),
        ({"cron": "", "interval_us": 0}, 1),
        ({"cron": "* * * * *", "paused": True}, None),
    ],
)
def test_what_was_due_is_counted_as_it_was(
    ground: Ground, schedule: dict[str, Any], runs: int | None
) -> None:
    """What is due once a day is due once a day, and not as often as it could be."""
    job, _ = ground.job(schedule)
    assert ground.due() == ({} if runs is None else {job: runs})


def test_many_short_versions_count_no_more_than_one_that_is_long(ground: Ground) -> None:
    """A job that is planned anew every minute has no more runs than one that is left alone."""
    short = [{"valid_from": BEGIN + n * MINUTE, "valid_until": BEGIN + (n + 1) * MINUTE} for n in range(600)]
    job, _ = ground.job(*({"cron": "*/10 * * * *", **span} for span in short))
    assert ground.due() == {job: 60}


def test_the_lines_that_are_asked_for_are_counted(ground: Ground) -> None:
    """A worker's, or all."""
    first, worker = ground.job({"cron": "30 8 * * *"})
    second, _ = ground.job(
        {"cron": "30 8 * * *"}, {"interval_us": 60_000_000, "valid_from": BEGIN + 27 * DAY}
    )
    assert ground.due(worker=worker) == {first: 28}
    assert ground.due() == {first: 28, second: 28 + 1440}


def test_cron_is_refused_by_what_it_makes(ground: Ground) -> None:
    """Four weeks of a daily run are read where 60 may be read; of two daily runs a minute apart they are not."""
    ground.job({"cron": "30,31 8 * * *"})
    lines = Lines(test_id=ground.test, kind="ping")
    with Session(ground.engine) as session:
        refuse_too_many(session, lines, start=BEGIN, end=BEGIN + 28 * DAY, most=60)
        with pytest.raises(InvalidInputError) as refused:
            refuse_too_many(session, lines, start=BEGIN, end=BEGIN + 28 * DAY, most=40)
    [problem] = refused.value.problems
    assert problem.message.startswith("some 56 runs were due in this range")
    said = re.search(r"a range from (\S+) on can be read", problem.message)
    assert said
    # Twenty of the days have forty runs.
    assert 7.3 * DAY < dt.datetime.fromisoformat(said[1]) - BEGIN < 8.4 * DAY
