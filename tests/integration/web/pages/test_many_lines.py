"""Tests with more lines, and fleets with more workers, than a page shows: what is not shown is not read."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event, update
from support.statements import heard

from controller.store.entities import Job
from web.pages import accounts
from web.pages import tests as page_of_test
from web.pages.charts import MOST_LINES, milliseconds

COUNT = MOST_LINES + 10


@pytest.fixture
def many(rows: Any) -> tuple[int, int, list[Any]]:
    """A trace from many workers to a destination, and no longer from the first of them, with a run of each."""
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Way", "traceroute", interval_s=60, destinations=[place])
    workers = [rows.worker(f"edge-{number:02}") for number in range(COUNT)]
    jobs = [rows.job(test, worker, place) for worker in workers]
    now = dt.datetime.now(dt.UTC)
    for job in jobs:
        rows.run(job, now - dt.timedelta(minutes=2), rtt_avg_ms=5.0)
    rows.execute(update(Job).where(Job.id == jobs[0]).values(retired_at=now))
    return test, place, workers


@contextmanager
def counted() -> Iterator[list[int]]:
    """Yield how many rows each statement of the block gives."""
    found: list[int] = []

    def note(_connection: Any, cursor: Any, *_: Any) -> None:
        found.append(cursor.rowcount)

    event.listen(Engine, "after_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(Engine, "after_cursor_execute", note)


def span() -> dict[str, int]:
    """Return the last five minutes as pages ask for them."""
    now = dt.datetime.now(dt.UTC)
    return {"from": milliseconds(now - dt.timedelta(minutes=5)), "to": milliseconds(now)}


def test_a_chart_reads_the_lines_that_it_draws(viewer: Any, many: Any) -> None:
    """All are counted, and one that has left the test comes behind the others; a pair is found wherever it stands."""
    test, place, workers = many

    def chart(**pair: Any) -> Any:
        query = {**span(), "metrics": "rtt_avg_ms", **pair}
        return viewer.client.get(f"/tests/{test}/chart.json", query_string=query).get_json()

    with counted() as given:
        found = chart()
    assert (found["lines"], len(found["series"])) == (COUNT, MOST_LINES)
    assert [each["label"] for each in found["series"][:2]] == ["edge-01 → Router", "edge-02 → Router"]
    assert max(given) == MOST_LINES
    for number, label in (
        (COUNT - 1, f"edge-{COUNT - 1} → Router"),
        (0, "edge-00 → Router (no longer part of the test)"),
    ):
        found = chart(worker=workers[number], destination=place)
        assert [each["label"] for each in found["series"]] == [label]
    for pair in ({"worker": "x"}, {"destination": 0}, {"destination": 10**20}, {"worker": place}):
        assert (chart(**pair)["lines"], chart(**pair)["series"]) == (0, []), pair


def test_a_page_reads_the_pairs_that_it_offers(
    viewer: Any, many: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of them; how many there are is said, and each has its rows."""
    test, place, workers = many
    monkeypatch.setattr(page_of_test, "MOST_CHOICES", 16)
    with counted() as given:
        page = viewer.get(f"/tests/{test}")
    offered = [f'value="{worker} {place}"' in page for worker in workers]
    assert offered == [False, *[True] * 16, *[False] * (COUNT - 17)]
    assert f"16 of {COUNT} pairs" in page
    assert max(given) == 16
    query = {**span(), "child": "hops", "metrics": "rtt_avg_ms"}
    for asked, label in (("", "edge-01 → Router"), (f"{workers[-1]} {place}", f"edge-{COUNT - 1} → Router")):
        with counted() as given:
            answer = viewer.client.get(f"/tests/{test}/rows.json", query_string={**query, "line": asked})
        assert answer.get_json()["line"] == label
        assert max(given) == 1
    for asked in (str(workers[1]), f"{workers[1]} 4711", f"{workers[1]} {10**20}", "x y", " "):
        answer = viewer.client.get(f"/tests/{test}/rows.json", query_string={**query, "line": asked})
        assert answer.status_code == 422, asked


def test_accounts_read_the_jobs_that_they_count(
    viewer: Any, many: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first by name, those that are retired last; how many are left out is said."""
    test, _, _ = many
    monkeypatch.setattr(accounts, "_MOST_LINES", 7)
    with counted() as given:
        page = viewer.get(f"/tests/{test}/accounts")
    assert [name in page for name in ("edge-00", "edge-01", "edge-07", "edge-08")] == [
        False,
        True,
        True,
        False,
    ]
    assert f"These are 7\u00a0lines of {COUNT}" in page
    assert max(given) == 7


def test_the_form_of_a_test_reads_of_workers_what_it_shows(operator: Any, rows: Any) -> None:
    """Names, what they can be chosen by, and which of them cannot run the kind; nothing of what they are like."""
    kinds = {"ping": {"available": False, "reason": "no raw sockets", "mend": ""}}
    rows.worker("ams", site="north", groups=["edge"], labels={"rack": "r1"})
    rows.worker("ber", kinds=kinds)
    rows.worker("cph", kinds={})
    with heard(Engine) as asked:
        page = operator.get("/tests/new?kind=ping")
    assert page.count("is unavailable there") == 1
    assert re.search(r"<span>ber<small> *Ping is unavailable there", page)
    for value in ("north", "edge", "rack=r1"):
        assert f'value="{value}"' in page
    of_workers = [statement for statement, _ in asked if "FROM workers" in statement]
    assert len(of_workers) == 1
    assert "facts" not in of_workers[0]
