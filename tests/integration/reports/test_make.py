"""Reports from the rows to the file: figures equal plain SQL, the hash can be computed again, nothing is done twice."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session
from support.keepers import Keepers, wait_for
from support.pdf import text_of

from controller.errors import ConflictError, NotFoundError, StreamSwarmError
from controller.keeper.prune import prune
from controller.reports.document import compose
from controller.reports.gather import SETTLING, gather
from controller.reports.make import make_report
from controller.reports.press import Limits
from controller.reports.records import Report
from controller.settings import Settings
from controller.store.commands import reports as commands
from controller.store.commands import tests as test_commands
from controller.store.commands.audit import SYSTEM
from controller.store.entities import Worker
from controller.store.entities.upkeep import RAW, Expiry
from controller.store.queries import reports
from controller.store.queries.report_rows import columns_of, query_of
from streamswarm import contract
from streamswarm.v1 import probe_pb2

HOUR = (dt.datetime.now(dt.UTC) - dt.timedelta(hours=2)).replace(minute=0, second=0, microsecond=0)
END = HOUR + dt.timedelta(hours=1)


def read(
    engine: Engine, ground: Any, *test_ids: int, start: dt.datetime = HOUR, end: dt.datetime = END
) -> Report:
    """Gather a report on tests."""
    return gather(engine, ground.ask(*test_ids, start=start, end=end), lambda progress: None)


@pytest.fixture
def lines(ground: Any) -> dict[str, Any]:
    """Two lines of a ping, an hour before and an hour of runs: ok, failed, not measured, missed, lacking."""
    dice = random.Random(5)
    destinations = [ground.destination("Router", "192.0.2.1"), ground.destination("Wide", "192.0.2.2")]
    test = ground.test(
        "Round trip", "ping", created_at=HOUR - dt.timedelta(hours=1), destinations=destinations
    )
    workers = [ground.worker("alpha"), ground.worker("beta")]
    jobs = [ground.job(test, *pair) for pair in zip(workers, destinations, strict=True)]
    for job in jobs:
        rows: list[dict[str, Any]] = []
        for index, at in enumerate(ground.due(job, HOUR - dt.timedelta(hours=1), END)):
            if index % 50 == 7:
                continue
            row: dict[str, Any] = {"at": at, "rtt_avg_ms": dice.uniform(1, 90), "loss_pct": 0.0}
            if index % 40 == 3:
                row = {
                    "at": at, "status": probe_pb2.STATUS_FAILED, "loss_pct": 100.0,
                    "source": probe_pb2.FAILURE_SOURCE_NETWORK, "error": 'no "reply"\nwithin 1000 ms — é',
                }  # fmt: skip
            elif index % 60 == 11:
                row = {
                    "at": at, "status": probe_pb2.STATUS_ERROR, "source": probe_pb2.FAILURE_SOURCE_VANTAGE,
                    "error": "no route",
                }  # fmt: skip
            elif index % 90 == 13:
                row = {
                    "at": at, "status": probe_pb2.STATUS_MISSED, "source": probe_pb2.FAILURE_SOURCE_SCHEDULE,
                    "error": "the one before still ran",
                }  # fmt: skip
            rows.append(row)
        ground.runs(job, rows)
    return {"test": test, "jobs": jobs, "workers": workers, "destinations": destinations}


@pytest.fixture
def sql(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """A plain connection with nothing of ours in between."""
    with psycopg.connect(settings.database_url, options="-c timezone=UTC") as connection:
        yield connection


def test_figures_equal_plain_sql(
    engine: Engine, ground: Any, lines: dict[str, Any], sql: psycopg.Connection[Any]
) -> None:
    """Counts, extremes, means and percentiles of lines, of all lines and of the time before; worst hour included."""
    (found,) = read(engine, ground, lines["test"]).tests
    query = (
        "SELECT count(rtt_avg_ms), min(rtt_avg_ms), avg(rtt_avg_ms), "
        "percentile_cont(0.5) WITHIN GROUP (ORDER BY rtt_avg_ms), "
        "percentile_cont(0.95) WITHIN GROUP (ORDER BY rtt_avg_ms), max(rtt_avg_ms) "
        "FROM result_ping WHERE job_id = ANY(%s) AND scheduled_at >= %s AND scheduled_at < %s"
    )

    def figures(of: Any) -> tuple[Any, ...]:
        return (of.count, of.min, of.mean, of.median, of.p95, of.max)

    before = HOUR - dt.timedelta(hours=1)
    for line, job in zip(found.lines, lines["jobs"], strict=True):
        assert figures(line.statistics) == sql.execute(query, ([job], HOUR, END)).fetchone()
        assert figures(line.previous) == sql.execute(query, ([job], before, HOUR)).fetchone()
        counts = sql.execute(
            "SELECT count(*) FILTER (WHERE status = 1), count(*) FILTER (WHERE status = 2), "
            "count(*) FILTER (WHERE status = 3), count(*) FILTER (WHERE status = 4), count(*) "
            "FROM result_ping WHERE job_id = %s AND scheduled_at >= %s AND scheduled_at < %s",
            (job, HOUR, END),
        ).fetchone()
        account = line.account
        received = (account.ok, account.failed, account.error, account.missed, account.received)
        assert received == counts
        due = len(ground.due(job, HOUR, END))
        assert (account.expected, account.beyond, account.aside) == (due, 0, 0)
        assert account.undelivered == due - account.received > 0
        assert sum(bucket.runs for bucket in line.buckets) == account.received
    assert figures(found.headline) == sql.execute(query, (lines["jobs"], HOUR, END)).fetchone()
    assert {trouble.source: trouble.count for trouble in found.troubles} == dict(
        sql.execute(
            "SELECT CASE failure_source WHEN 2 THEN 'network' WHEN 5 THEN 'vantage' ELSE 'schedule' END, count(*) "
            "FROM result_ping WHERE status <> 1 AND scheduled_at >= %s AND scheduled_at < %s GROUP BY 1",
            (HOUR, END),
        ).fetchall()
    )


def test_nothing_is_compared_with_a_time_that_has_partly_expired(
    engine: Engine, ground: Any, lines: dict[str, Any]
) -> None:
    """A minute of it gone is enough: the rest would be told as if it were the whole."""
    before = HOUR - dt.timedelta(hours=1)
    for minutes, compared in ((0, True), (1, False)):
        with Session(engine) as session, session.begin():
            session.merge(Expiry(kind="ping", layer=RAW, gone_before=before + dt.timedelta(minutes=minutes)))
        found = read(engine, ground, lines["test"])
        (test,) = found.tests
        assert [of.previous is not None for of in (test, *test.lines)] == [compared] * 3
        assert ("before: expired" in compose(found)) is not compared


@pytest.mark.parametrize("before", [True, False])
def test_results_that_expire_while_they_are_read_are_not_taken_for_all(
    engine: Engine, ground: Any, lines: dict[str, Any], before: bool
) -> None:
    """The look at one instant does not see it: days are removed for it too."""

    def expire(progress: str) -> None:
        with Session(engine) as session, session.begin():
            gone = HOUR - dt.timedelta(minutes=1) if before else HOUR + dt.timedelta(minutes=1)
            session.merge(Expiry(kind="ping", layer=RAW, gone_before=gone))

    asked = ground.ask(lines["test"], start=HOUR, end=END)
    if before:
        assert gather(engine, asked, expire).tests[0].previous is None
        return
    with pytest.raises(StreamSwarmError, match="have expired since the report was asked for"):
        gather(engine, asked, expire)


def cell(value: Any) -> Any:
    """Return a value as the rows that are hashed have it."""
    if isinstance(value, dt.datetime):
        return (value - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def test_the_hash_can_be_computed_again(
    engine: Engine, ground: Any, lines: dict[str, Any], sql: psycopg.Connection[Any]
) -> None:
    """By the query that is printed, and by other code from the rows alone; each change of a row changes it."""
    (found,) = read(engine, ground, lines["test"]).tests
    printed = found.digest.query
    assert sql.execute(printed.encode()).fetchone() == (found.digest.rows, found.digest.sha256)
    names = columns_of("ping")
    rows = sql.execute(
        f"SELECT {', '.join(names)} FROM result_ping WHERE job_id = ANY(%s) AND scheduled_at >= %s "
        "AND scheduled_at < %s ORDER BY job_id, scheduled_at".encode(),
        (lines["jobs"], HOUR, END),
    ).fetchall()
    by_day: dict[tuple[int, str], list[str]] = {}
    for row in rows:
        day = f"{row[1].astimezone(dt.UTC):%Y-%m-%d}"
        by_day.setdefault((row[0], day), []).append(
            json.dumps([cell(value) for value in row], ensure_ascii=False)
        )
    days = [
        f"{job} {day} {hashlib.sha256(chr(10).join(of_day).encode()).hexdigest()}"
        for (job, day), of_day in sorted(by_day.items())
    ]
    assert hashlib.sha256("\n".join(days).encode()).hexdigest() == found.digest.sha256
    assert found.digest.rows == len(rows)
    for change in (
        "UPDATE result_ping SET rtt_avg_ms = rtt_avg_ms + 1e-9 WHERE (job_id, scheduled_at) = (%s, %s)",
        "UPDATE result_ping SET error = coalesce(error, '') WHERE (job_id, scheduled_at) = (%s, %s)",
        "DELETE FROM result_ping WHERE (job_id, scheduled_at) = (%s, %s)",
    ):
        with sql.transaction(force_rollback=True):
            changed = sql.execute(change.encode(), rows[0][:2])
            assert changed.rowcount == 1
            again = sql.execute(printed.encode()).fetchone()
        assert again is not None
        assert again[1] != found.digest.sha256, change


@pytest.mark.parametrize("kind", contract.kinds())
def test_every_kind_has_a_hash(kind: str, sql: psycopg.Connection[Any]) -> None:
    """Whatever the columns, the query runs; of no rows it gives the hash of nothing."""
    found = sql.execute(query_of(kind, [], start=HOUR, end=END).encode()).fetchone()
    assert found == (0, hashlib.sha256(b"").hexdigest())


def test_pauses_changes_and_runs_aside_are_accounted_for(engine: Engine, ground: Any) -> None:
    """What was due while the test was paused is not expected; "run now" is set aside; a stray run is beyond the plan."""
    worker, place = ground.worker("alpha"), ground.destination("Router", "192.0.2.1")
    test = ground.test("T", "ping", destinations=[place])
    job = ground.job(test, worker, place)
    quarter = dt.timedelta(minutes=15)
    ground.changed(test, HOUR + quarter, lambda session: test_commands.pause(session, test, actor=SYSTEM))
    ground.changed(
        test, HOUR + 2 * quarter, lambda session: test_commands.resume(session, test, actor=SYSTEM)
    )
    wanted = ground.due(job, HOUR, HOUR + quarter) + ground.due(job, HOUR + 2 * quarter, END)
    ground.runs(job, [{"at": at, "rtt_avg_ms": 1.0} for at in wanted[:-3]])
    # Two within the pause, by the version that is paused.
    paused = ground.due(job, HOUR + quarter, HOUR + 2 * quarter)
    ground.runs(job, [{"at": at, "rtt_avg_ms": 1.0} for at in paused[3:5]])
    once = ground.job(test, worker, place, one_shot=True, interval_us=0, anchor_us=1, retired_at=END)
    ground.runs(once, [{"at": HOUR + quarter * 1.5, "rtt_avg_ms": 999.0}])
    (found,) = read(engine, ground, test).tests
    account = found.account
    assert len(wanted) == 3 * 90
    assert (account.expected, account.undelivered, account.beyond, account.aside) == (270, 3, 2, 1)
    assert account.received == 270 - 3 + 2
    assert found.headline.max == 1.0
    assert [(stretch.start, stretch.paused) for stretch in found.stretches] == [
        (HOUR, False),
        (HOUR + quarter, True),
        (HOUR + 2 * quarter, False),
    ]


def test_what_has_not_settled_is_not_counted(engine: Engine, ground: Any) -> None:
    """A report up to now ends a minute before it: what is due just now is neither expected nor received."""
    now = dt.datetime.now(dt.UTC)
    worker = ground.worker("alpha")
    test = ground.test("T", "system", created_at=now - dt.timedelta(minutes=10))
    job = ground.job(test, worker)
    ground.runs(
        job, [{"at": at, "cpu_busy_pct": 1.0} for at in ground.due(job, now - dt.timedelta(minutes=10), now)]
    )
    found = read(engine, ground, test, start=now - dt.timedelta(hours=1), end=now)
    assert found.read_at - found.end == SETTLING
    assert found.tests[0].account.undelivered == 0
    assert found.tests[0].account.expected < 60


def test_hostile_names_are_printed_as_text(
    engine: Engine, ground: Any, lines: dict[str, Any], tmp_path: Path
) -> None:
    """The whole way: names with markup, addresses and files are words in the PDF."""
    names = [
        '<img src="http://127.0.0.1:9/x.png">',
        '<link rel="attachment" href="file:///etc/passwd">',
        "</style><script>alert(1)</script>{{ 7 * 7 }}",
    ]
    evil = ground.destination(names[1], "192.0.2.66")
    test = ground.test(names[0], "ping", destinations=[evil], description=names[2])
    with Session(engine) as session, session.begin():
        session.get_one(Worker, lines["workers"][0]).name = names[2]
    job = ground.job(test, lines["workers"][0], evil)
    ground.runs(
        job,
        [
            {"at": at, "status": 2, "source": 2, "error": '<a rel=attachment href="file:///etc/shadow">x</a>'}
            for at in ground.due(job, HOUR, END)
        ],
    )
    asked = ground.ask(test, start=HOUR, end=END)
    assert make_report(engine, asked.id)
    with Session(engine) as session:
        _, content = reports.read_file(session, asked.id)
    said = "".join(text_of(content, tmp_path).split())
    for name in (*names, '<a rel=attachment href="file:///etc/shadow">'):
        assert "".join(name.split()) in said, name


def state_of(engine: Engine, report_id: int) -> reports.ReportRecord:
    """Return a report as it is now."""
    with Session(engine) as session:
        return reports.get(session, report_id)


def test_a_report_is_made_once(engine: Engine, ground: Any, lines: dict[str, Any]) -> None:
    """The file has the size and hash that the row says; a second task does nothing."""
    asked = ground.ask(lines["test"], start=HOUR, end=END)
    assert state_of(engine, asked.id).state == "waiting"
    assert make_report(engine, asked.id)
    made = state_of(engine, asked.id)
    with Session(engine) as session:
        _, content = reports.read_file(session, asked.id)
    assert made.state == "ready"
    assert content.startswith(b"%PDF-")
    assert (made.size, made.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert not make_report(engine, asked.id)
    assert state_of(engine, asked.id) == made


def test_a_keeper_that_comes_late_changes_nothing(engine: Engine, ground: Any, lines: dict[str, Any]) -> None:
    """Who took a report up first and was overtaken can neither finish nor fail it; a deleted one stays deleted."""
    asked = ground.ask(lines["test"], start=HOUR, end=END)
    with Session(engine) as session, session.begin():
        taken = commands.take_up(session, asked.id)
        assert taken is not None
        again = commands.take_up(session, asked.id)
        assert again is not None
        assert (taken[1], again[1]) == (1, 2)
        assert not commands.finish(session, asked.id, 1, b"stale")
        assert not commands.fail(session, asked.id, 1, error="stale", mend="")
        assert not commands.tell(session, asked.id, 1, "stale")
        assert commands.finish(session, asked.id, 2, b"%PDF-fresh")
        assert commands.take_up(session, asked.id) is None
    with Session(engine) as session, session.begin():
        assert reports.read_file(session, asked.id)[1] == b"%PDF-fresh"
        commands.delete(session, asked.id, actor=SYSTEM)
        assert not commands.finish(session, asked.id, 2, b"late")
    with pytest.raises(NotFoundError):
        state_of(engine, asked.id)
    assert not make_report(engine, asked.id)


def test_a_report_that_ends_its_keepers_is_given_up(
    engine: Engine, ground: Any, lines: dict[str, Any]
) -> None:
    """After three lost keepers it has failed, and says so."""
    asked = ground.ask(lines["test"], start=HOUR, end=END)
    with Session(engine) as session, session.begin():
        for _ in range(commands.MOST_ATTEMPTS):
            assert commands.take_up(session, asked.id) is not None
    assert not make_report(engine, asked.id)
    found = state_of(engine, asked.id)
    assert (found.state, found.progress) == ("failed", "")
    assert found.error == "its keeper was lost 3 times while it was being made"


def test_why_there_is_no_file_is_kept(engine: Engine, ground: Any, lines: dict[str, Any]) -> None:
    """A failed printing is the report's reason; asking for the file tells it."""
    asked = ground.ask(lines["test"], start=HOUR, end=END)
    assert not make_report(engine, asked.id, limits=Limits(largest=100))
    found = state_of(engine, asked.id)
    assert (found.state, found.error) == ("failed", "the PDF would have more than 0 MiB")
    with Session(engine) as session, pytest.raises(ConflictError, match="it failed: the PDF would have more"):
        reports.read_file(session, asked.id)


def test_a_killed_keeper_s_report_is_made_by_another(
    engine: Engine, settings: Settings, ground: Any, lines: dict[str, Any], tmp_path: Path
) -> None:
    """Killed while its child prints: the child ends too, the task is rescued, and the report is made."""
    keepers = Keepers(settings, tmp_path / "keepers.log")
    try:
        first = keepers.start()
        asked = ground.ask(lines["test"], start=HOUR, end=END)
        wait_for(lambda: printing(first.pid), seconds=30, what="printing")
        (child,) = printing(first.pid)
        first.send_signal(signal.SIGKILL)
        first.wait(10)
        wait_for(lambda: is_over(child), seconds=5, what="the end of the dead keeper's child")
        assert state_of(engine, asked.id).state == "working"
        keepers.start()
        wait_for(lambda: not state_of(engine, asked.id).pending, seconds=60, what="the report's end")
        made = state_of(engine, asked.id)
        assert made.state == "ready", (made.error, keepers.log())
        with engine.connect() as connection:
            assert connection.execute(text("SELECT attempt FROM reports")).scalar_one() == 2
    except BaseException:
        with engine.connect() as connection:
            tasks = connection.execute(text("SELECT * FROM procrastinate_jobs")).mappings().all()
        sys.stderr.write(f"{state_of(engine, asked.id)}\n{tasks}\n{keepers.log()}\n")
        raise
    finally:
        keepers.end()


def is_over(process: psutil.Process) -> bool:
    """Whether a process does nothing any more; somebody may still have to reap it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


def printing(parent: int) -> list[psutil.Process]:
    """Return the children of a keeper that print."""
    found = []
    for process in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "controller.reports.render" in process.cmdline():
                found.append(process)
    return found


def test_old_reports_are_pruned(engine: Engine, ground: Any, lines: dict[str, Any]) -> None:
    """After its thirty days a report and its file are gone."""
    kept, old = (ground.ask(lines["test"], start=HOUR, end=END) for _ in range(2))
    assert kept.expires_at - kept.created_at > dt.timedelta(days=29)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE reports SET expires_at = now() - interval '1 s' WHERE id = :id"), {"id": old.id}
        )
    assert prune(engine)["reports"] == 1
    assert state_of(engine, kept.id).state == "waiting"
