"""Which of all things are looked at: ordinary ones, the largest, and a test of each kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.pages.definitions import SLOW_S
from bench.pages.world import Filled
from support.deployment import Deployment

from controller.store import results
from streamswarm import contract
from streamswarm.v1 import probe_pb2
from streamswarm.zones import to_microseconds

#: Ids by the name that they have in paths, and the `kind` of the test.
Places = Mapping[str, Any]
_LARGEST_WORKER = "SELECT worker_id FROM jobs WHERE retired_at IS NULL GROUP BY worker_id ORDER BY count(*) DESC, worker_id LIMIT 1"


def places_of(deployment: Deployment, filled: Filled) -> list[Places]:
    """Return the places: an ordinary one first, then the largest of everything, a mesh, and one of each kind."""

    def one(statement: str, *values: Any) -> Any:
        return deployment.sql(statement, *values)[0][0]

    made = filled.definitions
    middle = len(made.ordinary) // 2
    ordinary = next(run for test in made.ordinary[middle:] if (run := _run(deployment, test)))
    common = {
        "worker_id": one("SELECT id FROM workers ORDER BY name OFFSET 3 LIMIT 1"),
        "destination_id": one(
            "SELECT destination_id FROM test_destinations GROUP BY 1 ORDER BY count(*), 1 LIMIT 1"
        ),
        "operation_id": one("SELECT min(id) FROM operations"),
        "user_id": one("SELECT min(id) FROM users"),
        "token_id": one("SELECT min(id) FROM api_tokens"),
        "name": "ping",
    }
    largest = {
        **common,
        # It is the one with refused results too, or the one with the most jobs.
        "worker_id": one(_LARGEST_WORKER),
        "destination_id": made.hub,
        "operation_id": one(
            "SELECT operation_id FROM operation_hosts GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
        ),
        "name": max(contract.kinds().values(), key=lambda kind: len(kind.metrics)).name,
    }
    judged = {
        **common,
        "operation_id": one("SELECT min(id) FROM operations WHERE kind = 'judge' AND figures <> '[]'"),
    }
    refused = {**common, "worker_id": one("SELECT worker_id FROM quarantine LIMIT 1")}
    found = [
        {**common, **ordinary},
        {**largest, **_run(deployment, made.everywhere)},
        {**judged, **_run(deployment, made.mesh[0])},
    ]
    found += [{**refused, **_run(deployment, made.patterns[kind, SLOW_S])} for kind in contract.kinds()]
    return found


def _run(deployment: Deployment, test_id: int) -> dict[str, Any]:
    """Return a test with its newest run of those that did well; nothing when it has none of late."""
    ((kind,),) = deployment.sql("SELECT kind FROM tests WHERE id = %s", test_id)
    runs = deployment.sql(
        f"SELECT r.job_id, r.scheduled_at FROM {results.table_name(kind)} r JOIN jobs j ON j.id = r.job_id "
        "WHERE j.test_id = %s AND r.scheduled_at BETWEEN now() - interval '2 h' AND now() AND r.status = %s ORDER BY 2 DESC LIMIT 1",
        test_id,
        int(probe_pb2.STATUS_OK),
    )
    if not runs:
        return {}
    ((job_id, at),) = runs
    return {"test_id": test_id, "kind": kind, "job_id": job_id, "at_us": to_microseconds(at)}
