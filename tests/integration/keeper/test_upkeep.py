"""Upkeep by keepers: days are rewritten and rolled up without anybody asking, and a stop is not held up."""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError, OperationalError

from controller.keeper import upkeep
from controller.settings import Settings
from controller.store import partitions
from controller.store.rollups import rolling
from controller.store.upkeep import rewriting, standstills

DAY = dt.date(2026, 3, 29)


def fill(engine: Engine, days: int, *, kind: str = "ping") -> None:
    """Store a few results a day."""
    for number in range(days):
        day = DAY + dt.timedelta(days=number)
        with engine.begin() as connection:
            partitions.ensure_partitions(connection, kind, [day])
            connection.execute(
                text(
                    f"INSERT INTO result_{kind} (job_id, scheduled_at, started_at, duration_ms, job_version, status, "
                    "failure_source) SELECT job, at, at, 1, 1, 1, 0 FROM generate_series(1, 5) AS job, "
                    "generate_series(CAST(:day AS timestamptz), CAST(:day AS timestamptz) + interval '5 min', '1 min') AS at"
                ),
                {"day": day},
            )


def test_a_round_does_what_is_due_and_the_next_finds_nothing(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three days are rewritten, then none; their results are rolled up, then nothing is left to do."""
    # Roll-ups end soon after: until today there would be more empty days every day.
    soon_after = dt.datetime.combine(DAY + dt.timedelta(days=4), dt.time(), dt.UTC)
    monkeypatch.setattr(rolling, "horizon_of", lambda _engine: soon_after)
    fill(engine, 3)
    stopping = threading.Event()
    assert upkeep.rewrite_days(settings, stopping) == 3
    assert upkeep.rewrite_days(settings, stopping) == 0
    assert upkeep.roll_up(engine).steps
    assert upkeep.roll_up(engine).steps == 0
    with engine.connect() as connection:
        assert connection.execute(text("SELECT sum(runs_ok) FROM rollup_ping_1d")).scalar_one() == 3 * 5 * 6


def test_a_day_that_is_in_use_for_long_holds_up_no_other(engine: Engine, settings: Settings) -> None:
    """While somebody holds one day against changes, the others are rewritten."""
    fill(engine, 2)
    with engine.begin() as holder:
        holder.execute(text("LOCK TABLE result_ping_2026_03_30 IN ROW EXCLUSIVE MODE"))
        assert upkeep.rewrite_days(settings, threading.Event()) == 1
    assert upkeep.rewrite_days(settings, threading.Event()) == 1


def test_a_day_that_fails_holds_up_no_other(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What the newest day raises is told with its name, and the day before it is rewritten."""
    fill(engine, 2)
    begin = rewriting._begin

    def change(engine: Engine, day: rewriting.Day) -> int:
        attempt = begin(engine, day)
        if day.day > DAY:
            with engine.begin() as connection:
                connection.execute(text(f"DROP TABLE {day.late}"))
        return attempt

    monkeypatch.setattr(rewriting, "_begin", change)
    assert upkeep.rewrite_days(settings, threading.Event()) == 1
    assert "result_ping_2026_03_30 cannot be rewritten" in caplog.text
    assert "late_result_ping_2026_03_30" in caplog.text
    monkeypatch.undo()
    assert upkeep.rewrite_days(settings, threading.Event()) == 1


def test_a_day_with_a_view_holds_up_no_other(
    engine: Engine, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The view is told with its day, and the day before it is rewritten."""
    fill(engine, 2)
    with engine.begin() as connection:
        connection.execute(text("CREATE VIEW mine AS SELECT * FROM result_ping_2026_03_30"))
    assert upkeep.rewrite_days(settings, threading.Event()) == 1
    assert "result_ping_2026_03_30 cannot be rewritten" in caplog.text
    assert "mine on result_ping_2026_03_30" in caplog.text


def test_a_kind_that_fails_holds_up_no_other(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The database refuses what is rolled up of one: the round fails, but the other kinds are rolled up."""
    soon_after = dt.datetime.combine(DAY + dt.timedelta(days=2), dt.time(), dt.UTC)
    monkeypatch.setattr(rolling, "horizon_of", lambda _engine: soon_after)
    fill(engine, 1)
    fill(engine, 1, kind="dns")
    with engine.begin() as connection:
        connection.execute(
            text("ALTER TABLE rollup_dns_1h ADD CONSTRAINT rollup_dns_1h_runs_ok_check CHECK (runs_ok < 0)")
        )
    with pytest.raises(IntegrityError, match="violates check constraint"):
        upkeep.roll_up(engine)
    assert "dns cannot be rolled up" in caplog.text
    with engine.connect() as connection:
        assert connection.execute(text("SELECT sum(runs_ok) FROM rollup_ping_1d")).scalar_one() == 5 * 6
        assert standstills.noted(connection, "roll_up") == {"dns"}
    with pytest.raises(IntegrityError):
        upkeep.roll_up(engine)
    with engine.begin() as connection:
        [still] = [one for one in standstills.read(connection) if one.reason]
        assert (still.task, still.kind) == ("roll_up", "dns")
        connection.execute(text("ALTER TABLE rollup_dns_1h DROP CONSTRAINT rollup_dns_1h_runs_ok_check"))
    upkeep.roll_up(engine)
    with engine.connect() as connection:
        assert standstills.noted(connection, "roll_up") == set()


def test_a_lost_server_ends_the_round(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no fault of one day: the round fails, to be tried again."""
    fill(engine, 2)

    def lose(engine: Engine, day: rewriting.Day) -> int:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        raise AssertionError("unreachable")

    monkeypatch.setattr(rewriting, "_begin", lose)
    with pytest.raises(OperationalError, match="server closed the connection"):
        upkeep.rewrite_days(settings, threading.Event())


def test_a_stop_ends_what_takes_long(settings: Settings, tmp_path: Path) -> None:
    """A statement under way is cancelled, and no other is begun."""
    stopping = threading.Event()
    with upkeep.patient_engine(settings, stopping) as engine, engine.connect() as connection:
        threading.Timer(0.2, stopping.set).start()
        with pytest.raises(OperationalError, match="canceling statement due to user request"):
            connection.execute(text("SELECT pg_sleep(60)"))
    assert upkeep.rewrite_days(settings, stopping) == 0
