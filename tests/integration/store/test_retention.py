"""Retention: what is too old goes, once it is rolled up, beside everything that goes on, whatever cuts it short."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import OperationalError

from controller.settings import Settings
from controller.store import partitions
from controller.store.engine import make_engine
from controller.store.rollups import rolling
from controller.store.upkeep import retention, rewriting
from controller.store.upkeep.retention import Retention, expire
from controller.store.upkeep.rewriting import Day

FIRST = dt.date(2026, 3, 27)
NOW = dt.datetime(2026, 4, 8, 12, tzinfo=dt.UTC)
#: With this, March 27 and 28 are too old and the 29th is not.
RETENTION = Retention.of(
    Settings(retention_days=10, retention_5m_days=0, retention_1h_days=0, retention_1d_days=0)
)


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Roll-ups end where these tests are in time: until today there would be more empty days every day."""
    monkeypatch.setattr(rolling, "horizon_of", lambda _engine: NOW)


def insert(connection: Connection, day: dt.date, job: int = 1) -> None:
    """Store a result of a day."""
    connection.execute(
        text(
            "INSERT INTO result_ping (job_id, scheduled_at, started_at, duration_ms, job_version, status, "
            "failure_source) VALUES (:job, :at, :at, 1, 1, 1, 0)"
        ),
        {"job": job, "at": dt.datetime.combine(day, dt.time(7), dt.UTC)},
    )


def days(engine: Engine) -> list[str]:
    """Return the tables of days of March."""
    with engine.connect() as connection:
        return list(
            connection.execute(
                text(
                    "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ 'result_ping_2026_03' ORDER BY 1"
                )
            ).scalars()
        )


def own(dropped: list[str]) -> list[str]:
    """Return those of the kind's own tables; the tables of a sweep's addresses go along with them."""
    return [name for name in dropped if "_by_address_" not in name]


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """Four days of results that are not rolled up yet."""
    with engine.begin() as connection:
        for number in range(4):
            day = FIRST + dt.timedelta(days=number)
            partitions.ensure_partitions(connection, "ping", [day])
            insert(connection, day)
    return engine


@pytest.fixture
def other(settings: Settings) -> Iterator[Engine]:
    """Connections of somebody else."""
    engine = make_engine(settings, application="test-other")
    yield engine
    engine.dispose()


def test_results_go_once_they_are_rolled_up(filled: Engine) -> None:
    """Nothing goes before; afterwards the days that are too old, and their roll-ups stay."""
    before = days(filled)
    assert expire(filled, "ping", RETENTION, now=NOW).dropped == []
    rolling.roll_up(filled, "ping")
    assert own(expire(filled, "ping", RETENTION, now=NOW).dropped) == before[:2]
    assert days(filled) == before[2:]
    assert expire(filled, "ping", RETENTION, now=NOW).dropped == []
    with filled.connect() as connection:
        assert connection.execute(text("SELECT sum(runs_ok) FROM rollup_ping_1d")).scalar_one() == 4


def test_late_results_that_are_not_rolled_up_yet_keep_their_day(filled: Engine) -> None:
    """A marked bucket holds its day, and the younger ones, back until it is worked off."""
    rolling.roll_up(filled, "ping")
    with filled.begin() as connection:
        insert(connection, FIRST, job=2)
        connection.execute(
            text(
                "INSERT INTO dirty_buckets (kind, job_id, bucket) VALUES ('ping', 2, '2026-03-27 07:00:00+00')"
            )
        )
    assert expire(filled, "ping", RETENTION, now=NOW).dropped == []
    rolling.roll_up(filled, "ping")
    assert len(own(expire(filled, "ping", RETENTION, now=NOW).dropped)) == 2
    with filled.connect() as connection:
        assert connection.execute(text("SELECT sum(runs_ok) FROM rollup_ping_1d")).scalar_one() == 5


def test_results_that_come_too_late_again_and_again_hold_nothing_up_for_long(filled: Engine) -> None:
    """A worker that brings a result of the oldest day before each round keeps what is too old for three days, not for ever."""
    rolling.roll_up(filled, "ping")
    left = []
    for number in range(5):
        oldest = partitions.day_of(days(filled)[0])
        with filled.begin() as connection:
            insert(connection, oldest, job=2 + number)
            connection.execute(
                text("INSERT INTO dirty_buckets (kind, job_id, bucket) VALUES ('ping', :job, :bucket)"),
                {"job": 2 + number, "bucket": dt.datetime.combine(oldest, dt.time(7), dt.UTC)},
            )
        expire(filled, "ping", RETENTION, now=NOW + dt.timedelta(days=number - 1))
        left.append(len(days(filled)))
    assert left == [4, 4, 4, 3, 2]


def test_a_mark_of_what_has_expired_does_not_spoil_its_roll_up(filled: Engine) -> None:
    """A result that comes for a day that is gone is no reason to compute its hour from it alone."""
    rolling.roll_up(filled, "ping")
    expire(filled, "ping", RETENTION, now=NOW)
    with filled.begin() as connection:
        partitions.ensure_partitions(connection, "ping", [FIRST])
        insert(connection, FIRST)
        connection.execute(
            text("UPDATE result_ping SET status = 2 WHERE scheduled_at < '2026-03-28'"),
        )
        connection.execute(
            text(
                "INSERT INTO dirty_buckets (kind, job_id, bucket) VALUES ('ping', 1, '2026-03-27 07:00:00+00')"
            )
        )
    assert rolling.roll_up(filled, "ping").marks == 1
    with filled.connect() as connection:
        assert connection.execute(text("SELECT sum(runs_ok) FROM rollup_ping_1h")).scalar_one() == 4
    assert own(expire(filled, "ping", RETENTION, now=NOW).dropped) == ["result_ping_2026_03_27"]


def test_a_detachment_that_was_cut_short_is_finished(
    filled: Engine, other: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While somebody reads, a day stays half detached and in nobody's way; the next round ends it."""
    monkeypatch.setattr(retention, "LOCK_MS", 300)
    rolling.roll_up(filled, "ping")
    before = days(filled)
    with other.connect() as reader:
        reader.execute(text("SELECT count(*) FROM result_ping")).scalar_one()
        done = expire(filled, "ping", RETENTION, now=NOW)
        assert own(done.dropped) == []
        assert done.left == before[:1]
        with filled.begin() as connection:  # results still come
            insert(connection, FIRST + dt.timedelta(days=3), job=5)
            pending = (
                connection.execute(
                    text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhdetachpending")
                )
                .scalars()
                .all()
            )
        assert pending == before[:1]
    assert own(expire(filled, "ping", RETENTION, now=NOW).dropped) == before[:2]
    assert days(filled) == before[2:]


def test_a_day_that_was_detached_and_not_dropped_goes(filled: Engine) -> None:
    """A keeper that was killed between the two leaves a table that the next one finds."""
    rolling.roll_up(filled, "ping")
    with filled.begin() as connection:
        connection.execute(text("ALTER TABLE result_ping DETACH PARTITION result_ping_2026_03_27"))
    assert "result_ping_2026_03_27" in expire(filled, "ping", RETENTION, now=NOW).dropped


def test_what_an_attempt_to_rewrite_has_left_goes_along(filled: Engine) -> None:
    """Copies beside a day that is removed are removed, and the attempt cannot swap any more."""
    rolling.roll_up(filled, "ping")
    day = Day(table="result_ping", day=FIRST)

    def remove(step: str) -> None:
        if step == "vacuumed":
            expire(filled, "ping", RETENTION, now=NOW)

    with pytest.raises(rewriting.OvertakenError):
        rewriting.rewrite(filled, day, told=remove)
    assert [name for name in days(filled) if "2026_03_27" in name] == []


def test_what_a_keeper_of_a_former_release_left_beside_a_day_goes_with_it(filled: Engine) -> None:
    """The old form of a day that was swapped, too."""
    rolling.roll_up(filled, "ping")
    with filled.begin() as connection:
        connection.execute(text("CREATE TABLE old_result_ping_2026_03_27 (LIKE result_ping)"))
    expire(filled, "ping", RETENTION, now=NOW)
    assert [name for name in days(filled) if "2026_03_27" in name] == []


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE IF EXISTS result_ping_2026_03_27",
        "DELETE FROM rewritten_partitions",
        "DROP TABLE IF EXISTS new_",
    ],
)
def test_a_connection_that_breaks_while_a_day_goes_leaves_nothing_for_ever(
    filled: Engine, other: Engine, statement: str
) -> None:
    """Before a statement: the next round removes the rest, a copy that was begun as well, and the day can be made anew."""
    rolling.roll_up(filled, "ping")
    day = Day(table="result_ping", day=FIRST)
    broken: list[str] = []

    def end(step: str) -> None:
        if step == "vacuumed":
            raise KeyboardInterrupt

    def break_before(conn: Connection, _cursor: object, sql: str, *_more: object) -> None:
        if statement in sql and not broken:
            broken.append(sql)
            pid = conn.connection.dbapi_connection.info.backend_pid  # type: ignore[union-attr]
            with other.begin() as killer:
                killer.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})

    with pytest.raises(KeyboardInterrupt):
        rewriting.rewrite(filled, day, told=end)
    event.listen(filled, "before_cursor_execute", break_before)
    with pytest.raises(OperationalError, match="closed the connection"):
        expire(filled, "ping", RETENTION, now=NOW)
    event.remove(filled, "before_cursor_execute", break_before)
    expire(filled, "ping", RETENTION, now=NOW)
    assert [name for name in days(filled) if "2026_03_27" in name] == []
    with filled.begin() as connection:
        partitions.ensure_partitions(connection, "ping", [FIRST])
        insert(connection, FIRST)
    assert rewriting.rewrite(filled, day).rows == 1


def test_results_keep_coming_while_days_go(filled: Engine, other: Engine) -> None:
    """Nobody who stores results of other days waits or fails."""
    rolling.roll_up(filled, "ping")
    stop = threading.Event()
    faults: list[BaseException] = []
    stored = 0

    def store() -> None:
        nonlocal stored
        try:
            while not stop.is_set() or stored < 20:
                with other.begin() as connection:
                    insert(connection, FIRST + dt.timedelta(days=3), job=100 + stored)
                stored += 1
        except BaseException as error:  # noqa: BLE001  handed to the main thread
            faults.append(error)

    thread = threading.Thread(target=store)
    thread.start()
    while stored < 5:
        assert thread.is_alive(), faults
    done = expire(filled, "ping", RETENTION, now=NOW)
    stop.set()
    thread.join()
    assert faults == []
    assert done.dropped
    with filled.connect() as connection:
        assert (
            connection.execute(text("SELECT count(*) FROM result_ping WHERE job_id >= 100")).scalar_one()
            == stored
        )


def test_roll_ups_go_by_months(filled: Engine) -> None:
    """A month of a layer goes when all of it is too old."""
    rolling.roll_up(filled, "ping")
    kept = Retention.of(
        Settings(retention_days=0, retention_5m_days=5, retention_1h_days=10, retention_1d_days=0)
    )
    assert own(expire(filled, "ping", kept, now=NOW).dropped) == ["rollup_ping_5m_2026_03"]
    later = expire(filled, "ping", kept, now=NOW + dt.timedelta(days=4))
    assert own(later.dropped) == ["rollup_ping_1h_2026_03"]
    with filled.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM rollup_ping_1d")).scalar_one() == 4


def test_hours_stay_until_their_days_are_made(filled: Engine) -> None:
    """Where days are behind, as after an upgrade that rolls years up, the hours that they are made from do not go."""
    rolling.roll_up(filled, "ping")
    with filled.begin() as connection:
        connection.execute(text("DELETE FROM rollup_ping_1d"))
        connection.execute(
            text("UPDATE rollup_frontiers SET done_until = :first WHERE kind = 'ping' AND layer = '1d'"),
            {"first": dt.datetime.combine(FIRST, dt.time(), dt.UTC)},
        )
    kept = Retention.of(
        Settings(retention_days=10, retention_5m_days=0, retention_1h_days=10, retention_1d_days=0)
    )
    later = NOW + dt.timedelta(days=10)
    assert expire(filled, "ping", kept, now=later).dropped == []
    rolling.roll_up(filled, "ping")
    with filled.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM rollup_ping_1d")).scalar_one() == 4
    assert "rollup_ping_1h_2026_03" in expire(filled, "ping", kept, now=later).dropped
