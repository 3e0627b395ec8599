"""How tests stand, which of them may be in trouble, and what the picture of the fleet shows."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, select, text, update
from sqlalchemy.orm import Session

from controller.store import partitions, results
from controller.store.entities import Destination, Drain, Job, OverdueJob, Process, Test, Worker
from controller.store.queries import glances, standings, suspects
from controller.store.queries.standings import Standing
from controller.store.queries.suspects import Suspects
from controller.store.queries.workers import lacks_kinds
from streamswarm.v1 import probe_pb2

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
OK, FAILED, ERROR, MISSED = (
    probe_pb2.STATUS_OK,
    probe_pb2.STATUS_FAILED,
    probe_pb2.STATUS_ERROR,
    probe_pb2.STATUS_MISSED,
)


class Book:
    """Writes tests, workers, jobs and their results."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        with Session(engine) as session, session.begin():
            gateway = Process(role="gateway", name="g", host_name="here", pid=1, version="0")
            gateway.heartbeat_at = func.now() + dt.timedelta(hours=1)
            place = Destination(name="target", address="192.0.2.1")
            session.add_all([gateway, place])
            session.flush()
            self.gateway_id, self.destination_id = gateway.id, place.id

    def test(self, name: str, **more: Any) -> int:
        """Add a test of kind `ping`."""
        return self._add(Test(**({"name": name, "kind": "ping", "spec": {}, "interval_s": 10} | more)))

    def worker(self, name: str, *, connected: bool = True, **more: Any) -> uuid.UUID:
        """Add a worker."""
        gateway_id = self.gateway_id if connected else None
        values = {"name": name, "host_name": name, "enrolled_at": func.now(), "gateway_id": gateway_id}
        return self._add(Worker(**(values | more)))

    def job(
        self, test_id: int, worker_id: uuid.UUID, *, one_shot: bool = False, retired: bool = False
    ) -> int:
        """Add a job."""
        return self._add(
            Job(
                test_id=test_id,
                worker_id=worker_id,
                destination_id=self.destination_id,
                kind="ping",
                target="192.0.2.1",
                spec={},
                interval_us=0 if one_shot else 10_000_000,
                anchor_us=0,
                one_shot=one_shot,
                retired_at=NOW if retired else None,
            )
        )

    def run(self, job_id: int, age_s: float, value: float | None = None, status: int = OK) -> None:
        """Add a run that was due so many seconds ago."""
        at = NOW - dt.timedelta(seconds=age_s)
        with self._engine.begin() as connection:
            partitions.ensure_partitions(connection, "ping", [at.date()])
            connection.execute(
                insert(results.table("ping")).values(
                    job_id=job_id,
                    scheduled_at=at,
                    started_at=at,
                    duration_ms=1.0,
                    job_version=1,
                    status=status,
                    failure_source=0,
                    rtt_avg_ms=value,
                )
            )

    def stand(self, *test_ids: int) -> dict[int, Standing]:
        """Return how tests stand."""
        with Session(self._engine) as session:
            return standings.read(session, {"ping": test_ids})

    def suspects(self, most: int = 10) -> Suspects:
        """Return the tests that may be in trouble."""
        with Session(self._engine) as session:
            return suspects.find(session, most=most)

    def execute(self, statement: Any) -> None:
        """Change rows directly."""
        with self._engine.begin() as connection:
            connection.execute(statement)

    def _add(self, row: Any) -> Any:
        with Session(self._engine) as session, session.begin():
            session.add(row)
            session.flush()
            return row.id


@pytest.fixture
def book(engine: Engine) -> Book:
    """A database with a gateway and a destination."""
    return Book(engine)


def test_a_test_stands_by_the_newest_run_of_each_line(book: Book) -> None:
    """Counted by how they ended; the value is the mean of those that measured one, so that others do not pull it to zero."""
    test, other, silent = book.test("a"), book.test("b"), book.test("c")
    jobs = [book.job(test, book.worker(f"w{number}")) for number in range(5)]
    for job, age_s, value, status in (
        (jobs[0], 20, 9.0, FAILED),
        (jobs[0], 5, 2.0, OK),
        (jobs[1], 6, 4.0, OK),
        (jobs[2], 7, None, FAILED),
        (jobs[3], 8, None, ERROR),
        (jobs[4], 9, None, MISSED),
    ):
        book.run(job, age_s, value, status)
    book.run(book.job(other, book.worker("x")), 3, 7.0)
    book.job(silent, book.worker("y"))
    found = book.stand(test, other, silent)
    newest = NOW - dt.timedelta(seconds=5)
    assert found == {
        test: Standing(last_at=newest, runs=5, failed=1, error=1, missed=1, value=3.0, measured=2),
        other: Standing(last_at=NOW - dt.timedelta(seconds=3), runs=1, value=7.0, measured=1),
    }


def test_a_line_stands_by_its_newest_run_however_it_came(book: Book) -> None:
    """That of a run-now too, or one of long ago; none of tomorrow, of a line that has left, or with a value that is none."""
    test = book.test("a")
    worker, gone, old = book.worker("w"), book.worker("gone"), book.worker("old")
    book.run(book.job(test, worker), 20, 1.0, FAILED)
    book.run(book.job(test, worker, one_shot=True, retired=True), 10, 3.0)
    book.run(book.job(test, gone, retired=True), 5, 100.0, FAILED)
    book.run(book.job(test, old), 40 * 86_400, 5.0, ERROR)
    spoilt, ahead = book.job(test, book.worker("spoilt")), book.job(test, book.worker("ahead"))
    book.run(spoilt, 15, math.nan)
    book.run(ahead, -80_000, 50.0, FAILED)
    found = book.stand(test)[test]
    assert (found.last_at, found.runs) == (NOW - dt.timedelta(seconds=10), 3)
    assert (found.failed, found.error, found.value, found.measured) == (0, 1, 4.0, 2)


def test_tests_are_suspected_by_what_tells_of_trouble(book: Book) -> None:
    """A newest run that ended badly, a job that is overdue, a worker without a session, no worker at all; not by anything else."""
    well = book.worker("well")
    names = ("fine", "mended", "failing", "overdue", "offline", "nobody", "paused", "once", "made", "drained")
    test = {
        name: book.test(name, paused=name == "paused", **({"interval_s": None} if name == "once" else {}))
        for name in names
    }
    jobs = {name: book.job(test[name], well) for name in ("fine", "mended", "failing", "overdue", "made")}
    book.execute(update(Test).where(Test.id == test["made"]).values(origin_id=test["fine"], origin_at=NOW))
    book.job(test["once"], well, one_shot=True, retired=True)
    book.job(test["offline"], book.worker("gone", connected=False))
    idle = book.worker("idle", connected=False)
    book.job(test["drained"], idle)
    book.execute(insert(Drain).values(worker_id=idle, made_by="user:ada"))
    for name in ("fine", "overdue"):
        book.run(jobs[name], 5, 1.0)
    for name in ("mended", "failing", "made"):
        book.run(jobs[name], 60, status=FAILED)
    book.run(jobs["mended"], 5, 1.0)
    book.execute(insert(OverdueJob).values(job_id=jobs["overdue"], due_at=NOW))
    found = tuple(test[name] for name in ("failing", "overdue", "offline", "nobody"))
    assert book.suspects() == Suspects(ids=found, more=False)
    assert book.suspects(most=1) == Suspects(ids=found, more=False)


def test_of_many_failing_tests_the_last_to_fail_are_suspected(book: Book) -> None:
    """As many of a sort as are asked for."""
    well = book.worker("well")
    tests = [book.test(f"t{number}") for number in range(4)]
    for number, test in enumerate(tests):
        book.run(book.job(test, well), 100 - number, status=MISSED)
    assert book.suspects(most=3) == Suspects(ids=(tests[3], tests[2], tests[1]), more=True)


@pytest.mark.parametrize("ages_s", [(30, 7_200), (7_200, 90_000), (90_000, 200_000), (200_000, 400_000)])
def test_the_newest_run_is_found_however_long_ago_it_was(book: Book, ages_s: tuple[float, float]) -> None:
    """Of two lines, one of which ran yesterday for the last time: in any partition, and never an older one of the same line."""
    test = book.test("a")
    jobs = [book.job(test, book.worker(f"w{number}")) for number in range(2)]
    for age_s, value in zip(ages_s, (2.0, 100.0), strict=True):
        book.run(jobs[0], age_s, value)
    book.run(jobs[1], 86_400, 4.0, FAILED)
    assert book.stand(test)[test] == Standing(
        last_at=NOW - dt.timedelta(seconds=min(ages_s[0], 86_400)), runs=2, failed=1, value=3.0, measured=2
    )


def test_workers_that_lack_a_kind_are_found_by_the_index(book: Book, engine: Engine) -> None:
    """It is of use only as long as its condition is that of the statement, to the letter."""
    del book
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        asked = select(Worker.id).where(lacks_kinds())
        statement = asked.compile(engine, compile_kwargs={"literal_binds": True})
        plan = connection.exec_driver_sql(f"EXPLAIN {statement}".replace("%", "%%")).scalars().all()
    assert "ix_workers_unavailable" in "\n".join(plan)


def test_the_fleet_at_a_glance(book: Book, engine: Engine) -> None:
    """The first workers by name, all of them counted, and those that somebody should look at; nobody waits for drained ones."""
    lame = {"ping": {"available": False, "reason": "no sockets"}, "dns": {"available": True}}
    sound = {"ping": {"available": True}, "dns": {"available": True}}
    book.worker("b lame", kinds=lame)
    book.worker("A sound", kinds=sound)
    book.worker("c gone", connected=False, kinds=sound)
    book.worker("d full", spool_alarm="the disk is full")
    book.worker("e cut", vantage_alarm="no carrier")
    book.worker("f off", clock_offset_ms=-6000.0)
    book.worker("g pending", connected=False, enrolled_at=None)
    book.worker("h revoked", connected=False, revoked_at=func.now(), kinds=lame)
    drained = book.worker("i drained", connected=False, kinds=lame)
    book.execute(insert(Drain).values(worker_id=drained, made_by="user:ada"))
    with Session(engine) as session:
        first = glances.first(session, limit=4)
        counted = glances.counted(session)
        in_need = glances.in_need(session, limit=10)
        fewer = glances.in_need(session, limit=2)
    assert [(worker.name, worker.look.state) for worker in first] == [
        ("A sound", "connected"),
        ("b lame", "connected"),
        ("c gone", "offline"),
        ("d full", "connected"),
    ]
    assert first[3].look.spool_alarm
    assert {(alike.look.state, alike.look.spool_alarm, alike.look.vantage_alarm): alike.count for alike in counted} == {
        ("connected", False, False): 3,
        ("connected", True, False): 1,
        ("connected", False, True): 1,
        ("offline", False, False): 1,
        ("pending", False, False): 1,
        ("revoked", False, False): 1,
        ("drained", False, False): 1,
    }  # fmt: skip
    assert [worker.name for worker in in_need] == ["b lame", "c gone", "d full", "e cut", "f off"]
    assert [worker.name for worker in fewer] == ["b lame", "c gone"]
