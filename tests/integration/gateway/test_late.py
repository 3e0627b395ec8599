"""Late results mark their buckets, in the transaction that stores them; results in time mark nothing."""

from __future__ import annotations

import datetime as dt
from typing import Any

from controller.store import rollups

FIVE = dt.timedelta(minutes=5)


async def test_only_what_comes_late_marks_its_bucket(deployment: Any, tools: Any) -> None:
    """A batch of hours ago marks each job's five minutes once; the run of a moment ago marks none."""
    worker = await deployment.enrol("host-a")
    job, other = deployment.job(worker.worker_id), deployment.job(worker.worker_id, "system")
    now = dt.datetime.now(dt.UTC)
    early = rollups.floor(now - dt.timedelta(hours=5), FIVE)
    system = tools.make_result(other, 0, at=early)
    system.system.cpu_busy_pct = 1
    # 400 runs, two seconds apart, lie in three buckets; enough of them to be packed together.
    late = [tools.make_result(job, number, at=early) for number in range(400)]
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results([tools.make_result(job, 0, at=now)], [1])
        await session.expect_ack(1)
        assert deployment.sql("SELECT count(*) FROM dirty_buckets") == [(0,)]
        await session.results([*late, system], range(2, 403))
        await session.expect_ack(402)
        marks = deployment.sql("SELECT DISTINCT kind, job_id, bucket FROM dirty_buckets ORDER BY 2, 3")
        assert marks == [
            *(("ping", job, early + step * FIVE) for step in range(3)),
            ("system", other, early),
        ]


async def test_a_transaction_that_fails_marks_nothing(deployment: Any, tools: Any) -> None:
    """Results of a session that was superseded leave neither rows nor marks."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    early = dt.datetime.now(dt.UTC) - dt.timedelta(hours=5)
    async with deployment.session(worker) as session:
        await session.hello()
        deployment.sql("UPDATE workers SET session_epoch = session_epoch + 1")
        await session.results([tools.make_result(job, 0, at=early)], [1])
        await session.ending()
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(0,)]
    assert deployment.sql("SELECT count(*) FROM dirty_buckets") == [(0,)]
