"""Heartbeats of processes and the state of the installation."""

from __future__ import annotations

import os

from sqlalchemy import Connection, Engine, text

from controller.store import health
from controller.store.upkeep import standstills


def age(connection: Connection, process: int, seconds: float) -> None:
    """Make a process's last heartbeat so old."""
    connection.execute(
        text("UPDATE processes SET heartbeat_at = now() - :age * interval '1 s' WHERE id = :id"),
        {"id": process, "age": seconds},
    )


def add_worker(connection: Connection, name: str, process: int | None) -> None:
    """Add an enrolled worker, on a gateway or not."""
    connection.execute(
        text(
            "INSERT INTO workers (name, host_name, enrolled_at, gateway_id) VALUES (:name, :name, now(), :process)"
        ),
        {"name": name, "process": process},
    )


def test_nothing_runs(engine: Engine) -> None:
    """On a fresh database only the database is well, and the messages name what to start."""
    with engine.connect() as connection:
        found = health.read_health(connection)
    assert (found.state, found.database.state) == ("down", "ok")
    assert "streamswarm gateway" in found.gateway.message
    assert "streamswarm keeper" in found.keeper.message
    assert found.worker.message == "no worker has enrolled yet"


def test_all_is_well_until_a_heartbeat_is_old(engine: Engine) -> None:
    """Fresh heartbeats and connected workers are ok; an old one is down; a stopped process is not alive."""
    with engine.begin() as connection:
        gateway = health.register_process(connection, "gateway", "gateway-1")
        keeper = health.register_process(connection, "keeper", "k")
        add_worker(connection, "a", gateway)
        assert health.read_health(connection).state == "ok"
        age(connection, keeper, health.STALE_S + 1)
        assert health.read_health(connection).keeper.state == "down"
        assert health.heartbeat(connection, keeper, {"queued": 3})
        assert health.read_health(connection).keeper.state == "ok"
        add_worker(connection, "b", None)
        found = health.read_health(connection)
        assert (found.state, found.worker.state, found.worker.alive) == ("degraded", "degraded", 1)
        health.stop_process(connection, gateway)
        assert health.read_health(connection).gateway.alive == 0


def test_a_worker_that_cannot_keep_results_is_not_well(engine: Engine) -> None:
    """Connected, with a full disk: the installation is degraded, and says why."""
    with engine.begin() as connection:
        gateway = health.register_process(connection, "gateway", "gateway-1")
        health.register_process(connection, "keeper", "keeper-1")
        add_worker(connection, "alpha", gateway)
        connection.execute(text("UPDATE workers SET spool_alarm = 'the disk is full'"))
        found = health.read_health(connection)
    assert (found.state, found.worker.state, found.worker.alive) == ("degraded", "degraded", 1)
    assert "1 of 1 connected cannot keep results" in found.worker.message


def test_a_gateway_whose_clock_is_off_is_told(engine: Engine) -> None:
    """Beyond five seconds from the database's, with its name; one that measured nothing yet is not suspected."""
    with engine.begin() as connection:
        gateway = health.register_process(connection, "gateway", "gateway-1")
        other = health.register_process(connection, "gateway", "gateway-2")
        health.register_process(connection, "keeper", "keeper-1")
        add_worker(connection, "alpha", gateway)
        health.heartbeat(connection, gateway, {"clock_offset_ms": -4999.0})
        assert health.read_health(connection).state == "ok"
        health.heartbeat(connection, other, {"clock_offset_ms": 61_500.0})
        found = health.read_health(connection)
    assert (found.state, found.gateway.state, found.gateway.alive) == ("degraded", "degraded", 2)
    assert found.gateway.message.startswith(
        "the clock of gateway-2 is 61.5 s ahead of the database's; set the one"
    )


def test_roll_ups_that_stand_still_are_told(engine: Engine) -> None:
    """With the kind, since when, and what to do; kinds of a newer release are none of ours."""
    with engine.begin() as connection:
        gateway = health.register_process(connection, "gateway", "gateway-1")
        keeper = health.register_process(connection, "keeper", "keeper-1")
        add_worker(connection, "alpha", gateway)
        for kind, task in (("of a newer release", "expire"), ("dns", "expire"), ("dns", "roll_up")):
            standstills.note(connection, task, kind, "no room")
        assert health.read_health(connection).state == "ok", "what has failed once may go well the next time"
        for kind, task in (("of a newer release", "expire"), ("dns", "expire"), ("dns", "roll_up")):
            standstills.note(connection, task, kind, "no room")
        found = health.read_health(connection)
        assert (found.state, found.keeper.state, found.keeper.alive) == ("degraded", "degraded", 1)
        assert found.keeper.message.startswith("dns cannot be thinned out since ")
        assert ": no room and 1 more; see the keepers' log" in found.keeper.message
        standstills.forget(connection, "expire", "dns")
        standstills.forget(connection, "roll_up", "dns")
        assert health.read_health(connection).state == "ok"
        health.stop_process(connection, keeper)
        assert health.read_health(connection).keeper.state == "down"


def test_clocks_and_silent_jobs_are_told(engine: Engine) -> None:
    """Connected workers whose clock is off, and jobs that do not deliver; both at once are both said."""
    with engine.begin() as connection:
        gateway = health.register_process(connection, "gateway", "gateway-1")
        health.register_process(connection, "keeper", "keeper-1")
        add_worker(connection, "alpha", gateway)
        connection.execute(text("UPDATE workers SET clock_offset_ms = -4999"))
        assert health.read_health(connection).state == "ok"
        connection.execute(text("UPDATE workers SET clock_offset_ms = -5001"))
        found = health.read_health(connection)
        assert (found.state, found.worker.alive) == ("degraded", 1)
        assert found.worker.message == "1 of 1 connected have a clock that is more than 5 s off"
        connection.execute(
            text(
                "WITH t AS (INSERT INTO tests (name, kind, spec) VALUES ('t', 'system', '{}') RETURNING id), "
                "j AS (INSERT INTO jobs (test_id, worker_id, kind, spec, interval_us, anchor_us) "
                "SELECT t.id, w.id, 'system', '{}', 1000000, 0 FROM t, workers w RETURNING id) "
                "INSERT INTO overdue_jobs (job_id, due_at) SELECT id, now() FROM j"
            )
        )
        found = health.read_health(connection)
    assert found.worker.message.startswith("1 jobs of connected workers do not deliver")
    assert "clock" in found.worker.message


def test_a_row_tells_whose_it_is(engine: Engine) -> None:
    """Role, name, process id and gauges are kept; a heartbeat for a row that is gone says so."""
    with engine.begin() as connection:
        process = health.register_process(connection, "web", "web-1")
        health.heartbeat(connection, process, {"streams": 7})
        row = connection.execute(text("SELECT role, name, pid, gauges FROM processes")).one()
        assert tuple(row) == ("web", "web-1", os.getpid(), {"streams": 7})
        age(connection, process, 100)
        assert health.prune_processes(connection, older_than_s=50) == 1
        assert not health.heartbeat(connection, process)


def test_orphans_are_found_by_silence_and_by_a_good_end(engine: Engine) -> None:
    """Workers of gateways that are silent or have stopped are marked, once; others are left alone."""
    with engine.begin() as connection:
        silent, stopped, living = (
            health.register_process(connection, "gateway", name) for name in ("a", "b", "c")
        )
        for process in (silent, stopped, living):
            add_worker(connection, f"on-{process}", process)
        age(connection, silent, health.STALE_S + 1)
        health.stop_process(connection, stopped)
        assert health.disconnect_orphans(connection) == 2
        assert health.disconnect_orphans(connection) == 0
        kept = connection.execute(text("SELECT gateway_id FROM workers WHERE gateway_id IS NOT NULL"))
        assert kept.scalars().all() == [living]


def test_drained_workers_are_waited_for_by_nobody(engine: Engine) -> None:
    """With the others connected all is well, and so it is when all are drained; a drain that is over counts no more."""
    with engine.begin() as connection:
        gateway = health.register_process(connection, "gateway", "gateway-1")
        add_worker(connection, "a", gateway)
        add_worker(connection, "b", None)
        connection.execute(
            text(
                "INSERT INTO drains (worker_id, made_by) SELECT id, 'user:ada' FROM workers WHERE name = 'b'"
            )
        )
        found = health.read_health(connection).worker
        assert (found.state, found.message) == ("ok", "all 1 connected, 1 drained")
        add_worker(connection, "c", None)
        found = health.read_health(connection).worker
        assert (found.state, found.message) == ("degraded", "1 of 2 are not connected, 1 drained")
        connection.execute(text("DELETE FROM workers WHERE name <> 'b'"))
        found = health.read_health(connection).worker
        assert (found.state, found.message) == ("ok", "all 1 drained")
        connection.execute(text("UPDATE drains SET until = now()"))
        assert health.read_health(connection).worker.message == "none of 1 is connected"
