"""Events: which runs saw a path change, as the API, the charts and the pages tell; and the page of one run."""

from __future__ import annotations

import datetime as dt

import pytest

from web.pages.formatting import to_microseconds

A, B = 0xAAAA_BBBB_CCCC, 0x1111_2222_3333


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
