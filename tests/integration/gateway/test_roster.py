"""What the gateway writes about workers that it knows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from controller.gateway import roster
from controller.gateway.roster import Pulse


async def test_a_heartbeat_of_a_superseded_session_changes_nothing(deployment: Any) -> None:
    """Its gateway may not know yet that the worker has a newer session elsewhere; the newer one's heartbeat is written."""
    worker, other = await deployment.enrol("host-a"), await deployment.enrol("host-b")
    deployment.sql("UPDATE workers SET session_epoch = 2, spool_records = 5")
    written = "SELECT spool_records, spool_alarm, jobs_applied, last_seen_at IS NULL FROM workers ORDER BY host_name"
    before = deployment.sql(written)
    older = Pulse(
        worker_id=worker.worker_id,
        epoch=1,
        jobs_revision=3,
        spool_records=7,
        spool_alarm="disk full",
        vantage_alarm="",
        clock_offset_ms=None,
    )
    newest = replace(older, worker_id=other.worker_id, epoch=2)
    async with deployment.gateway.database.connection() as connection:
        assert await roster.write_pulses(connection, [older, newest]) == {other.worker_id}
    assert before[0] == (5, "", 0, True)
    assert deployment.sql(written) == [before[0], (7, "disk full", 3, False)]
