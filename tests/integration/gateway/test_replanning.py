"""A worker that announces other kinds is planned anew, and one that never stops announcing others costs no more."""

from __future__ import annotations

import uuid
from typing import Any

from controller.keeper import plan
from streamswarm.v1 import gateway_pb2


def planned(deployment: Any) -> list[str]:
    """Return the workers that are to be planned, and have that done."""
    rows = deployment.sql(
        "UPDATE procrastinate_jobs SET status = 'succeeded' WHERE task_name = 'plan' AND status = 'todo' "
        "RETURNING args->>'worker_id'"
    )
    return [row[0] for row in rows]


async def announce(deployment: Any, worker: Any, *, ping: bool) -> None:
    """Open a session that says whether `ping` can be had, and end it."""
    async with deployment.session(worker) as session:
        kind = gateway_pb2.KindAvailability(kind="ping", available=ping, reason="" if ping else "no right")
        await session.hello(kinds=[kind])


async def test_kinds_that_flip_are_planned_once_a_minute(deployment: Any) -> None:
    """At once for the first time, and the last state with the minute's look at the latest; other workers do not wait."""
    worker, other = await deployment.enrol("host-a"), await deployment.enrol("host-b")
    test = deployment.sql(
        "INSERT INTO tests (name, kind, spec, interval_s, selection) VALUES ('p', 'ping', '{}', 60, %s) RETURNING id",
        f'{{"workers": ["{worker.worker_id}"]}}',
    )[0][0]
    deployment.sql(
        "WITH d AS (INSERT INTO destinations (name, address) VALUES ('x', '192.0.2.1') RETURNING id) "
        "INSERT INTO test_destinations (test_id, destination_id) SELECT %s, id FROM d",
        test,
    )
    planned(deployment)
    await announce(deployment, worker, ping=True)
    assert planned(deployment) == [str(worker.worker_id)]
    assert plan.plan_worker(deployment.engine, worker.worker_id) == 1
    for number in range(4):
        await announce(deployment, worker, ping=number % 2 == 1)
    await announce(deployment, worker, ping=False)
    assert planned(deployment) == []
    assert versions(deployment) == 1
    assert plan.plan_everything(deployment.engine) == 1
    assert deployment.sql("SELECT retired_at IS NOT NULL FROM jobs WHERE test_id = %s", test) == [(True,)]
    await announce(deployment, other, ping=True)
    assert planned(deployment) == [str(other.worker_id)]
    forget(deployment, worker.worker_id)
    await announce(deployment, worker, ping=False)
    assert planned(deployment) == []
    await announce(deployment, worker, ping=True)
    assert planned(deployment) == [str(worker.worker_id)]


def versions(deployment: Any) -> int:
    """Return how many versions of jobs there are."""
    return int(deployment.sql("SELECT count(*) FROM job_versions")[0][0])


def forget(deployment: Any, worker_id: uuid.UUID) -> None:
    """Let a minute have passed since the worker was planned."""
    deployment.sql(
        "UPDATE workers SET replanned_at = replanned_at - interval '61 s' WHERE id = %s", worker_id
    )
