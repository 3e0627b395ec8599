"""Partitions: made once, beside running inserts, in UTC days, for any day a spool may bring."""

from __future__ import annotations

import datetime as dt
import time

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError, OperationalError
from support.at_once import at_once

from controller.store import partitions, results

OLD = dt.date(2026, 3, 29)
#: The partitions of a day of `ping`: its own, and that of the addresses of sweeps.
MADE = ["result_ping_2026_03_29", "result_ping_by_address_2026_03_29"]
INSERT = (
    "INSERT INTO result_ping (job_id, scheduled_at, started_at, duration_ms, job_version, status, "
    "failure_source) VALUES (:job, :at, :at, 1, 1, 1, 0)"
)


def store(connection: Connection, at: dt.datetime, job: int = 1) -> None:
    """Insert a result that was due at an instant."""
    connection.execute(text(INSERT), {"job": job, "at": at})


def place(connection: Connection, at: dt.datetime) -> str:
    """Return the partition that holds the result of an instant."""
    return str(
        connection.execute(
            text("SELECT tableoid::regclass::text FROM result_ping WHERE scheduled_at = :at"), {"at": at}
        ).scalar_one()
    )


def test_a_late_spool_gets_its_partition(engine: Engine) -> None:
    """Results of a day without partition are refused, and stored once the partition was asked for."""
    at = dt.datetime(2026, 3, 29, 23, 59, 59, 999999, tzinfo=dt.UTC)
    with pytest.raises(IntegrityError, match="no partition of relation"), engine.begin() as connection:
        store(connection, at)
    with engine.begin() as connection:
        assert partitions.ensure_partitions(connection, "ping", [OLD]) == MADE
    with engine.begin() as connection:
        store(connection, at)
        assert place(connection, at) == "result_ping_2026_03_29"
        assert partitions.ensure_partitions(connection, "ping", [OLD]) == []


def test_children_are_partitioned_alike(engine: Engine) -> None:
    """A kind's child tables get the same days."""
    with engine.begin() as connection:
        made = partitions.ensure_partitions(connection, "system", [OLD, OLD])
    assert made == [partitions.partition_name(table, OLD) for table in results.table_names("system")]


def test_days_are_those_of_utc_whatever_the_session_says(engine: Engine) -> None:
    """A session in another time zone makes the same bounds."""
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL timezone = 'Asia/Kathmandu'"))
        partitions.ensure_partitions(connection, "ping", [OLD])
        bounds = connection.execute(
            text(
                "SET LOCAL timezone = 'UTC'; SELECT pg_get_expr(relpartbound, oid) FROM pg_class "
                "WHERE relname = 'result_ping_2026_03_29'"
            )
        ).scalar_one()
    assert bounds == "FOR VALUES FROM ('2026-03-29 00:00:00+00') TO ('2026-03-30 00:00:00+00')"


def test_the_key_holds_in_new_partitions(engine: Engine) -> None:
    """The same run is refused a second time in a partition made later, too."""
    at = dt.datetime(2026, 3, 29, 12, tzinfo=dt.UTC)
    with engine.begin() as connection:
        partitions.ensure_partitions(connection, "ping", [OLD])
        store(connection, at)
    with pytest.raises(IntegrityError, match="duplicate key"), engine.begin() as connection:
        store(connection, at)


def test_inserts_go_on_while_partitions_are_made(engine: Engine) -> None:
    """Neither side waits for the other: an open transaction of inserts, and new partitions."""
    now = dt.datetime.now(dt.UTC)
    with engine.begin() as inserting:
        store(inserting, now)
        started = time.monotonic()
        with engine.begin() as connection:
            partitions.ensure_partitions(connection, "ping", [OLD])
            with engine.begin() as another:
                store(another, now, job=2)
        assert time.monotonic() - started < 2
        store(inserting, now, job=3)


def test_many_make_the_same_partitions_at_once(engine: Engine) -> None:
    """Four processes that need the same days make each once; none fails."""
    days = [OLD + dt.timedelta(days=number) for number in range(5)]

    made = at_once(*(lambda: partitions.ensure_all(engine, days),) * 4)
    names = [name for some in made for name in some]
    assert sorted(names) == sorted(
        partitions.partition_name(table, day) for table in results.all_table_names() for day in days
    )


def test_a_lock_that_is_not_had_is_given_up(engine: Engine) -> None:
    """Whoever holds the table for long makes this fail after some seconds, and nothing half-made stays."""
    with engine.begin() as holder:
        holder.execute(text("LOCK TABLE result_ping IN ACCESS EXCLUSIVE MODE"))
        started = time.monotonic()
        with pytest.raises(OperationalError, match="lock timeout"), engine.begin() as connection:
            partitions.ensure_partitions(connection, "ping", [OLD])
        assert partitions.LOCK_TIMEOUT_S - 1 < time.monotonic() - started < partitions.LOCK_TIMEOUT_S + 3
    with engine.begin() as connection:
        assert partitions.ensure_partitions(connection, "ping", [OLD]) == MADE
