"""Rewriting a day: in the order of its key, in full use meanwhile, whole whatever cuts it short."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from support.later_release import install_later_release
from support.rewritten_day import DAY, START, beside, insert, stored
from support.statements import heard

from controller.errors import ConflictError
from controller.settings import Settings
from controller.store import partitions, results, schema
from controller.store.engine import make_engine
from controller.store.queries.figures import buckets
from controller.store.rollups import Source
from controller.store.upkeep import due_days, rewriting
from controller.store.upkeep.rewriting import Day, OvertakenError, rewrite

STEPS = ("begun", "copied", "vacuumed", "swapped")
JOBS, RUNS = 20, 60


def indexes(engine: Engine) -> set[str]:
    """Return the names of the day's indexes."""
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT indexname FROM pg_indexes WHERE tablename = :name"), {"name": DAY.name}
        )
        return set(found.scalars())


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """A day with the runs of some jobs, in the order of time."""
    with engine.begin() as connection:
        partitions.ensure_partitions(connection, "ping", [DAY.day])
        connection.execute(
            text(
                "INSERT INTO result_ping (job_id, scheduled_at, started_at, duration_ms, job_version, status, "
                "failure_source, rtt_avg_ms) SELECT job, at, at, 1, 1, 1, 0, job FROM "
                "generate_series(0, :runs - 1) AS run, generate_series(1, :jobs) AS job, "
                "LATERAL (SELECT CAST(:start AS timestamptz) + run * interval '1 minute' AS at) AS instants "
                "ORDER BY run, job"
            ),
            {"runs": RUNS, "jobs": JOBS, "start": START},
        )
    return engine


@pytest.fixture
def other(settings: Settings) -> Iterator[Engine]:
    """Connections of somebody else."""
    engine = make_engine(settings, application="test-other", pool_size=8, lock_timeout_s=30)
    yield engine
    engine.dispose()


def test_a_day_lies_in_the_order_of_its_key(filled: Engine) -> None:
    """All rows are there, job after job; key, bounds and names are as before, and nothing is left beside."""
    before = stored(filled)
    done = rewrite(filled, DAY)
    after = stored(filled)
    assert before != after
    assert after == sorted(before)
    assert done.rows == len(after) == JOBS * RUNS
    assert beside(filled) == []
    with filled.connect() as connection:
        assert connection.execute(
            text(
                "SELECT conname, contype::text FROM pg_constraint WHERE conrelid = to_regclass(:name) AND contype <> 'n'"
            ),
            {"name": DAY.name},
        ).all() == [(f"{DAY.name}_pkey", "p")]
    with pytest.raises(IntegrityError, match="duplicate key"), filled.begin() as connection:
        insert(connection, 1, 60)


def test_what_is_always_read_stands_first(filled: Engine) -> None:
    """Before everything that may be NULL; types, what may be NULL, and what came later under each name are as before."""
    described = text(
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute "
        "WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    )
    with filled.connect() as connection:
        before = [tuple(row) for row in connection.execute(described, {"name": DAY.name})]
    rewrite(filled, DAY)
    with filled.connect() as connection:
        after = [tuple(row) for row in connection.execute(described, {"name": DAY.name})]
    assert sorted(after) == sorted(before)
    names = [name for name, _, _ in after]
    assert names.index("status") < min(names.index(name) for name, _, filled in after if not filled)
    come = (
        "SELECT job_id, status, duration_ms, rtt_avg_ms, loss_pct, error FROM result_ping WHERE job_id = 77"
    )
    with filled.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO result_ping (job_id, scheduled_at, started_at, duration_ms, job_version, status, "
                "failure_source, rtt_avg_ms, loss_pct, error) VALUES (77, :at, :at, 4.5, 3, 2, 1, 12.5, 100, 'silent')"
            ),
            {"at": START},
        )
    rewrite(filled, DAY)
    with filled.connect() as connection:
        assert [tuple(row) for row in connection.execute(text(come))] == [(77, 2, 4.5, 12.5, 100.0, "silent")]


def test_the_chart_of_the_headline_reads_the_key_alone(filled: Engine) -> None:
    """By the statement that the product sends: of a rewritten day no row is fetched from the table."""
    rewrite(filled, DAY)
    with heard(filled) as sent, filled.connect() as connection:
        answer = buckets(
            connection, Source(kind="ping", child=None), ["rtt_avg_ms"], [3], start=START,
            end=START + dt.timedelta(days=1), width=dt.timedelta(minutes=5), counts=False,
        )  # fmt: skip
    assert [bucket.figures["rtt_avg_ms"].count for bucket in answer] == [5] * (RUNS // 5)
    [(statement, values)] = [each for each in sent if " AS rtt_avg_ms_sum" in each[0]]
    with filled.connect() as connection:
        # The table is so small that reading all of it would cost less.
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        connection.execute(text("SET LOCAL enable_bitmapscan = off"))
        plan = "\n".join(
            connection.exec_driver_sql(f"EXPLAIN (ANALYZE, TIMING OFF) {statement}", values).scalars()  # type: ignore[arg-type]
        )
    assert f"Index Only Scan using {DAY.name}_pkey" in plan
    assert "Heap Fetches: 0" in plan


def test_child_tables_are_rewritten_alike(engine: Engine) -> None:
    """A child table has its key as third part of the order."""
    day = Day(table="result_system_interfaces", day=DAY.day)
    with engine.begin() as connection:
        partitions.ensure_partitions(connection, "system", [DAY.day])
        for job, key in ((2, "eth1"), (2, "eth0"), (1, "lo")):
            connection.execute(
                text(
                    "INSERT INTO result_system_interfaces (job_id, scheduled_at, key) VALUES (:job, :at, :key)"
                ),
                {"job": job, "at": START, "key": key},
            )
    assert rewrite(engine, day).rows == 3
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT job_id, key FROM result_system_interfaces ORDER BY ctid")
        ).all()
    assert rows == [(1, "lo"), (2, "eth0"), (2, "eth1")]


def test_late_rows_of_every_step_are_kept(filled: Engine, other: Engine) -> None:
    """What comes after a step is there at once and ever after; what was stored is refused all the while."""
    seconds = iter(range(1, 100))
    late: list[tuple[int, int]] = []

    def come(_step: str) -> None:
        with other.begin() as connection:
            for job in (1, 999):
                late.append((job, next(seconds)))
                insert(connection, *late[-1])
        assert set(late) <= set(stored(other))
        with pytest.raises(IntegrityError, match="duplicate key"), other.begin() as connection:
            insert(connection, *late[0])

    before = set(stored(filled))
    rewrite(filled, DAY, told=come)
    assert len(late) >= 2 * len(STEPS)
    assert set(stored(filled)) == before | set(late)
    rewrite(filled, DAY)
    assert stored(filled) == sorted(before | set(late))


def test_rows_that_pour_in_meanwhile_are_neither_lost_nor_doubled(filled: Engine, other: Engine) -> None:
    """Four connections store while the day is rewritten again and again; each also sends again what it has sent."""
    stop = threading.Event()
    sent: dict[int, int] = {}
    faults: list[BaseException] = []

    def pour(number: int) -> None:
        try:
            count = 0
            while not stop.is_set() or count < 50:
                with other.begin() as connection:
                    for _ in range(5):
                        insert(connection, number, count)
                        count += 1
                sent[number] = count
                with pytest.raises(IntegrityError), other.begin() as connection:
                    insert(connection, number, count - 1)
        except BaseException as error:  # noqa: BLE001  handed to the main thread
            faults.append(error)

    before = set(stored(filled))
    threads = [threading.Thread(target=pour, args=(1000 + number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    swaps = [rewrite(filled, DAY) for _ in range(8)]
    stop.set()
    for thread in threads:
        thread.join()
    assert faults == []
    expected = before | {(number, second) for number, count in sent.items() for second in range(count)}
    assert set(stored(filled)) == expected, "not exactly once"
    assert len(swaps) == 8


def test_a_row_that_comes_behind_the_count_is_kept_whatever_isolation_is_the_default(
    filled: Engine, other: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has made another isolation the default of the database: the merge sees what the count did not."""
    with other.begin() as connection:
        database = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(
            text(f"ALTER DATABASE {database} SET default_transaction_isolation = 'repeatable read'")
        )
    renames = rewriting._renames

    def come(connection: Connection, day: Day) -> list[str]:
        with other.begin() as writer:
            insert(writer, 1, 1)
        return renames(connection, day)

    monkeypatch.setattr(rewriting, "_renames", come)
    before = set(stored(filled))
    fresh = make_engine(settings, application="test-fresh")
    assert rewrite(fresh, DAY).rows == len(before) + 1
    fresh.dispose()
    assert set(stored(other)) == before | {(1, 1)}


def test_a_plain_swap_would_be_noticed(
    filled: Engine, other: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the table beside the partition, what comes after the copy is lost, and these tests see it."""
    monkeypatch.setattr(rewriting, "_merge", lambda _connection, _day: (0, 0))

    def come(step: str) -> None:
        if step == "copied":
            with other.begin() as connection:
                insert(connection, 1, 1)

    before = set(stored(filled))
    rewrite(filled, DAY, told=come)
    assert set(stored(filled)) == before


class KilledError(Exception):
    """Stands for the end of a keeper."""


def cut_short(engine: Engine, step: str) -> None:
    """Begin to rewrite the day, and be killed after a step."""

    def end(at: str) -> None:
        if at == step:
            raise KilledError

    with pytest.raises(KilledError):
        rewrite(engine, DAY, told=end)


@pytest.mark.parametrize("step", STEPS)
def test_an_attempt_that_ends_at_any_step_leaves_the_day_whole(
    filled: Engine, other: Engine, step: str
) -> None:
    """A keeper that is killed after a step loses nothing; late rows still find their place, and the next one ends it."""
    before = set(stored(filled))
    cut_short(filled, step)
    with other.begin() as connection:
        insert(connection, 1, 1)
    assert set(stored(other)) == before | {(1, 1)}
    rewrite(other, DAY)
    assert stored(other) == sorted(before | {(1, 1)})
    assert beside(other) == []


@pytest.mark.parametrize(
    "statement",
    ["CREATE TRIGGER", "INSERT INTO new_", "ADD PRIMARY KEY", "DETACH", "RENAME", "ATTACH"],
)
def test_a_connection_that_breaks_inside_a_step_leaves_the_day_whole(
    filled: Engine, other: Engine, statement: str
) -> None:
    """The server ends the connection right after a statement of a transaction; nothing of it stays."""

    def break_after(conn: Connection, _cursor: object, sql: str, *_more: object) -> None:
        if statement in sql:
            pid = conn.connection.dbapi_connection.info.backend_pid  # type: ignore[union-attr]
            with other.begin() as killer:
                killer.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})

    before = set(stored(other))
    event.listen(filled, "after_cursor_execute", break_after)
    with pytest.raises(DBAPIError):
        rewrite(filled, DAY)
    event.remove(filled, "after_cursor_execute", break_after)
    with other.begin() as connection:
        insert(connection, 1, 1)
    assert set(stored(other)) == before | {(1, 1)}
    rewrite(other, DAY)
    assert stored(other) == sorted(before | {(1, 1)})
    assert beside(other) == []


@pytest.mark.parametrize("slept", ["begun", "copied", "vacuumed", "swapping"])
def test_an_attempt_that_was_overtaken_does_not_swap(
    filled: Engine, other: Engine, monkeypatch: pytest.MonkeyPatch, slept: str
) -> None:
    """A keeper that slept through its successor's attempt finds that it is no longer wanted."""
    before = set(stored(filled))
    swap = rewriting._swap_patiently

    def swap_late(engine: Engine, day: Day, attempt: int) -> tuple[int, float, int]:
        if engine is filled:
            overtake("swapping")
        return swap(engine, day, attempt)

    monkeypatch.setattr(rewriting, "_swap_patiently", swap_late)

    def overtake(step: str) -> None:
        if step == slept:
            rewrite(other, DAY)

    with pytest.raises(OvertakenError):
        rewrite(filled, DAY, told=overtake)
    assert stored(filled) == sorted(before)
    assert beside(filled) == []


def test_a_keeper_that_sleeps_behind_its_swap_is_in_nobodys_way(filled: Engine, other: Engine) -> None:
    """Its successor begins meanwhile: late rows of the day are taken after it has woken up."""
    before = set(stored(filled))

    def begin_another(step: str) -> None:
        if step == "swapped":
            cut_short(other, "begun")

    rewrite(filled, DAY, told=begin_another)
    with other.begin() as connection:
        insert(connection, 1, 1)
    assert set(stored(other)) == before | {(1, 1)}
    with other.connect() as connection:
        assert due_days.due(connection) == [DAY]
    rewrite(other, DAY)
    assert stored(other) == sorted(before | {(1, 1)})


def test_nothing_is_left_to_do_behind_the_swap(filled: Engine) -> None:
    """A keeper that ends there leaves no tables, and no names by which the day is known no more."""
    cut_short(filled, "swapped")
    assert beside(filled) == []
    assert indexes(filled) == {f"{DAY.name}_pkey", f"{DAY.name}_bad"}


def test_what_a_keeper_of_a_former_release_left_behind_its_swap_goes(filled: Engine) -> None:
    """It swapped after the upgrade, and ended before its last step."""
    with filled.begin() as connection:
        connection.execute(text(f"CREATE TABLE old_{DAY.name} (LIKE {DAY.name})"))
    rewrite(filled, DAY)
    assert beside(filled) == []


def test_the_table_of_late_rows_is_never_vacuumed_by_itself(filled: Engine) -> None:
    """That would hold it against the swap, which drops it while everybody waits for the table."""
    cut_short(filled, "begun")
    with filled.connect() as connection:
        options = connection.execute(
            text(
                "SELECT c.reloptions, t.reloptions FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid "
                "WHERE c.oid = to_regclass(:late)"
            ),
            {"late": DAY.late},
        ).one()
    assert [*options] == [["autovacuum_enabled=false"]] * 2


def test_the_swap_does_not_look_through_what_was_merged_before(
    filled: Engine, other: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While everybody waits for the table it finds nothing but what has come since."""
    left: list[int] = []

    def pour_in(step: str) -> None:
        if step == "vacuumed":
            with other.begin() as connection:
                for second in range(600):
                    insert(connection, 99, second)

    def swap(engine: Engine, day: Day, attempt: int) -> tuple[int, float, int]:
        with other.connect() as connection:
            left.append(
                connection.execute(
                    text("SELECT pg_relation_size(to_regclass(:late))"), {"late": day.late}
                ).scalar_one()
            )
        return patiently(engine, day, attempt)

    patiently = rewriting._swap_patiently
    monkeypatch.setattr(rewriting, "_swap_patiently", swap)
    assert rewrite(filled, DAY, told=pour_in).rows == JOBS * RUNS + 600
    assert left == [0]


@pytest.mark.parametrize("what", ["VIEW", "MATERIALIZED VIEW"])
@pytest.mark.parametrize("name", [DAY.name, DAY.old])
def test_a_view_on_a_day_is_told_before_anything_is_copied(filled: Engine, what: str, name: str) -> None:
    """Made by hand, it would not let the day go: the error names it and says what to do; without it all is well."""
    with filled.begin() as connection:
        connection.execute(text(f"CREATE TABLE IF NOT EXISTS {name} (LIKE {DAY.name})"))
        connection.execute(text(f"CREATE {what} mine AS SELECT count(*) FROM {name}"))
    before = beside(filled)
    steps: list[str] = []
    with pytest.raises(ConflictError) as caught:
        rewrite(filled, DAY, told=steps.append)
    assert caught.value.message == f"views stand on single days: mine on {name}"
    assert "drop them" in caught.value.mend
    assert (steps, beside(filled)) == ([], before)
    with filled.begin() as connection:
        connection.execute(text(f"DROP {what} mine"))
        connection.execute(text(f"CREATE {what} mine AS SELECT count(*) FROM {DAY.table}"))
    rewrite(filled, DAY)
    assert beside(filled) == []


def test_an_index_of_somebody_else_stays_by_its_name(filled: Engine) -> None:
    """The table has one more, made by hand: a day is rewritten all the same, again and again, and keeps it."""
    with filled.begin() as connection:
        connection.execute(text("CREATE INDEX by_version ON result_ping (job_version)"))
    before = indexes(filled)
    assert len(before) == 3
    for _ in range(2):
        rewrite(filled, DAY)
        assert indexes(filled) == before
        assert beside(filled) == []


def test_an_attempt_is_ended_though_the_day_is_empty_by_now(filled: Engine, other: Engine) -> None:
    """A copy that was begun holds what was removed since: the day is due until the copy is gone."""
    cut_short(filled, "copied")
    with other.begin() as connection:
        rewriting.overtake(connection, DAY)
        connection.execute(text(f"TRUNCATE {DAY.name}"))
    with other.connect() as connection:
        assert due_days.due(connection) == [DAY]
    assert rewrite(other, DAY).rows == 0
    assert beside(other) == []
    with other.connect() as connection:
        assert due_days.due(connection) == []


def test_rows_removed_meanwhile_do_not_come_back(filled: Engine, other: Engine) -> None:
    """Whoever removes rows of a day makes the attempt under way invalid in the same transaction."""

    def remove(step: str) -> None:
        if step == "copied":
            with other.begin() as connection:
                rewriting.overtake(connection, DAY)
                connection.execute(text("DELETE FROM result_ping WHERE job_id = 7"))

    with pytest.raises(OvertakenError):
        rewrite(filled, DAY, told=remove)
    assert 7 not in {job for job, _ in stored(filled)}
    rewrite(filled, DAY)
    assert 7 not in {job for job, _ in stored(filled)}
    assert len(stored(filled)) == (JOBS - 1) * RUNS


def test_a_long_reader_is_let_pass(filled: Engine, other: Engine) -> None:
    """The swap gives way again and again while somebody reads, and is done once they have read."""
    with other.connect() as reader:
        reader.execute(text("SELECT count(*) FROM result_ping")).scalar_one()
        held = threading.Event()

        def tell(step: str) -> None:
            if step == "vacuumed":
                held.set()

        found: list[rewriting.Rewritten] = []
        thread = threading.Thread(target=lambda: found.append(rewrite(filled, DAY, told=tell)))
        thread.start()
        assert held.wait(30)
        for second in range(1, 20):  # writers pass between its attempts
            with other.begin() as connection:
                insert(connection, 1, second)
        reader.rollback()
    thread.join(60)
    assert found[0].rows == JOBS * RUNS + 19
    assert len(stored(filled)) == JOBS * RUNS + 19


def test_what_is_due(filled: Engine) -> None:
    """A day that is over and never was rewritten, or has grown since; not today's, not an empty one."""
    now = dt.datetime.now(dt.UTC)
    with filled.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO result_ping (job_id, scheduled_at, started_at, duration_ms, job_version, status, "
                "failure_source) VALUES (1, :now, :now, 1, 1, 1, 0)"
            ),
            {"now": now},
        )
    with filled.connect() as connection:
        assert due_days.due(connection) == [DAY]
    rewrite(filled, DAY)
    with filled.begin() as connection:
        assert due_days.due(connection) == []
        insert(connection, 1, 1)
        assert due_days.due(connection) == []
        connection.execute(
            text(
                "INSERT INTO result_ping (job_id, scheduled_at, started_at, duration_ms, job_version, status, "
                "failure_source) SELECT 77, CAST(:at AS timestamptz) + run * interval '1 s', :at, 1, 1, 1, 0 "
                "FROM generate_series(0, 19999) AS run"
            ),
            {"at": START},
        )
        assert due_days.due(connection) == [DAY]
    assert set(results.all_table_names()) >= {DAY.table}


@pytest.fixture
def given_up(filled: Engine, other: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A day whose copy is complete, and whose table was held until the swap was given up."""
    monkeypatch.setattr(rewriting, "_SWAP_TRIES", 3)
    before = set(stored(filled))
    with other.connect() as reader:
        reader.execute(text("SELECT count(*) FROM result_ping")).scalar_one()
        with pytest.raises(OperationalError, match="lock timeout"):
            rewrite(filled, DAY)
    assert set(stored(filled)) == before
    return filled


def test_a_swap_that_was_given_up_is_done_by_the_next_attempt(given_up: Engine, other: Engine) -> None:
    """The copy is not made again; what has come in between is in it, and nothing is left beside."""
    with other.begin() as connection:
        insert(connection, 1, 1)
    before = stored(given_up)
    steps: list[str] = []
    assert rewrite(other, DAY, told=steps.append).rows == len(before)
    assert (steps[0], "copied" in steps) == ("vacuumed", False)
    assert sorted(stored(given_up)) == sorted(before)
    assert beside(given_up) == []
    assert rewrite(other, DAY, told=steps.append).rows == len(before)
    assert stored(given_up) == sorted(before)
    assert "copied" in steps


def test_a_kept_copy_is_of_no_use_once_rows_were_removed(given_up: Engine, other: Engine) -> None:
    """The day is copied anew, and what was removed stays away."""
    with other.begin() as connection:
        rewriting.overtake(connection, DAY)
        connection.execute(text("DELETE FROM result_ping WHERE job_id = 7"))
    steps: list[str] = []
    assert rewrite(given_up, DAY, told=steps.append).rows == (JOBS - 1) * RUNS
    assert "copied" in steps
    assert 7 not in {job for job, _ in stored(given_up)}


def test_a_kept_copy_that_does_not_fit_any_more_is_made_anew(given_up: Engine, other: Engine) -> None:
    """The table has been changed by hand meanwhile: the day is copied anew at once."""
    with other.begin() as connection:
        connection.execute(text("ALTER TABLE result_ping ADD COLUMN later integer"))
    steps: list[str] = []
    assert rewrite(given_up, DAY, told=steps.append).rows == JOBS * RUNS
    assert "copied" in steps


@pytest.mark.parametrize("step", STEPS)
def test_an_upgrade_after_an_attempt_that_was_cut_short_lets_rows_in(
    filled: Engine,
    other: Engine,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    """A release adds a column to a day whose rewriting has ended at a step: late rows are stored, once, new column and all."""
    before = set(stored(filled))
    cut_short(filled, step)
    with other.begin() as connection:
        insert(connection, 1, 1)
    install_later_release(tmp_path / "migrations", monkeypatch)
    schema.upgrade(settings)
    with other.begin() as connection:
        insert(connection, 1, 2)
        connection.execute(text("UPDATE result_ping SET later = 7 WHERE rtt_avg_ms = 0.002"))
    rewrite(other, DAY)
    assert stored(other) == sorted(before | {(1, 1), (1, 2)})
    with other.connect() as connection:
        assert connection.execute(text("SELECT sum(later) FROM result_ping")).scalar_one() == 7
    assert beside(other) == []


def test_an_upgrade_ends_an_attempt_under_way(
    filled: Engine, other: Engine, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A keeper of the release before, between two steps, swaps in nothing without the new column."""
    install_later_release(tmp_path / "migrations", monkeypatch)

    def migrate(step: str) -> None:
        if step == "vacuumed":
            schema.upgrade(settings)

    before = set(stored(filled))
    with pytest.raises(OvertakenError):
        rewrite(filled, DAY, told=migrate)
    assert set(stored(other)) == before
    assert beside(other) == []


def test_an_upgrade_leaves_an_attempt_that_still_fits(given_up: Engine, settings: Settings) -> None:
    """Where no column has changed, the copy that was kept is used."""
    schema.upgrade(settings)
    steps: list[str] = []
    assert rewrite(given_up, DAY, told=steps.append).rows == JOBS * RUNS
    assert "copied" not in steps
