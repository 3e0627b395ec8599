"""The rounds over all sessions: what fails for one, or in one step, is done for the others all the same."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import psycopg
import pytest

from controller.gateway import jobs, roster
from controller.gateway import sessions as rounds
from controller.gateway.session import Session


async def test_jobs_that_cannot_be_handed_out_hold_up_neither_heartbeats_nor_ends(
    deployment: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Revocation, heartbeats and ends go on, the traceback is told once, and jobs come once it works again."""
    load = jobs.load

    async def fail(*_: Any) -> Any:
        raise KeyError("nobody foresaw it")

    monkeypatch.setattr(jobs, "load", fail)
    worker, other = await deployment.enrol("host-a"), await deployment.enrol("host-b")
    deployment.job(worker.worker_id)
    with caplog.at_level(logging.ERROR):
        async with deployment.session(worker) as session:
            async with deployment.session(other) as second:
                await session.hello()
                await second.hello()
                await session.send(heartbeat={"spool_records": 7})
                async with asyncio.timeout(10):
                    while deployment.sql("SELECT spool_records FROM workers ORDER BY host_name")[0] != (7,):
                        await asyncio.sleep(0.05)
            async with asyncio.timeout(10):
                while deployment.sql(
                    "SELECT 1 FROM workers WHERE host_name = 'host-b' AND disconnected_at IS NULL"
                ):
                    await asyncio.sleep(0.05)
            await asyncio.sleep(1)
            tracebacks = {
                record.args[0]
                for record in caplog.records
                if record.exc_info and record.name == rounds.__name__ and record.args
            }
            told = [record for record in caplog.records if record.exc_info and record.name == rounds.__name__]
            assert len(told) == len(tracebacks)
            monkeypatch.setattr(jobs, "load", load)
            assert len((await session.expect("jobs")).jobs.jobs) == 1


async def test_one_session_that_cannot_be_told_holds_up_no_other(
    deployment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs of the others arrive, though one's own trouble comes again with every round."""
    odd, even = await deployment.enrol("host-a"), await deployment.enrol("host-b")
    change = Session.change_jobs

    def fail_for_one(self: Session, wanted: Any) -> None:
        if self.worker_id == odd.worker_id:
            raise KeyError("nobody foresaw it")
        change(self, wanted)

    monkeypatch.setattr(Session, "change_jobs", fail_for_one)
    monkeypatch.setattr(rounds, "_LOAD", 1)
    async with deployment.session(odd) as first, deployment.session(even) as second:
        await first.hello()
        await second.hello()
        assert (await second.expect("jobs")).jobs.full
        deployment.job(even.worker_id)
        assert len((await second.expect("jobs")).jobs.jobs) == 1


async def test_jobs_that_nobody_foresaw_are_left_out(
    deployment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is the matter with the parameters of one job, its worker and all others get the rest."""
    make = jobs.contract.make_spec

    def trip(kind: str, spec: Any) -> Any:
        if kind == "tcp":
            raise KeyError("nobody foresaw it")
        return make(kind, spec)

    monkeypatch.setattr(jobs.contract, "make_spec", trip)
    worker = await deployment.enrol("host-a")
    deployment.job(worker.worker_id, "tcp")
    good = deployment.job(worker.worker_id)
    async with deployment.session(worker) as session:
        await session.hello()
        assert [job.job_id for job in (await session.expect("jobs")).jobs.jobs] == [good]


async def test_a_statement_that_is_given_up_holds_up_no_other_step(
    deployment: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Heartbeats wait for a lock in vain: one line each time, no traceback, and jobs are handed out meanwhile."""

    async def give_up(*_: Any) -> Any:
        raise psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")

    monkeypatch.setattr(roster, "write_pulses", give_up)
    worker = await deployment.enrol("host-a")
    with caplog.at_level(logging.ERROR):
        async with deployment.session(worker) as session:
            await session.hello()
            await session.expect("jobs")
            await session.send(heartbeat={"clock_us": 1})
            async with asyncio.timeout(5):
                while not any("write pulses" in record.getMessage() for record in caplog.records):
                    await asyncio.sleep(0.05)
            deployment.job(worker.worker_id)
            assert len((await session.expect("jobs")).jobs.jobs) == 1
    assert [record for record in caplog.records if record.exc_info and record.name == rounds.__name__] == []
