"""Events: which runs saw a path change, as the API, the charts and the pages tell; and the page of one run."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import delete, insert, update
from sqlalchemy.orm import Session

from controller.store import results, rollups
from controller.store.entities import DirtyBucket, Expiry
from controller.store.queries import events
from controller.store.queries.events import EventRecord
from controller.store.rollups import DAY, FIVE_MINUTES, HOUR, rolling
from web.pages.formatting import to_microseconds

A, B = 0xAAAA_BBBB_CCCC, 0x1111_2222_3333
#: Midnight, the day before yesterday.
LONG_AGO = rollups.floor(dt.datetime.now(dt.UTC), DAY.width) - 2 * DAY.width


@pytest.fixture
def begin() -> dt.datetime:
    """An instant on a whole minute, ten minutes ago."""
    return dt.datetime.now(dt.UTC).replace(second=0, microsecond=0) - dt.timedelta(minutes=10)


@pytest.fixture
def traced(rows, begin) -> tuple[int, int, int]:
    """A traceroute test with two jobs: the first changes its path twice, the second's only seems to."""
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Way", "traceroute", interval_s=60, destinations=[place])
    first, second = (rows.job(test, rows.worker(name), place) for name in ("edge-1", "edge-2"))
    for minute, (path_hash, changed) in enumerate(
        [
            (A, None),  # the first of all
            (A, False),
            (B, True),
            (None, None),  # no hop answered
            (A, False),  # a hop was silent: another hash, no change
            (B, True),
            (B, False),
        ]
    ):
        rows.run(first, begin + dt.timedelta(minutes=minute), path_hash=path_hash, path_changed=changed)
        # Its worker begins anew each time, and at times a hop is silent.
        rows.run(
            second, begin + dt.timedelta(minutes=minute), path_hash=(A, B)[minute % 2], path_changed=None
        )
    return test, first, second


def ask(operator, test: int, **query: str) -> list[dict[str, object]]:
    answer = operator.client.get(f"/api/v1/tests/{test}/events", query_string=query)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return answer.get_json()["items"]


def test_the_api_tells_which_runs_saw_another_path(operator, traced, begin) -> None:
    """By the run's own word, with the hash of the run before it; newest first."""
    test, first, _second = traced
    found = ask(operator, test)
    minute = dt.timedelta(minutes=1)
    assert [(event["scheduled_at"], event["before"], event["after"]) for event in found] == [
        ((begin + 5 * minute).isoformat().replace("+00:00", "Z"), A, B),
        ((begin + 2 * minute).isoformat().replace("+00:00", "Z"), A, B),
    ]
    assert {(event["event"], event["metric"], event["worker"], event["job_id"]) for event in found} == {
        ("Path changed", "path_hash", "edge-1", first)
    }


def test_the_first_run_of_a_range_is_compared_with_the_one_before(operator, traced, begin) -> None:
    """A range's edge hides no change, and its end is not in it."""
    test = traced[0]
    at = begin + dt.timedelta(minutes=5)
    inside = {"from": at.isoformat(), "to": (at + dt.timedelta(seconds=1)).isoformat()}
    assert len(ask(operator, test, **inside)) == 1
    before = {"from": (at - dt.timedelta(seconds=1)).isoformat(), "to": at.isoformat()}
    assert ask(operator, test, **before) == []


def test_events_can_be_asked_of_one_worker(operator, traced) -> None:
    """The second worker's path never changed; a destination that has none gives none."""
    test = traced[0]
    (worker, *_) = {event["worker_id"] for event in ask(operator, test)}
    assert len(ask(operator, test, worker=worker)) == 2
    assert ask(operator, test, destination="4711") == []


def test_kinds_without_events_have_none(operator, rows, begin) -> None:
    """A ping has no path of its own."""
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Alpha", "ping", destinations=[place])
    rows.run(rows.job(test, rows.worker("edge-1"), place), begin, rtt_avg_ms=1.0)
    assert ask(operator, test) == []


def test_charts_get_the_events_of_each_line(operator, traced, begin) -> None:
    """In the order of time; the page says what the mark means, and the list of runs names the event."""
    test = traced[0]
    query = {"from": to_microseconds(begin) // 1000, "to": to_microseconds(begin) // 1000 + 3_600_000}
    data = operator.client.get(f"/tests/{test}/chart.json", query_string=query).get_json()
    marks = {series["label"]: series["events"] for series in data["series"]}
    start = to_microseconds(begin) // 1000
    assert marks == {
        "edge-1 → Router": [
            {"t": start + 120_000, "event": "Path changed"},
            {"t": start + 300_000, "event": "Path changed"},
        ],
        "edge-2 → Router": [],
    }
    page = operator.client.get(f"/tests/{test}").get_data(as_text=True)
    assert '<i class="event"></i>path changed' in page
    assert page.count('<span class="tag">Path changed</span>') == 2


def test_a_run_has_a_page_with_its_histogram(operator, rows, begin) -> None:
    """All that was measured, steps with counts, the rest of the detail as it is; the list of runs leads there."""
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Alpha", "ping", destinations=[place])
    job = rows.job(test, rows.worker("edge-1"), place)
    detail = {"address": "192.0.2.1", "rtt_histogram": {"0.8": 15, "1.6": 4, "inf": 1}}
    rows.run(job, begin, rtt_avg_ms=1.25, p95_p50_ms=0.5, kernel_timestamps=True, detail=detail)
    path = f"/tests/{test}/jobs/{job}/runs/{to_microseconds(begin)}"
    assert f'href="{path}"' in operator.client.get(f"/tests/{test}").get_data(as_text=True)
    answer = operator.client.get(path)
    assert answer.status_code == 200
    page = answer.get_data(as_text=True)
    assert "Histogram of RTT" in page
    assert '<meter min="0" max="15" value="4">4</meter>' in page
    assert "RTT 95th percentile less median" in page
    assert "Loss periods" not in page, "what was not measured is not shown"
    assert "&#34;address&#34;: &#34;192.0.2.1&#34;" in page
    assert "rtt_histogram" not in page


@pytest.mark.parametrize(
    "odd",
    [{"x_histogram": "abc"}, {"x_histogram": {"a": 1}}, {"rtt_histogram": {"1": None}}, {"y_histogram": [1]}],
)
def test_a_detail_that_is_no_histogram_is_shown_as_it_is(
    operator, rows, begin, odd: dict[str, object]
) -> None:
    """The detail is the worker's, whatever it wrote there."""
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Alpha", "ping", destinations=[place])
    job = rows.job(test, rows.worker("edge-1"), place)
    rows.run(job, begin, rtt_avg_ms=1.25, detail=odd)
    answer = operator.client.get(f"/tests/{test}/jobs/{job}/runs/{to_microseconds(begin)}")
    assert answer.status_code == 200
    page = answer.get_data(as_text=True)
    assert next(iter(odd)) in page
    assert "Histogram of" not in page


@pytest.mark.parametrize(
    "odd", [{"RTT_histogram": {"1": 2}}, {"\u00df_histogram": {"1": 2}}, {"x_histogram": {"1": 10**400}}]
)
def test_a_histogram_of_any_name_and_size_is_drawn(operator, rows, begin, odd: dict[str, object]) -> None:
    """Names in capitals or with letters that have no capital of their own; counts that no double holds."""
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Alpha", "ping", destinations=[place])
    job = rows.job(test, rows.worker("edge-1"), place)
    rows.run(job, begin, rtt_avg_ms=1.25, detail=odd)
    answer = operator.client.get(f"/tests/{test}/jobs/{job}/runs/{to_microseconds(begin)}")
    assert answer.status_code == 200
    assert "Histogram of" in answer.get_data(as_text=True)


def test_the_page_of_a_traceroute_shows_its_hops(operator, traced, begin) -> None:
    """Runs without rows and without detail have a page too."""
    test, first, _second = traced
    page = operator.client.get(f"/tests/{test}/jobs/{first}/runs/{to_microseconds(begin)}")
    assert page.status_code == 200
    assert "Path hash" in page.get_data(as_text=True)


@pytest.mark.parametrize("instant", ["1", str(2**62)])
def test_a_run_that_is_not_there_has_no_page(operator, traced, instant: str) -> None:
    """A styled 404, also for instants beyond the calendar and for jobs of other tests."""
    test, first, _second = traced
    assert operator.client.get(f"/tests/{test}/jobs/{first}/runs/{instant}").status_code == 404
    assert operator.client.get(f"/tests/{test}/jobs/4711/runs/1").status_code == 404


def test_the_api_gives_events_in_pages(operator, traced) -> None:
    """One after the other, none twice; a cursor that is none of ours is refused."""
    test = traced[0]
    pages = []
    query = {"limit": "1"}
    while True:
        answer = operator.client.get(f"/api/v1/tests/{test}/events", query_string=query).get_json()
        pages.append(answer["items"])
        if answer["next_cursor"] is None:
            break
        query["cursor"] = answer["next_cursor"]
    assert [len(page) for page in pages] == [1, 1]
    assert [event for page in pages for event in page] == ask(operator, test)
    odd = operator.client.get(f"/api/v1/tests/{test}/events", query_string={"cursor": "MTIz"})
    assert odd.status_code == 422


def test_charts_say_from_when_on_events_are_marked(operator, traced, begin, monkeypatch) -> None:
    """When there are more than one answer holds; otherwise they are all."""
    test = traced[0]
    start = to_microseconds(begin) // 1000
    query = {"from": start, "to": start + 3_600_000}
    path = f"/tests/{test}/chart.json"
    assert operator.client.get(path, query_string=query).get_json()["events_from"] is None
    monkeypatch.setattr(events.find, "__kwdefaults__", {**events.find.__kwdefaults__, "limit": 1})
    data = operator.client.get(path, query_string=query).get_json()
    assert data["events_from"] == start + 300_000
    assert [event["t"] for series in data["series"] for event in series["events"]] == [start + 300_000]


@pytest.fixture
def long_ago(rows) -> tuple[int, list[int], set[tuple[int, dt.datetime]]]:
    """A test with two jobs that ran every ten minutes for 30 hours until yesterday, and what they saw."""
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Way", "traceroute", interval_s=600, destinations=[place])
    jobs = [rows.job(test, rows.worker(name), place) for name in ("edge-1", "edge-2")]
    chance = random.Random(5)
    seen = set()
    with rows.engine.begin() as connection:
        for number in range(180):
            at = LONG_AGO + number * dt.timedelta(minutes=10)
            for job in jobs:
                changed = chance.random() < 0.1
                if changed:
                    seen.add((job, at))
                values = {
                    "job_id": job,
                    "scheduled_at": at,
                    "started_at": at,
                    "duration_ms": 1.0,
                    "job_version": 1,
                }
                values |= {"status": 1, "failure_source": 0, "path_hash": number, "path_changed": changed}
                connection.execute(insert(results.table("traceroute")).values(values))
    return test, jobs, seen


def found(rows, test: int, start: dt.datetime, end: dt.datetime, **more: Any) -> list[EventRecord]:
    """Return the events of a range, by as many answers as it takes."""
    told: list[EventRecord] = []
    cursor = None
    with Session(rows.engine) as session:
        while True:
            answer = events.find(session, test, "traceroute", start=start, end=end, cursor=cursor, **more)
            told += answer.items
            cursor = answer.next_cursor
            if cursor is None:
                return told


@pytest.mark.parametrize("limit", [1, 7, 500])
def test_events_of_rolled_up_hours_are_those_of_the_results(rows, long_ago, limit: int) -> None:
    """All of them, once, in order; at the edges of the range too, and of an hour whose late results wait."""
    test, (job, _), seen = long_ago
    rolling.roll_up(rows.engine, "traceroute")
    late = LONG_AGO + dt.timedelta(hours=3, minutes=5)
    rows.run(job, late, path_hash=1, path_changed=True)
    mark = {"kind": "traceroute", "job_id": job, "bucket": rollups.floor(late, FIVE_MINUTES.width)}
    rows.execute(insert(DirtyBucket).values(mark))
    seen.add((job, late))
    for start, end in (
        (LONG_AGO, LONG_AGO + 2 * DAY.width),
        (LONG_AGO + dt.timedelta(minutes=50), LONG_AGO + dt.timedelta(hours=20, minutes=20)),
        (late, late + dt.timedelta(microseconds=1)),
    ):
        told = found(rows, test, start, end, limit=limit)
        expected = {(job_id, at) for job_id, at in seen if start <= at < end}
        assert [(event.scheduled_at, event.job_id) for event in told] == sorted(
            ((at, job_id) for job_id, at in expected), reverse=True
        )
        assert {(event.within_s, event.count) for event in told} <= {(None, 1)}


def test_hours_without_events_are_not_read(rows, long_ago) -> None:
    """Results in hours of which the roll-ups tell none are left alone, however many there are."""
    test, _, seen = long_ago
    rolling.roll_up(rows.engine, "traceroute")
    hours = {(job, rollups.floor(at, HOUR.width)) for job, at in seen}
    table = results.table("traceroute")
    for job, hour in {
        (job, LONG_AGO + number * HOUR.width) for job, _ in seen for number in range(30)
    } - hours:
        # A wrong word there would be found by whoever reads it.
        rows.execute(
            update(table)
            .where(
                table.c.job_id == job, table.c.scheduled_at >= hour, table.c.scheduled_at < hour + HOUR.width
            )
            .values(path_changed=True)
        )
    told = found(rows, test, LONG_AGO, LONG_AGO + 2 * DAY.width)
    assert {(event.job_id, event.scheduled_at) for event in told} == seen


def test_where_results_have_expired_the_roll_ups_tell(operator, rows, long_ago) -> None:
    """In which hour, and how often; before the hours' own end, in which day. Charts and the API say so."""
    test, _, seen = long_ago
    rolling.roll_up(rows.engine, "traceroute")
    table = results.table("traceroute")
    next_day = LONG_AGO + DAY.width
    rows.execute(delete(table).where(table.c.scheduled_at < next_day))
    rows.execute(insert(Expiry).values(kind="traceroute", layer="raw", gone_before=next_day))

    def counted(width: dt.timedelta) -> dict[tuple[int, dt.datetime], int]:
        return Counter((job, rollups.floor(at, width)) for job, at in seen if at < next_day)

    told = found(rows, test, LONG_AGO, LONG_AGO + 2 * DAY.width, limit=5)
    kept = {(event.job_id, event.scheduled_at) for event in told if event.within_s is None}
    assert kept == {(job, at) for job, at in seen if at >= next_day}
    hours = {(event.job_id, event.scheduled_at): event.count for event in told if event.within_s == 3600}
    assert hours == counted(HOUR.width)
    assert [event.scheduled_at for event in told] == sorted(
        (event.scheduled_at for event in told), reverse=True
    )

    rows.execute(insert(Expiry).values(kind="traceroute", layer=HOUR.name, gone_before=next_day))
    days = {
        (event.job_id, event.scheduled_at): event.count
        for event in found(rows, test, LONG_AGO, LONG_AGO + 2 * DAY.width)
        if event.within_s == 86_400
    }
    assert days == counted(DAY.width)
    span = {"from": LONG_AGO.isoformat(), "to": next_day.isoformat()}
    assert {(event["within_s"], event["count"]) for event in ask(operator, test, **span)} == {
        (86_400, count) for count in days.values()
    }
    query = {"from": to_microseconds(LONG_AGO) // 1000, "to": to_microseconds(next_day) // 1000}
    data = operator.client.get(f"/tests/{test}/chart.json", query_string=query).get_json()
    assert sorted(event["count"] for series in data["series"] for event in series["events"]) == sorted(
        days.values()
    )
