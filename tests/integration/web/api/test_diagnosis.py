"""The diagnosis over REST: the verdict as JSON, as the document describes it, in every state."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import Engine, insert
from support.clients import Api
from support.keepers import World

from controller.keeper.diagnose import diagnose
from controller.keeper.plan import plan_everything
from controller.store import results
from streamswarm.v1 import probe_pb2


def store(engine: Engine, job_id: int, count: int, *, ago: int, **values: Any) -> None:
    """Store runs two seconds apart of which the last was due `ago` runs before now."""
    rows = []
    # Not when the file was read: in a long run that is minutes ago, and a silence of its own.
    now = dt.datetime.now(dt.UTC)
    for index in range(count):
        at = now - dt.timedelta(seconds=2 * (ago + count - 1 - index))
        rows.append(
            {
                "job_id": job_id,
                "scheduled_at": at,
                "started_at": at,
                "duration_ms": 1.0,
                "job_version": 1,
                "status": probe_pb2.STATUS_OK,
                "failure_source": probe_pb2.FAILURE_SOURCE_NONE,
                "connect_ms": 12.0 + index % 7 / 10,
                **values,
            }
        )
    with engine.begin() as connection:
        connection.execute(insert(results.table("tcp")), rows)


def test_a_verdict_as_json(engine: Engine, api: Api) -> None:
    """Idle, silent, learning, then a refused port: each with health or null, and a command where there is one."""
    world = World(engine)
    place = world.destination("Shop", "192.0.2.7:8080")
    test = world.test("Shop answers", "tcp", [place])
    path = f"/tests/{test}/diagnosis"
    found = api("GET", path).json
    assert (found["status"], found["health"], found["looked_at"]) == ("idle", None, None)
    world.worker("edge-1")
    plan_everything(engine)
    assert api("GET", path).json["status"] == "silent"
    job = world.jobs()[0]
    store(engine, job.id, 20, ago=4)
    diagnose(engine)
    found = api("GET", path).json
    assert (found["status"], found["needed"], found["evidence"]) == ("learning", 10, [])
    assert found["looked_at"] is not None
    store(
        engine,
        job.id,
        4,
        ago=0,
        status=probe_pb2.STATUS_FAILED,
        failure_source=probe_pb2.FAILURE_SOURCE_TARGET,
        error="Connection refused (ECONNREFUSED)",
        connect_ms=None,
    )
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE diagnosis_states SET looked_at = NULL")
    diagnose(engine)
    found = api("GET", path).json
    assert (found["status"], found["domain"], found["health"]) == ("fault", "target_fault", 20)
    assert found["command"]["line"] == "ss -ltunp 'sport = :8080'"
    [evidence] = found["evidence"]
    assert (evidence["worker"], evidence["destination"], evidence["metric"]) == ("edge-1", "Shop", None)
    assert "4 of the last 5 runs failed" in evidence["text"]
    assert api("GET", "/tests/999/diagnosis").status_code == 404
