"""Results that nobody wants any more are acknowledged and counted: neither stored nor set aside."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest

from controller.gateway import ownership


def gone_before(deployment: Any, days: int) -> None:
    """Note that keepers have removed what was due more than so many days ago."""
    deployment.sql(
        "INSERT INTO expiries (kind, layer, gone_before) "
        "VALUES ('ping', 'raw', date_trunc('day', now()) - %s * interval '1 day')",
        days,
    )


@pytest.mark.parametrize("count", [3, 100])
async def test_what_is_older_than_the_retention_has_expired(
    deployment: Any, tools: Any, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    """A spool of a year ago is emptied, one by one or together, and counted once; results of today among it are stored."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    gone_before(deployment, 90)
    long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(days=365)
    old = [tools.make_result(job, number, at=long_ago) for number in range(count)]
    new = [tools.make_result(job, number) for number in range(count)]
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results([*old, *new], range(1, 2 * count + 1))
        await session.expect_ack(2 * count)
    async with deployment.session(worker) as session:
        await session.hello(next_seq=2 * count + 1, first_unacked_seq=1)
        await session.results([*old, *new], range(1, 2 * count + 1))
        await session.expect_ack(2 * count)
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(count,)]
    assert deployment.sql("SELECT count(*) FROM quarantine") == [(0,)]
    tally = deployment.gateway.ingest.tally
    assert (tally.stored, tally.expired, tally.deleted, tally.quarantined) == (count, count, 0, 0)
    assert deployment.sql(
        "SELECT results_expired, results_expired_at > now() - interval '1 minute' FROM workers"
    ) == [(count, True)]
    assert f"are older than results are kept, and they are not stored ({count} since" in caplog.text


async def test_what_a_portion_stored_row_by_row_holds_is_counted_too(
    deployment: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of its results is refused by the database; the one that is too old is counted all the same."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    gone_before(deployment, 90)
    deployment.sql("ALTER TABLE result_ping ADD CONSTRAINT result_ping_job_check CHECK (duration_ms < 1000)")
    odd = tools.make_result(job, 1)
    odd.duration_ms = 5000
    old = tools.make_result(job, 2, at=dt.datetime.now(dt.UTC) - dt.timedelta(days=365))
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results([tools.make_result(job, 0), odd, old], [1, 2, 3])
        await session.expect_ack(3)
    assert deployment.sql("SELECT results_expired FROM workers") == [(1,)]
    assert deployment.sql("SELECT count(*) FROM quarantine") == [(1,)]


@pytest.mark.parametrize("count", [3, 100])
@pytest.mark.parametrize("gone_days", [-275, 10], ids=["keepers' clock had leapt", "keepers kept less"])
async def test_what_is_still_to_be_kept_is_stored_whatever_keepers_have_removed(
    deployment: Any, tools: Any, count: int, gone_days: int
) -> None:
    """What keepers call gone says what is not there any more, and not what may not come; by its setting it is to be kept."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    gone_before(deployment, gone_days)
    days = [dt.datetime.now(dt.UTC) - dt.timedelta(days=number) for number in (20, 5)]
    results = [tools.make_result(job, number, at=day) for day in days for number in range(count)]
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results(results, range(1, 2 * count + 1))
        await session.expect_ack(2 * count)
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(2 * count,)]
    tally = deployment.gateway.ingest.tally
    assert (tally.stored, tally.expired, tally.quarantined) == (2 * count, 0, 0)


@pytest.mark.parametrize("count", [3, 100])
async def test_a_clock_that_leaps_drops_nothing(
    deployment: Any, tools: Any, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """The database's, by a year: keepers have removed nothing of that time, so what comes is stored."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    gone_before(deployment, 90)
    really = deployment.gateway.clock.now_us
    for lane in deployment.gateway.ingest._lanes:
        monkeypatch.setattr(lane._preparation, "_now_us", lambda: really() + 365 * 86_400_000_000)
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results(
            [tools.make_result(job, number) for number in range(count)], range(1, count + 1)
        )
        await session.expect_ack(count)
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(count,)]
    assert deployment.gateway.ingest.tally.expired == 0


@pytest.mark.parametrize("count", [3, 100])
async def test_what_belongs_to_a_test_deleted_with_its_data_is_not_stored(
    deployment: Any, tools: Any, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Late results of such a test are counted as deleted, those of a test that was merely deleted are stored."""
    monkeypatch.setattr(ownership, "OLDEST_S", 0.0)
    worker = await deployment.enrol("host-a")
    gone, kept = deployment.job(worker.worker_id), deployment.job(worker.worker_id)
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results([tools.make_result(gone, 0), tools.make_result(kept, 0)], [1, 2])
        await session.expect_ack(2)
        deployment.sql("UPDATE tests SET deleted_at = now()")
        deployment.sql(
            "UPDATE tests SET data_deleted_at = now() WHERE id = (SELECT test_id FROM jobs WHERE id = %s)",
            gone,
        )
        late = [tools.make_result(job, number) for number in range(1, count + 1) for job in (gone, kept)]
        await session.results(late, range(3, 2 * count + 3))
        await session.expect_ack(2 * count + 2)
    assert deployment.sql("SELECT job_id, count(*) FROM result_ping GROUP BY 1 ORDER BY 1") == [
        (gone, 1),
        (kept, count + 1),
    ]
    tally = deployment.gateway.ingest.tally
    assert (tally.stored, tally.expired, tally.deleted, tally.quarantined) == (count + 2, 0, count, 0)


@pytest.mark.parametrize("count", [3, 100])
async def test_what_belongs_to_a_worker_deleted_with_its_data_is_not_stored(
    deployment: Any, tools: Any, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """The host's next worker finds the old spool: what its predecessor measured is counted, neither stored nor refused."""
    monkeypatch.setattr(ownership, "OLDEST_S", 0.0)
    before = await deployment.enrol("host-a")
    gone = deployment.job(before.worker_id)
    deployment.sql(
        "UPDATE workers SET deleted_at = now(), revoked_at = now(), data_deleted_at = now() WHERE id = %s",
        before.worker_id,
    )
    worker = await deployment.enrol("host-a")
    assert worker.worker_id != before.worker_id
    own = deployment.job(worker.worker_id)
    async with deployment.session(worker) as session:
        await session.hello()
        late = [tools.make_result(job, number) for number in range(count) for job in (gone, own)]
        await session.results(late, range(1, 2 * count + 1))
        await session.expect_ack(2 * count)
    assert deployment.sql("SELECT job_id, count(*) FROM result_ping GROUP BY 1") == [(own, count)]
    tally = deployment.gateway.ingest.tally
    assert (tally.stored, tally.expired, tally.deleted, tally.quarantined) == (count, 0, count, 0)


@pytest.mark.parametrize("count", [3, 100])
class TestKeepingForEver:
    """Without a retention, what is too old is a matter of the job."""

    @pytest.fixture
    def gateway_settings(self, gateway_settings: Any) -> Any:
        """Settings by which results are kept for ever."""
        return dataclasses.replace(gateway_settings, retention_days=0, retention_1h_days=0)

    async def test_a_spool_of_long_ago_is_stored(self, deployment: Any, tools: Any, count: int) -> None:
        """Results of 400 days ago of a job of 300 days ago are none of its schedule's; those of 300 days ago are."""
        worker = await deployment.enrol("host-a")
        old, new = deployment.job(worker.worker_id), deployment.job(worker.worker_id)
        deployment.sql("UPDATE jobs SET created_at = now() - interval '300 days' WHERE id = %s", old)
        now = dt.datetime.now(dt.UTC)
        offline = [tools.make_result(old, number, at=now - dt.timedelta(days=300)) for number in range(count)]
        never = [tools.make_result(old, number, at=now - dt.timedelta(days=400)) for number in range(count)]
        fresh = [tools.make_result(new, number) for number in range(count)]
        early = [tools.make_result(new, number, at=now - dt.timedelta(days=300)) for number in range(count)]
        async with deployment.session(worker) as session:
            await session.hello()
            await session.results([*offline, *fresh, *never, *early], range(1, 4 * count + 1))
            await session.expect_ack(4 * count)
        assert deployment.sql("SELECT job_id, count(*) FROM result_ping GROUP BY 1 ORDER BY 1") == [
            (old, count),
            (new, count),
        ]
        refused = deployment.sql("SELECT seq, reason FROM quarantine ORDER BY seq")
        assert [seq for seq, _ in refused] == list(range(2 * count + 1, 4 * count + 1))
        assert all("before the job was made" in reason for _, reason in refused)
