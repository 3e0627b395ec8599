"""Nothing is removed on the word of one clock, and little while all of them are wrong."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, text
from support.leaping import leap

from controller.keeper import app, prune, tasks, upkeep
from controller.keeper.tasks import Tools
from controller.settings import Settings
from controller.store import health, partitions, rollups
from controller.store.rollups import rolling
from controller.store.upkeep import believed

DAY, HOUR = dt.timedelta(days=1), dt.timedelta(hours=1)
#: Far beyond what is kept.
LEAP = 60 * DAY
NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def filled(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A result of each of the last twelve days, rolled up."""
    with engine.begin() as connection:
        for number in range(12):
            at = NOW - number * DAY
            partitions.ensure_partitions(connection, "ping", [at.date()])
            connection.execute(
                text(
                    "INSERT INTO result_ping (job_id, scheduled_at, started_at, duration_ms, job_version, status, "
                    "failure_source) VALUES (1, :at, :at, 1, 1, 1, 0)"
                ),
                {"at": at},
            )
    rolling.roll_up(engine, "ping")
    return engine


@pytest.fixture
def keeping(settings: Settings) -> Settings:
    """Ten days of results, and all roll-ups."""
    return dataclasses.replace(settings, retention_days=10)


def expire(engine: Engine, settings: Settings) -> None:
    """Let the keeper's round come."""
    tools = Tools(engine=engine, settings=settings, stopping=threading.Event())
    context: Any = SimpleNamespace(additional_context={"tools": tools})
    tasks.expire_task(context, timestamp=0)


def results(engine: Engine) -> int:
    """Count the results that are there."""
    with engine.connect() as connection:
        count: int = connection.execute(text("SELECT count(*) FROM result_ping")).scalar_one()
    return count


def test_a_database_clock_that_leaps_removes_nothing(filled: Engine, keeping: Settings) -> None:
    """By two months, while the keeper's does not; set back, all is as it was."""
    expire(filled, keeping)
    before = results(filled)
    leap(filled, LEAP)
    rolling.roll_up(filled, "ping")
    expire(filled, keeping)
    leap(filled, dt.timedelta(0))
    assert results(filled) == before
    with filled.connect() as connection:
        [gone] = connection.execute(
            text("SELECT gone_before FROM expiries WHERE kind = 'ping' AND layer = 'raw'")
        ).scalars()
    assert NOW - 12 * DAY < gone < NOW - 9 * DAY


def test_clocks_that_disagree_are_told(
    filled: Engine, keeping: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log, with what to do; an hour is too much, and a minute is not."""
    leap(filled, HOUR)
    expire(filled, keeping)
    assert "this keeper's clock is 0:59:59" in caplog.text or "this keeper's clock is 1:00:00" in caplog.text
    assert "behind the database's; set the one that is wrong (NTP)" in caplog.text
    assert results(filled) == 12
    leap(filled, dt.timedelta(minutes=1))
    expire(filled, keeping)
    assert results(filled) == 11


def test_all_clocks_that_leap_together_remove_little(
    filled: Engine, keeping: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One machine: in thirteen rounds a day more than is due goes, not everything; set back, what was due goes on."""
    expire(filled, keeping)
    assert results(filled) == 11
    leap(filled, LEAP)
    read = believed.read_clocks
    monkeypatch.setattr(
        believed,
        "read_clocks",
        lambda connection: read(connection, own=lambda: time.time() + LEAP.total_seconds()),
    )
    rolling.roll_up(filled, "ping")
    for _ in range(13):
        expire(filled, keeping)
    assert results(filled) in (9, 10)
    assert "behind the clocks: they have leapt, or no keeper was there" in caplog.text
    monkeypatch.undo()
    leap(filled, dt.timedelta(0))
    left = results(filled)
    expire(filled, keeping)
    assert results(filled) == left


def test_keepers_that_were_away_catch_up(filled: Engine, keeping: Settings) -> None:
    """A believed time of four days ago keeps four days more; each round takes two hours of them."""
    with filled.begin() as connection:
        connection.execute(text("INSERT INTO upkeep_clock VALUES (1, now() - interval '4 days')"))
    expire(filled, keeping)
    assert results(filled) == 12
    for _ in range(48):
        with filled.begin() as connection:
            believed.advance(connection, believed.read_clocks(connection))
    expire(filled, keeping)
    assert results(filled) == 11


def test_a_clock_that_goes_back_is_gone_by_and_takes_nothing_of_what_was_believed(engine: Engine) -> None:
    """The earlier of both holds; when the clock is right again, nothing has to be caught up with."""
    with engine.begin() as connection:
        right = believed.Clocks(database=NOW, offset=dt.timedelta(0))
        assert believed.advance(connection, right) == NOW
        behind = believed.Clocks(database=NOW - LEAP, offset=dt.timedelta(0))
        assert believed.advance(connection, behind) == NOW - LEAP
        assert believed.advance(connection, right) == NOW


def test_what_was_called_gone_until_a_time_to_come_is_brought_back(
    filled: Engine, keeping: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """As an earlier release left it: what is due from now on counts, what was due before stays gone, and roll-ups stand."""
    expire(filled, keeping)
    with filled.begin() as connection:
        legitimate = connection.execute(
            text("SELECT gone_before FROM expiries WHERE kind = 'dns' AND layer = 'raw'")
        ).scalar_one_or_none()
        connection.execute(
            text("UPDATE expiries SET gone_before = now() + interval '275 days' WHERE kind = 'ping'")
        )
        connection.execute(text("TRUNCATE result_ping"))
        before = connection.execute(
            text("SELECT job_id, bucket, runs_ok FROM rollup_ping_1h ORDER BY 2")
        ).all()
    upkeep.roll_up(filled)
    with filled.connect() as connection:
        for gone in connection.execute(
            text("SELECT gone_before FROM expiries WHERE kind = 'ping'")
        ).scalars():
            assert NOW < gone < dt.datetime.now(dt.UTC)
        assert (
            legitimate
            == connection.execute(
                text("SELECT gone_before FROM expiries WHERE kind = 'dns' AND layer = 'raw'")
            ).scalar_one_or_none()
        )
        assert (
            connection.execute(text("SELECT job_id, bucket, runs_ok FROM rollup_ping_1h ORDER BY 2")).all()
            == before
        )
    assert "results of ping were called gone until a time to come" in caplog.text


def test_what_is_late_of_a_time_that_is_gone_is_kept_and_spoils_no_roll_up(
    filled: Engine, keeping: Settings
) -> None:
    """By the retention it is to be kept: its day is not removed, and the hours that were made of all results stand."""
    expire(filled, keeping)
    late = rollups.floor(NOW, rollups.HOUR.width) - 3 * HOUR
    partitions_of_late = late.date()
    with filled.begin() as connection:
        at = {"at": late + dt.timedelta(minutes=7)}
        connection.execute(
            text(
                "UPDATE rollup_ping_1h SET bucket = :bucket, runs_ok = 60 WHERE bucket = (SELECT max(bucket) FROM rollup_ping_1h)"
            ),
            {"bucket": late},
        )
        connection.execute(text("TRUNCATE result_ping"))
        connection.execute(
            text("UPDATE expiries SET gone_before = now() WHERE kind = 'ping' AND layer = 'raw'")
        )
        # Frontiers go back by a day, as after a leap.
        connection.execute(
            text("UPDATE rollup_frontiers SET done_until = now() + interval '3 days' WHERE kind = 'ping'")
        )
        partitions.ensure_partitions(connection, "ping", [partitions_of_late])
        connection.execute(
            text(
                "INSERT INTO result_ping (job_id, scheduled_at, started_at, duration_ms, job_version, status, "
                "failure_source) VALUES (1, :at, :at, 1, 1, 1, 0)"
            ),
            at,
        )
        connection.execute(
            text("INSERT INTO dirty_buckets (kind, job_id, bucket) VALUES ('ping', 1, :bucket)"),
            {"bucket": late},
        )
    rolling.roll_up(filled, "ping")
    expire(filled, keeping)
    assert results(filled) == 1
    with filled.connect() as connection:
        assert (
            connection.execute(
                text("SELECT runs_ok FROM rollup_ping_1h WHERE bucket = :at"), {"at": late}
            ).scalar_one()
            == 60
        )


def test_other_things_that_are_old_go_by_the_same_time(engine: Engine) -> None:
    """A leap of the database alone takes no report and nothing that was set aside."""
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO upkeep_clock VALUES (1, now())"))
        worker = connection.execute(
            text("INSERT INTO workers (name, host_name) VALUES ('a', 'a') RETURNING id")
        ).scalar_one()
        connection.execute(
            text(
                "INSERT INTO quarantine (worker_id, spool_id, seq, reason, payload) VALUES (:worker, 's', 1, 'odd', '')"
            ),
            {"worker": worker},
        )
    leap(engine, LEAP)
    assert prune.prune(engine)["quarantine"] == 0
    with engine.begin() as connection:
        connection.execute(text("UPDATE upkeep_clock SET reached = now()"))
    assert prune.prune(engine)["quarantine"] == 1


def test_a_keeper_tells_how_far_its_clock_is_off(engine: Engine) -> None:
    """With each heartbeat; health says what comes of it."""
    leap(engine, HOUR)
    app._beat(engine, app._beat(engine, None))
    with engine.connect() as connection:
        keeper = health.read_health(connection).keeper
    assert keeper.state == "degraded"
    assert "3,600.0 s behind the database's; set the one that is wrong (NTP)" in keeper.message
    assert "nothing is removed for its age" in keeper.message
