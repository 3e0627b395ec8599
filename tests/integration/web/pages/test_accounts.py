"""Where every run of a test is, as its page of accounts tells it."""

from __future__ import annotations

import datetime as dt
import html
import re
from collections.abc import Callable

import pytest
from sqlalchemy import insert, update
from sqlalchemy.orm import Session

from controller.store.entities import Job, JobVersion, OverdueJob
from controller.store.entities.upkeep import RAW, Expiry
from streamswarm.v1 import probe_pb2

MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def line(rows) -> Callable[..., int]:
    """Make a line of a test, every minute since thirty minutes ago, with a run of each status given.

    All lines of a test are of the same minute, however long it takes to make them.
    """
    now = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0)

    def make(test: int, worker: str, place: int, *statuses: int) -> int:
        job = rows.job(test, rows.worker(worker), place)
        rows.execute(update(Job).where(Job.id == job).values(interval_us=60_000_000))
        with Session(rows.engine) as session, session.begin():
            made = session.get_one(Job, job)
            session.add(
                JobVersion(
                    job_id=job,
                    version=made.version,
                    valid_from=now - 30 * MINUTE,
                    interval_us=made.interval_us,
                    anchor_us=made.anchor_us,
                )
            )
        for number, status in enumerate(statuses, 3):
            rows.run(job, now - number * MINUTE, status=status)
        return job

    return make


def cells(page: str, worker: str) -> dict[str, str]:
    """Return what stands in a worker's row by what it is called."""
    row = next(row for row in page.split("<tr>") if f">{worker}</" in row)
    found = re.findall(r'data-label="([^"]+)">(.*?)</td>', row, re.DOTALL)
    return {name: re.sub(r"<[^>]+>", "", value) for name, value in found}


def test_every_run_is_accounted_for(viewer, rows, line) -> None:
    """By worker and destination, and all lines together; a share is 100 % only when it is exactly that."""
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Alpha", "tcp", destinations=[place], interval_s=60)
    ok, failed = probe_pb2.STATUS_OK, probe_pb2.STATUS_FAILED
    error, missed = probe_pb2.STATUS_ERROR, probe_pb2.STATUS_MISSED
    line(test, "edge-1", place, *[ok] * 10, failed, failed, error, missed)
    overdue = line(test, "edge-2", place, ok)
    rows.execute(insert(OverdueJob).values(job_id=overdue, due_at=dt.datetime.now(dt.UTC) - 4 * MINUTE))
    page = viewer.get(f"/tests/{test}/accounts")
    first = cells(page, "edge-1")
    expected = int(first["Expected"])
    assert expected in (28, 29, 30)
    share = f"{100 * 12 / expected:.1f}".removesuffix(".0")
    assert first == {
        "Expected": str(expected), "Ok": "10", "Failed": "2", "Not measured": "1", "Missed": "1",
        "Not delivered": str(expected - 14), "Coverage": f"{share}\u00a0%", "Overdue since": "\N{EN DASH}",
    }  # fmt: skip
    assert cells(page, "edge-2")["Overdue since"] == "4\u00a0min ago"
    total = page.partition("<tfoot>")[2]
    assert f'data-label="Expected">{2 * expected}</td>' in total
    assert f'data-label="Not delivered"><strong>{2 * expected - 15}</strong></td>' in total
    assert "have expired" not in page
    assert f'href="/tests/{test}/accounts"' in viewer.get(f"/tests/{test}")


def test_the_range_can_be_chosen(viewer, rows, line) -> None:
    """A day unless told otherwise, or told nonsense."""
    test = rows.test("Alpha", "tcp", destinations=[rows.destination("Router", "192.0.2.1")], interval_s=60)
    for query, word in (("", "24 h"), ("?range=604800", "7 d"), ("?range=5", "24 h"), ("?range=x", "24 h")):
        page = viewer.get(f"/tests/{test}/accounts{query}")
        assert re.findall(r'aria-current="true">([^<]+)</a></?', page) == [word]
    assert viewer.client.get("/tests/99/accounts").status_code == 404


def test_what_has_expired_is_told_as_not_counted(viewer, rows, line) -> None:
    """From when on it is counted; nothing at all when the whole range has expired."""
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Alpha", "tcp", destinations=[place], interval_s=60)
    line(test, "edge-1", place, *[probe_pb2.STATUS_OK] * 5)
    gone = dt.datetime.now(dt.UTC) - 10 * MINUTE
    rows.execute(insert(Expiry).values(kind="tcp", layer=RAW, gone_before=gone))
    page = viewer.get(f"/tests/{test}/accounts")
    assert re.search(r"Results due before <time [^>]+>10\u00a0min ago</time> have expired", page)
    assert int(cells(page, "edge-1")["Expected"]) in (8, 9, 10)
    rows.execute(update(Expiry).values(gone_before=dt.datetime.now(dt.UTC)))
    page = viewer.get(f"/tests/{test}/accounts")
    assert "All results of this range have expired" in page
    assert cells(page, "edge-1")["Expected"] == "0"


def test_a_page_counts_no_more_than_can_be_waited_for(viewer, rows, line) -> None:
    """Fewer lines where there were more runs, live ones first; the page says how many it leaves out."""
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Alpha", "tcp", destinations=[place], interval_s=60)
    ended = line(test, "edge-0", place)
    rows.execute(update(Job).where(Job.id == ended).values(retired_at=dt.datetime.now(dt.UTC)))
    jobs = [ended, line(test, "edge-1", place), line(test, "edge-2", place)]
    # It runs once a minute now, and ran each second until half an hour ago.
    begun = dt.datetime.now(dt.UTC) - dt.timedelta(days=31)
    for job in jobs:
        before = {"job_id": job, "version": 0, "interval_us": 1_000_000, "anchor_us": 0}
        until = dt.datetime.now(dt.UTC) - 30 * MINUTE
        rows.execute(insert(JobVersion).values(**before, valid_from=begun, valid_until=until))
    assert "ended" in viewer.get(f"/tests/{test}/accounts?range=604800")
    page = viewer.get(f"/tests/{test}/accounts?range=2592000")
    assert "These are 1\u00a0line of 3" in page
    assert ">edge-1</a>" in page
    assert ">edge-0</a>" not in page
    # The API is asked for the same range, and says what is said of it: too many, and where the range can begin.
    link = re.search(
        r'href="([^"]+)">the API</a> has all where no more than 5\u202f000\u202f000 runs were due', page
    )
    assert link
    refused = viewer.client.get(html.unescape(link[1]))
    assert refused.status_code == 422
    assert "a range from" in refused.json["errors"][0]["message"]


def test_without_runs_it_says_why(viewer, rows) -> None:
    """Nobody runs it, or its runs are tests of their own."""
    place = rows.destination("Router", "192.0.2.1")
    idle = rows.test("Alpha", "tcp", destinations=[place])
    origin = rows.test("Nightly", "tcp", destinations=[place], interval_s=3600, recurrence="new_test")
    assert "No runs to account for" in viewer.get(f"/tests/{idle}/accounts")
    assert "Each run is a test of its own" in viewer.get(f"/tests/{origin}/accounts")
