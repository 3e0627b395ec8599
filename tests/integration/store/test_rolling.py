"""Roll-ups equal what the results themselves give, whatever comes late, twice, or while they are made."""

from __future__ import annotations

import datetime as dt
import random
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import OperationalError
from support.rolling import MINUTE, NOW, START, Book, expected, marks, rolled

from controller.errors import DatabaseUnavailableError
from controller.settings import Settings
from controller.store import partitions, rollups
from controller.store.engine import libpq_url, make_engine
from controller.store.queries.figures import buckets
from controller.store.rollups import (
    DAY,
    FIVE_MINUTES,
    HOUR,
    LAYERS,
    Layer,
    Source,
    computing,
    passed_over,
    rolling,
    sketches,
)
from controller.store.rollups import marks as marking
from controller.store.upkeep import standstills


@pytest.fixture
def book(engine: Engine) -> Book:
    """An empty book."""
    return Book(engine)


def test_buckets_are_what_the_results_give(engine: Engine, book: Book) -> None:
    """Hours and the day for every job, five minutes for the fast one; a second time changes nothing."""
    slow, fast = book.job(60), book.job(10)
    book.results(slow, START, MINUTE, 1500)
    book.results(fast, START + 3 * HOUR.width, dt.timedelta(seconds=10), 800)
    assert rolling.roll_up(engine, "ping").steps
    hours, days, fives = rolled(engine, HOUR), rolled(engine, DAY), rolled(engine, FIVE_MINUTES)
    assert hours == expected(engine, HOUR)
    assert days == expected(engine, DAY)
    assert fives == expected(engine, FIVE_MINUTES, {fast})
    assert len(hours) >= 24
    assert {job for job, _ in days} == {slow, fast}
    again = rolling.roll_up(engine, "ping")
    assert again.marks == 0
    assert rolled(engine, HOUR).items() >= hours.items()


def test_what_is_no_measurement_spoils_no_bucket(engine: Engine, book: Book) -> None:
    """Stored by an earlier release: the bucket is as though those runs had not measured it."""
    job = book.job(10)
    book.results(job, START, MINUTE, 120)
    wild = "UPDATE result_ping SET rtt_avg_ms = {} WHERE scheduled_at >= :start AND scheduled_at < :start + interval '5 min'"
    with engine.begin() as connection:
        connection.execute(text(wild.format("1.5e308")), {"start": START})
        connection.execute(text(wild.format("-1.5e308")), {"start": START + 5 * MINUTE})
        connection.execute(text(wild.format("'NaN'")), {"start": START + 10 * MINUTE})
    rolling.roll_up(engine, "ping")
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE result_ping SET rtt_avg_ms = NULL WHERE NOT abs(rtt_avg_ms) <= 1e100")
        )
    for of in LAYERS:
        assert rolled(engine, of) == expected(engine, of)
    assert len(rolled(engine, FIVE_MINUTES)) == 24


def test_buckets_that_are_spoilt_already_spoil_no_other(engine: Engine, book: Book) -> None:
    """Rolled up by an earlier release: what they hold of the metric is left out of days, figures and percentiles."""
    job = book.job(60)
    book.results(job, START, MINUTE, 240)
    rolling.roll_up(engine, "ping")
    good = rolled(engine, HOUR)
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE rollup_ping_1h SET rtt_avg_ms_sum = 1.5e308, rtt_avg_ms_max = 1.5e308, "
                "rtt_avg_ms_sketch = ARRAY[135489, 5] WHERE bucket IN (:first, :second)"
            ),
            {"first": START, "second": START + HOUR.width},
        )
        connection.execute(
            text("UPDATE rollup_frontiers SET done_until = :start WHERE layer = '1d'"), {"start": START}
        )
    rolling.roll_up(engine, "ping")
    kept = [figures for (_, bucket), figures in good.items() if bucket >= START + 2 * HOUR.width]
    count = len(rollups.RUNS)
    [day] = [figures for (_, bucket), figures in rolled(engine, DAY).items() if bucket == START]
    assert sum(day[:count]) == 240
    assert day[count] == sum(figures[count] for figures in kept)
    assert day[count + 3] == max(figures[count + 3] for figures in kept)
    with engine.connect() as connection:
        ping = Source(kind="ping", child=None)
        [found] = buckets(
            connection, ping, ["rtt_avg_ms"], [job], start=START, end=START + 4 * HOUR.width,
            width=4 * HOUR.width, percentiles=True,
        )  # fmt: skip
    assert found.figures["rtt_avg_ms"].count == day[count]
    assert max(found.figures["rtt_avg_ms"].percentiles) <= day[count + 3] * 1.01


def test_open_buckets_wait(engine: Engine, book: Book) -> None:
    """A bucket that has just begun is not there yet, and the frontier stands before it."""
    job = book.job(10)
    book.results(job, NOW - 20 * MINUTE, dt.timedelta(seconds=10), 120)
    rolling.roll_up(engine, "ping")
    newest = max(bucket for _, bucket in rolled(engine, FIVE_MINUTES))
    assert newest + FIVE_MINUTES.width <= dt.datetime.now(dt.UTC) - dt.timedelta(seconds=rollups.GRACE_S)
    assert newest >= NOW - 15 * MINUTE


def test_late_results_are_rolled_up_again(engine: Engine, book: Book) -> None:
    """Results into closed buckets, of jobs and days that had none before, too."""
    slow, fast, new = book.job(60), book.job(10), book.job(60)
    book.results(slow, START, 2 * MINUTE, 700)
    book.results(fast, START, MINUTE, 100)
    rolling.roll_up(engine, "ping")
    for number in range(50):
        book.late(book.chance.choice([slow, fast, new]), START + dt.timedelta(seconds=7 + number * 1711))
    book.late(new, START - 3 * DAY.width + MINUTE)
    assert marks(engine) == 51
    assert rolled(engine, HOUR) != expected(engine, HOUR)
    assert rolling.roll_up(engine, "ping").marks == 51
    assert marks(engine) == 0
    assert rolled(engine, HOUR) == expected(engine, HOUR)
    assert rolled(engine, DAY) == expected(engine, DAY)
    assert rolled(engine, FIVE_MINUTES) == expected(engine, FIVE_MINUTES, {fast})


def test_a_clock_that_was_set_back_leaves_no_bucket_behind(engine: Engine, book: Book) -> None:
    """Frontiers were ahead of the time for hours; what comes in time marks nothing, and is rolled up all the same."""
    fast = book.job(10)
    day = rollups.floor(NOW, DAY.width)
    book.results(fast, NOW - 8 * HOUR.width, dt.timedelta(seconds=10), 100)
    rolling.roll_up(engine, "ping")
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE rollup_frontiers SET done_until = :until, step_until = :further, step_job = 5 "
                "WHERE layer <> '1d'"
            ),
            {"until": rollups.floor(NOW + 3 * HOUR.width, HOUR.width), "further": day + 2 * DAY.width},
        )
        connection.execute(
            text("UPDATE rollup_frontiers SET done_until = :until WHERE layer = '1d'"),
            {"until": day + DAY.width},
        )
    book.results(fast, NOW - 5 * HOUR.width, dt.timedelta(seconds=10), 100)
    assert marks(engine) == 0
    rolling.roll_up(engine, "ping")
    with engine.connect() as connection:
        frontiers = connection.execute(
            text("SELECT max(done_until), max(step_until) FROM rollup_frontiers")
        ).one()
    assert NOW - 2 * HOUR.width < frontiers[0] < dt.datetime.now(dt.UTC)
    assert frontiers[1] is None
    for of in (FIVE_MINUTES, HOUR):
        assert rolled(engine, of) == expected(engine, of)


def test_sketches_hold_their_error(engine: Engine, book: Book) -> None:
    """Percentiles of a day, merged from its hours, are within the stated error of the exact ones."""
    job = book.job(60)
    book.results(job, START, MINUTE, 1440)
    rolling.roll_up(engine, "ping")
    shares = (0.5, 0.95, 0.99)
    with engine.connect() as connection:
        exact = connection.execute(
            text(
                "SELECT percentile_cont(CAST(:shares AS float8[])) WITHIN GROUP (ORDER BY rtt_avg_ms) FROM result_ping"
            ),
            {"shares": list(shares)},
        ).scalar_one()
        sketch, sent = connection.execute(
            text(f"SELECT rtt_avg_ms_sketch, {sketches.sent_sql('rtt_avg_ms_sketch')} FROM rollup_ping_1d")
        ).one()
    assert sketch[::2] == sorted(set(sketch[::2]))
    assert list(sketches.received(sent)) == sketch
    count, found_of = sketches.percentiles(sketch, shares)
    assert count == sum(sketch[1::2])
    for found, value in zip(found_of, exact, strict=True):
        assert found == pytest.approx(value, rel=sketches.ERROR)
        assert found != value


def test_children_are_rolled_up_by_key(engine: Engine, book: Book) -> None:
    """A repeated group has its own buckets, one for each key."""
    job = book.job(60, kind="system")
    with engine.begin() as connection:
        partitions.ensure_partitions(connection, "system", [START.date()])
        for number in range(120):
            at = START + number * MINUTE
            connection.execute(
                text(
                    "INSERT INTO result_system (job_id, scheduled_at, started_at, duration_ms, job_version, status, "
                    "failure_source) VALUES (:job, :at, :at, 1, 1, 1, 0)"
                ),
                {"job": job, "at": at},
            )
            for key, value in (("eth0", number), ("lo", 2 * number)):
                connection.execute(
                    text(
                        "INSERT INTO result_system_interfaces (job_id, scheduled_at, key, receive_bytes_per_s, up) "
                        "VALUES (:job, :at, :key, :value, :up)"
                    ),
                    {"job": job, "at": at, "key": key, "value": value, "up": number % 2 == 0},
                )
    rolling.roll_up(engine, "system")
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT key, receive_bytes_per_s_n, receive_bytes_per_s_max, up_n, up_sum FROM "
                "rollup_system_interfaces_1h ORDER BY bucket, key"
            )
        ).all()
        day = connection.execute(
            text("SELECT key, receive_bytes_per_s_sum, up_n FROM rollup_system_interfaces_1d ORDER BY key")
        ).all()
    assert rows == [
        ("eth0", 60, 59.0, 60, 30.0),
        ("lo", 60, 118.0, 60, 30.0),
        ("eth0", 60, 119.0, 60, 30.0),
        ("lo", 60, 238.0, 60, 30.0),
    ]
    assert day == [("eth0", sum(range(120)), 120), ("lo", 2 * sum(range(120)), 120)]


def test_the_frontier_waits_for_open_transactions_of_gateways(
    engine: Engine, book: Book, settings: Settings
) -> None:
    """A gateway that began before a bucket was closed may still bring results of it; others are not waited for."""
    for name, waited_for in (("streamswarm-gateway", True), ("grafana", False)):
        with psycopg.connect(libpq_url(settings), application_name=name) as connection:
            began = connection.execute("SELECT now()").fetchone()
            assert began is not None
            horizon = rolling.horizon_of(engine)
            assert (horizon == began[0]) is waited_for


@pytest.mark.parametrize("name", ["streamswarm-gateway", "psql"])
def test_a_gateway_of_another_role_is_an_error(
    engine: Engine, postgres_server: str, postgres_url: str, name: str
) -> None:
    """A keeper that may not see when gateways' transactions began says so; other sessions may hide what they like."""
    database = postgres_url.partition("@/")[2].partition("?")[0]
    url = postgres_server.replace("/postgres?", f"/{database}?")
    with psycopg.connect(url, autocommit=True, application_name=name) as foreign:
        assert foreign.info.dbname == database
        if name == "psql":
            rolling.roll_up(engine, "ping")
            return
        with pytest.raises(DatabaseUnavailableError, match="hides them") as caught:
            rolling.roll_up(engine, "ping")
    assert "pg_read_all_stats" in caught.value.mend


@pytest.mark.parametrize("broken", [1, 2, 3, 5, 8])
def test_what_was_cut_short_is_done_by_the_next(
    engine: Engine, book: Book, monkeypatch: pytest.MonkeyPatch, broken: int
) -> None:
    """After an end in any transaction, with late results before the next attempt, the buckets are right."""
    jobs = [book.job(60), book.job(10), book.job(60)]
    for job in jobs:
        book.results(job, START, 10 * MINUTE, 200)
    calls = 0
    plainly = computing.compute

    def fail(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == broken:
            raise InterruptedError
        plainly(*arguments)

    monkeypatch.setattr(computing, "compute", fail)
    with pytest.raises(InterruptedError):
        rolling.roll_up(engine, "ping", together=1)
    for job in jobs:
        book.late(job, START + MINUTE)
        book.late(job, START + 25 * HOUR.width + MINUTE)
    rolling.roll_up(engine, "ping", together=1)
    assert rolled(engine, HOUR) == expected(engine, HOUR)
    assert rolled(engine, DAY) == expected(engine, DAY)
    assert rolled(engine, FIVE_MINUTES) == expected(engine, FIVE_MINUTES, {jobs[1]})
    assert marks(engine) == 0


@pytest.fixture
def other(settings: Settings) -> Iterator[Engine]:
    """Connections of gateways."""
    engine = make_engine(settings, application="streamswarm-gateway", pool_size=4)
    yield engine
    engine.dispose()


def test_roll_ups_that_race_with_late_results_equal_a_recomputation(
    engine: Engine, other: Engine, book: Book
) -> None:
    """Three keepers roll up while three gateways store late results; in the end every bucket is right."""
    jobs = [book.job(10) for _ in range(3)]
    for job in jobs:
        book.results(job, START, 10 * MINUTE, 150)
    stop = threading.Event()
    faults: list[BaseException] = []

    def store(number: int) -> None:
        try:
            mine = Book.__new__(Book)
            mine.engine, mine.chance = other, random.Random(number)
            for count in range(120):
                mine.late(jobs[number], START + dt.timedelta(seconds=1 + count * 701))
        except BaseException as error:  # noqa: BLE001  handed to the main thread
            faults.append(error)

    def roll() -> None:
        try:
            while not stop.is_set():
                rolling.roll_up(engine, "ping")
        except BaseException as error:  # noqa: BLE001  handed to the main thread
            faults.append(error)

    gateways = [threading.Thread(target=store, args=(number,)) for number in range(3)]
    keepers = [threading.Thread(target=roll) for _ in range(3)]
    for thread in [*gateways, *keepers]:
        thread.start()
    for thread in gateways:
        thread.join()
    stop.set()
    for thread in keepers:
        thread.join()
    assert faults == []
    rolling.roll_up(engine, "ping")
    assert marks(engine) == 0
    for of in LAYERS:
        assert rolled(engine, of) == expected(engine, of)


def test_sketches_are_made_once_for_all_buckets(engine: Engine, book: Book) -> None:
    """Not anew for each bucket, which a table without statistics tempts PostgreSQL to: that costs the square of them."""
    for _ in range(20):
        book.results(book.job(20), START, dt.timedelta(seconds=20), 1000)
    found: list[str] = []

    def explain(connection: Connection, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(tuple(f"INSERT INTO rollup_ping_{of.name} " for of in LAYERS)):
            cursor.execute(f"EXPLAIN {statement}", parameters)
            found.append("\n".join(row[0] for row in cursor.fetchall()))

    event.listen(engine, "before_cursor_execute", explain)
    rolling.roll_up(engine, "ping")
    assert len(found) >= len(LAYERS)
    assert all("Left Join" in plan and "Nested Loop Left Join" not in plan for plan in found), found


def test_what_takes_too_long_is_taken_in_smaller_portions(
    engine: Engine, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement that runs out of time stops nothing: steps and marks go on with fewer jobs, down to one."""
    jobs = [book.job(10) for _ in range(7)]
    for job in jobs:
        book.results(job, START, 10 * MINUTE, 30)
    sizes: list[int] = []
    whole = computing.compute

    def slow(connection: Any, source: Source, of: Layer, stretches: Any) -> None:
        wanted = list(stretches)
        sizes.append(len(wanted))
        if len(wanted) > 2:
            connection.execute(text("SET LOCAL statement_timeout = 1"))
            connection.execute(text("SELECT pg_sleep(10)"))
        whole(connection, source, of, wanted)

    monkeypatch.setattr(computing, "compute", slow)
    assert rolling.roll_up(engine, "ping", together=16).steps
    assert max(sizes) == 7
    assert rolled(engine, HOUR) == expected(engine, HOUR)
    assert rolled(engine, DAY) == expected(engine, DAY)
    for job in jobs:
        book.late(job, START + MINUTE)
    assert rolling.roll_up(engine, "ping", together=16).marks == 7
    assert rolled(engine, HOUR) == expected(engine, HOUR)


def test_late_results_that_come_without_end_hold_up_no_other_kind(
    engine: Engine, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that brings them faster than they are worked off: a round ends with those that it found."""
    job = book.job(60)
    book.results(job, START, MINUTE, 10)
    rolling.roll_up(engine, "ping")
    recompute = marking.recompute
    more = iter(range(1, 20))

    def late_again(*arguments: Any) -> int:
        book.late(job, START + next(more) * dt.timedelta(seconds=1))
        return recompute(*arguments)

    monkeypatch.setattr(marking, "recompute", late_again)
    for number in range(3):
        book.late(job, START + MINUTE / 2 + number * dt.timedelta(seconds=1))
    assert rolling.roll_up(engine, "ping", together=2).marks == 3
    assert marks(engine) == 3
    monkeypatch.undo()
    assert rolling.roll_up(engine, "ping").marks == 3
    assert rolled(engine, HOUR) == expected(engine, HOUR)


def slowly(monkeypatch: pytest.MonkeyPatch, is_slow: Any) -> list[int]:
    """Let what holds a slow stretch of own metrics run out of its time; return the list that counts how often it does."""
    whole = computing.compute
    times: list[int] = []

    def slow(connection: Any, source: Source, of: Layer, stretches: Any) -> None:
        wanted = list(stretches)
        if source.child is None and any(is_slow(of, stretch) for stretch in wanted):
            times.append(len(wanted))
            connection.execute(text("SET LOCAL statement_timeout = 1"))
            connection.execute(text("SELECT pg_sleep(10)"))
        whole(connection, source, of, wanted)

    monkeypatch.setattr(computing, "compute", slow)
    return times


def noted(engine: Engine) -> list[Any]:
    """Return what is passed over."""
    with engine.connect() as connection:
        return list(
            connection.execute(
                text('SELECT layer, job_id, start, "end" FROM passed_over ORDER BY layer, start')
            )
        )


def wait_out(engine: Engine) -> None:
    """Let the time until the next try pass."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE passed_over SET tried_at = tried_at - interval '2 hours'"))


def test_one_job_of_which_a_bucket_takes_too_long_holds_up_no_other(
    engine: Engine, book: Book, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """However few rows it has: it is passed over and told, late results of it as well; once it can be, it is made up for."""
    wild, *others = [book.job(10) for _ in range(4)]
    for job in (wild, *others):
        book.results(job, START, 10 * MINUTE, 30)
    bad = START + HOUR.width
    times = slowly(
        monkeypatch,
        lambda of, stretch: of is not DAY and stretch.job_id == wild and stretch.start <= bad < stretch.end,
    )
    assert rolling.roll_up(engine, "ping").steps
    for of in (HOUR, FIVE_MINUTES):
        lacking = {key for key in expected(engine, of) if key not in rolled(engine, of)}
        assert lacking == {(wild, bad)}
    assert noted(engine) == [(of.name, wild, bad, bad + of.width) for of in (HOUR, FIVE_MINUTES)]
    assert (
        caplog.text.count(f"job {wild}: ping takes longer to roll up than a statement may, in 1 stretches")
        == 2
    )
    with engine.connect() as connection:
        [told] = standstills.read_jobs(connection)
        assert (told.kind, told.job_id, told.stretches, told.start) == ("ping", wild, 2, bad)
        assert not [one for one in standstills.read(connection) if one.reason]

    tried = len(times)
    for number, job in enumerate((wild, *others, wild)):
        book.late(job, bad + dt.timedelta(seconds=290 + number))
    book.late(wild, START + 4 * HOUR.width + MINUTE)
    assert rolling.roll_up(engine, "ping").marks == 6
    assert marks(engine) == 0
    assert len(times) == tried, "what is known to take too long is tried again in its own time only"
    for job in others:
        assert rolled(engine, HOUR)[job, bad] == expected(engine, HOUR)[job, bad]
    other_hour = (wild, START + 4 * HOUR.width)
    assert rolled(engine, HOUR)[other_hour] == expected(engine, HOUR)[other_hour]

    monkeypatch.undo()
    wait_out(engine)
    rolling.roll_up(engine, "ping")
    rolling.roll_up(engine, "ping")
    assert noted(engine) == []
    for of, some in ((HOUR, None), (DAY, None), (FIVE_MINUTES, {wild, *others})):
        assert rolled(engine, of) == expected(engine, of, some)


def test_a_late_result_whose_bucket_takes_too_long_is_passed_over(
    engine: Engine, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was noted of its job before; the marks of others are worked off, and the frontiers go on."""
    wild, other = book.job(60), book.job(60)
    for job in (wild, other):
        book.results(job, START, 10 * MINUTE, 30)
    rolling.roll_up(engine, "ping")
    bad = START + HOUR.width
    times = slowly(
        monkeypatch, lambda of, stretch: of is HOUR and stretch.job_id == wild and stretch.start == bad
    )
    for job in (wild, other):
        for number in range(3):
            book.late(job, bad + MINUTE / 2 + number * MINUTE)
    assert rolling.roll_up(engine, "ping").marks == 6
    assert marks(engine) == 0
    assert noted(engine) == [("1h", wild, bad, bad + HOUR.width)]
    assert rolled(engine, HOUR)[other, bad] == expected(engine, HOUR)[other, bad]
    assert times
    monkeypatch.undo()
    wait_out(engine)
    rolling.roll_up(engine, "ping")
    for of in (HOUR, DAY):
        assert rolled(engine, of) == expected(engine, of)


def test_a_job_whose_every_bucket_takes_too_long_costs_little(
    engine: Engine, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After five buckets the rest of the day is not tried; nor are its late results, one by one."""
    wild, other = book.job(60), book.job(60)
    for job in (wild, other):
        book.results(job, START, 10 * MINUTE, 144)
    times = slowly(monkeypatch, lambda of, stretch: of is HOUR and stretch.job_id == wild)
    rolling.roll_up(engine, "ping")
    assert len(times) < 20
    assert {row.job_id for row in noted(engine)} == {wild}
    assert {job for job, _ in rolled(engine, HOUR)} == {other}
    covered = sum((row.end - row.start for row in noted(engine)), dt.timedelta(0))
    assert covered == 24 * HOUR.width
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM passed_over WHERE start > :first"), {"first": START})
    times.clear()
    for number in range(24):
        book.late(wild, START + number * HOUR.width + MINUTE / 2)
    assert rolling.roll_up(engine, "ping").marks == 24
    assert len(times) <= computing.MOST_TRIED
    assert marks(engine) == 0


def test_what_is_passed_over_is_forgotten_with_its_results(
    engine: Engine, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is computed from what has gone, nor told of any more."""
    wild = book.job(60)
    book.results(wild, START, 10 * MINUTE, 30)
    slowly(monkeypatch, lambda of, stretch: of is HOUR and stretch.start == START)
    rolling.roll_up(engine, "ping")
    assert len(noted(engine)) == 1
    monkeypatch.undo()
    wait_out(engine)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO expiries (kind, layer, gone_before) VALUES ('ping', 'raw', :at)"),
            {"at": START + DAY.width},
        )
    rolling.roll_up(engine, "ping")
    assert noted(engine) == []
    assert (wild, START) not in rolled(engine, HOUR)


def test_a_late_result_during_a_try_has_the_bucket_tried_once_more(
    engine: Engine, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A keeper that is paused behind its computation forgets no note that another's mark was worked off by."""
    wild = book.job(10)
    book.results(wild, START, 10 * MINUTE, 30)
    bad = START + HOUR.width
    with monkeypatch.context() as while_slow:
        slowly(while_slow, lambda of, stretch: of is HOUR and stretch.start <= bad < stretch.end)
        rolling.roll_up(engine, "ping")
    assert noted(engine)
    wait_out(engine)
    whole = computing.compute_halving
    with monkeypatch.context() as while_paused:

        def paused(engine: Engine, kind: str, of: Layer, stretch: Any) -> Any:
            lost = whole(engine, kind, of, stretch)
            while_paused.undo()
            book.late(wild, bad + dt.timedelta(seconds=7))
            assert marking.recompute_apart(engine, "ping", marking.last(engine, "ping")) == 1
            return lost

        while_paused.setattr(computing, "compute_halving", paused)
        passed_over.try_again(engine, "ping")
    assert marks(engine) == 0
    wait_out(engine)
    rolling.roll_up(engine, "ping")
    assert noted(engine) == []
    assert rolled(engine, HOUR) == expected(engine, HOUR)


def test_a_step_that_fails_for_another_reason_is_an_error(
    engine: Engine, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what takes too long is passed over."""
    book.results(book.job(60), START, MINUTE, 3)

    def never(connection: Any, *_: Any) -> None:
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    monkeypatch.setattr(computing, "compute", never)
    with pytest.raises(OperationalError):
        rolling.roll_up(engine, "ping")
    assert noted(engine) == []
