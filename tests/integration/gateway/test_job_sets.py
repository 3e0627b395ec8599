"""What a worker is given to do: the whole set, then changes, and nothing that it or this release cannot read."""

from __future__ import annotations

from typing import Any

from streamswarm import SCHEDULES_CONTRACT


async def test_the_job_set_comes_whole_and_then_as_changes(deployment: Any) -> None:
    """A worker gets all its jobs at first, then what is new, what changed and what is gone, never another's."""
    worker, other = await deployment.enrol("host-a"), await deployment.enrol("host-b")
    first, second = deployment.job(worker.worker_id), deployment.job(worker.worker_id, "system")
    deployment.job(other.worker_id)
    async with deployment.session(worker) as session:
        await session.hello()
        jobs = (await session.expect("jobs")).jobs
        assert jobs.full
        assert {job.job_id: job.spec.WhichOneof("kind") for job in jobs.jobs} == {
            first: "ping",
            second: "system",
        }
        assert jobs.jobs[0].spec.ping.count == 3  # the contract's default, filled in
        third = deployment.job(worker.worker_id, "tcp")
        change = (await session.expect("jobs")).jobs
        assert (change.full, [job.job_id for job in change.jobs], list(change.removed)) == (
            False,
            [third],
            [],
        )
        deployment.sql(
            "WITH a AS (UPDATE jobs SET retired_at = now() WHERE id = %s), "
            "b AS (UPDATE jobs SET paused = true, version = 2 WHERE id = %s) "
            "UPDATE workers SET jobs_revision = jobs_revision + 1 WHERE id = %s",
            first,
            second,
            worker.worker_id,
        )
        change = (await session.expect("jobs")).jobs
        assert [(job.job_id, job.version, job.paused) for job in change.jobs] == [(second, 2, True)]
        assert list(change.removed) == [first]
        assert (
            change.revision
            == deployment.sql("SELECT jobs_revision FROM workers WHERE id = %s", worker.worker_id)[0][0]
        )


async def test_an_old_release_gets_no_job_that_it_cannot_understand(deployment: Any) -> None:
    """It would take cron for "once" and run outside of windows; after its upgrade it gets them."""
    worker = await deployment.enrol("host-a")
    plain, cron, limited = (deployment.job(worker.worker_id) for _ in range(3))
    deployment.sql("UPDATE jobs SET cron = '*/5 * * * *', interval_us = 0 WHERE id = %s", cron)
    hours = '[{"days": ["mon"], "from": "09:00", "to": "17:00"}]'
    deployment.sql(
        "UPDATE jobs SET windows = %s::jsonb, zone = 'Europe/Berlin' WHERE id = %s", hours, limited
    )
    async with deployment.session(worker) as session:
        await session.hello(contract_version=SCHEDULES_CONTRACT - 1)
        assert [job.job_id for job in (await session.expect("jobs")).jobs.jobs] == [plain]
    async with deployment.session(worker) as session:
        await session.hello(contract_version=SCHEDULES_CONTRACT)
        jobs = {job.job_id: job for job in (await session.expect("jobs")).jobs.jobs}
    assert set(jobs) == {plain, cron, limited}
    assert (jobs[cron].schedule.cron, jobs[cron].schedule.zone) == ("*/5 * * * *", "UTC")
    [window] = jobs[limited].schedule.windows
    assert (list(window.days), window.from_min, window.to_min) == ([1], 540, 1020)
    assert jobs[limited].schedule.zone == "Europe/Berlin"


async def test_every_part_of_a_job_arrives(deployment: Any) -> None:
    """What jobs share and what each has of its own, for two workers of one test."""
    workers = [await deployment.enrol("host-a"), await deployment.enrol("host-b")]
    test_id = deployment.sql(
        "INSERT INTO tests (name, kind, spec, interval_s) VALUES ('t', 'ping', '{}', 2) RETURNING id"
    )[0][0]
    for number, worker in enumerate(workers):
        deployment.sql(
            "INSERT INTO jobs (test_id, worker_id, kind, version, target, spec, interval_us, anchor_us, starts_at, "
            "ends_at, expires_at, paused) VALUES (%s, %s, 'ping', %s, %s, '{\"count\": 7}', 2000000, %s, "
            "'2030-01-01T00:00:00Z', '2031-01-01T00:00:00Z', '2032-01-01T00:00:00Z', true)",
            test_id,
            worker.worker_id,
            number + 5,
            f'192.0.2.{number}, a "quoted" é',
            -number,
        )
    deployment.sql("UPDATE workers SET jobs_revision = 9")
    for number, worker in enumerate(workers):
        async with deployment.session(worker) as session:
            await session.hello()
            found = (await session.expect("jobs")).jobs
        (job,) = found.jobs
        assert (found.revision, job.version, job.paused) == (9, number + 5, True)
        assert job.target == f'192.0.2.{number}, a "quoted" é'
        assert job.spec.ping.count == 7
        assert (job.schedule.interval_us, job.schedule.anchor_us) == (2_000_000, -number)
        assert (job.schedule.starts_at_us, job.schedule.ends_at_us, job.expires_at_us) == (
            1_893_456_000_000_000,
            1_924_992_000_000_000,
            1_956_528_000_000_000,
        )


async def test_a_job_that_this_release_cannot_read_is_left_out(deployment: Any) -> None:
    """A newer release has written it; the worker loses it, and gets all others."""
    worker = await deployment.enrol("host-a")
    first, second = deployment.job(worker.worker_id), deployment.job(worker.worker_id)
    async with deployment.session(worker) as session:
        await session.hello()
        assert len((await session.expect("jobs")).jobs.jobs) == 2
        deployment.sql(
            "WITH a AS (UPDATE jobs SET kind = 'telepathy', version = 2 WHERE id = %s), "
            "b AS (UPDATE jobs SET version = 2 WHERE id = %s) UPDATE workers SET jobs_revision = 7",
            first,
            second,
        )
        change = (await session.expect("jobs")).jobs
        assert [(job.job_id, job.version) for job in change.jobs] == [(second, 2)]
        assert (list(change.removed), change.revision) == ([first], 7)
