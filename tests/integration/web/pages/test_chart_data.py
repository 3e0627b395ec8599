"""The data of charts: runs as they are or buckets, failures counted, nothing invented where nothing was measured."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from sqlalchemy import update

from controller.store.entities import Job
from controller.store.rollups import rolling
from streamswarm.v1 import probe_pb2


def milliseconds(instant: dt.datetime) -> int:
    """Return an instant as pages name it."""
    return round(instant.timestamp() * 1000)


@pytest.fixture
def begin() -> dt.datetime:
    """An instant on a whole minute, an hour ago."""
    return dt.datetime.now(dt.UTC).replace(second=0, microsecond=0) - dt.timedelta(hours=1)


@pytest.fixture
def job(rows) -> tuple[int, int]:
    """A ping test and its job."""
    place = rows.destination("Router", "192.0.2.1")
    test = rows.test("Alpha", "ping", destinations=[place])
    return test, rows.job(test, rows.worker("edge-1"), place)


def ask(operator, test: int, start: dt.datetime, end: dt.datetime, metrics: str, **more: str) -> Any:
    """Ask as a page does."""
    query = {"from": milliseconds(start), "to": milliseconds(end), "metrics": metrics, **more}
    response = operator.client.get(f"/tests/{test}/chart.json", query_string=query)
    assert response.status_code == 200, response.get_data(as_text=True)
    return response.get_json()


def test_single_runs_come_as_they_are(operator, rows, job, begin) -> None:
    """Values, None where nothing was measured, and how each run ended; several metrics in one answer."""
    test, number = job
    rows.run(number, begin, rtt_avg_ms=10.5, packets_sent=5, kernel_timestamps=True)
    rows.run(number, begin + dt.timedelta(seconds=2), status=probe_pb2.STATUS_FAILED, packets_sent=5)
    rows.run(number, begin + dt.timedelta(seconds=4), status=probe_pb2.STATUS_MISSED)
    rows.run(number, begin + dt.timedelta(minutes=30), rtt_avg_ms=99.0)
    found = ask(
        operator, test, begin, begin + dt.timedelta(minutes=5), "rtt_avg_ms,packets_sent,kernel_timestamps"
    )
    assert found["step"] == 0
    (series,) = found["series"]
    assert series["label"] == "edge-1 → Router"
    assert series["gaps"] == []
    assert series["t"] == [milliseconds(begin) + offset for offset in (0, 2000, 4000)]
    assert series["metrics"]["rtt_avg_ms"] == {"mean": [10.5, None, None]}
    assert series["metrics"]["packets_sent"] == {"mean": [5.0, 5.0, None]}
    assert series["metrics"]["kernel_timestamps"] == {"mean": [1.0, None, None]}
    assert (series["failed"], series["error"], series["missed"]) == ([0, 1, 0], [0, 0, 0], [0, 0, 1])


def test_many_runs_come_in_buckets(operator, rows, job, begin) -> None:
    """Mean, extremes and counts of each bucket; a bucket without runs is not there."""
    test, number = job
    for index in range(600):
        if not 200 <= index < 300:
            failed = index % 50 == 0
            rows.run(
                number,
                begin + dt.timedelta(seconds=index * 2),
                status=probe_pb2.STATUS_FAILED if failed else probe_pb2.STATUS_OK,
                rtt_avg_ms=None if failed else float(index % 10),
            )
    span = dt.timedelta(minutes=50)
    found = ask(operator, test, begin, begin + span, "rtt_avg_ms", step="")
    assert found["step"] == 0, "500 runs are few enough"
    rows.run(number, begin + dt.timedelta(seconds=1201), rtt_avg_ms=500.0)
    found = ask(operator, test, begin, begin + span, "rtt_avg_ms")
    assert found["step"] == 10000
    (series,) = found["series"]
    assert len(series["t"]) <= 500
    band = series["metrics"]["rtt_avg_ms"]
    assert len(band["mean"]) == len(band["low"]) == len(band["high"]) == len(series["t"])
    assert max(band["high"]) == 500.0
    assert min(value for value in band["low"] if value is not None) == 0.0
    assert sum(series["failed"]) == 10
    silent = range(milliseconds(begin) + 400_000, milliseconds(begin) + 600_000)
    assert not [at for at in series["t"] if at in silent]


def test_the_newest_runs_can_be_had_singly(operator, rows, job, begin) -> None:
    """A page that only lacks the newest runs gets runs, not buckets."""
    test, number = job
    rows.run(number, begin, rtt_avg_ms=1.0)
    found = ask(operator, test, begin, begin + dt.timedelta(days=300), "rtt_avg_ms", step="0")
    assert found["step"] == 0
    assert found["series"][0]["metrics"]["rtt_avg_ms"]["mean"] == [1.0]


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"from": "1", "to": "1"},
        {"from": "9" * 30, "to": "1"},
        {"from": "-5", "to": "1"},
        {"from": "0", "to": "1", "metrics": "rtt_avg_ms,password_hash"},
        {"from": "0", "to": "1", "metrics": "scheduled_at"},
    ],
)
def test_nonsense_is_refused(operator, job, query) -> None:
    """Instants that are none and metrics that the kind lacks are answered 422, never by a fault."""
    response = operator.client.get(f"/tests/{job[0]}/chart.json", query_string=query)
    assert response.status_code == 422


def test_gaps_are_those_of_the_schedule_at_the_time(operator, rows, job, begin) -> None:
    """From every 2 s to every 10 min, of single runs and of buckets: what lacks is told, what was not due is a rest."""
    test, number = job
    hour = begin.replace(minute=0) - dt.timedelta(hours=1)
    changed = hour + dt.timedelta(minutes=10)
    rows.version(number, 1, hour, interval_us=2_000_000)
    rows.version(number, 2, changed, interval_us=600_000_000, paused=True)
    rows.version(number, 3, hour + dt.timedelta(minutes=30), interval_us=600_000_000)
    for index in range(300):
        if not 100 <= index < 130:
            rows.run(number, hour + dt.timedelta(seconds=index * 2), rtt_avg_ms=1.0)
    for minute in (30, 50):
        rows.run(number, hour + dt.timedelta(minutes=minute), rtt_avg_ms=2.0, version=3)
    span = (hour - dt.timedelta(minutes=1), hour + dt.timedelta(minutes=55))

    def gaps(found: Any) -> list[tuple[float, float, bool]]:
        (series,) = found["series"]
        start = milliseconds(hour)
        return [
            ((gap["from"] - start) / 60_000, (gap["to"] - start) / 60_000, gap["missing"])
            for gap in series["gaps"]
        ]

    single = ask(operator, test, *span, "rtt_avg_ms")
    assert single["step"] == 0
    lacking = (200 / 60, 260 / 60, True)
    assert gaps(single) == [(-1, 0, False), lacking, (10, 30, False), (40, 50, True)]
    for index in range(300):
        rows.run(number, hour + dt.timedelta(seconds=index * 2 + 1), rtt_avg_ms=1.0)
    buckets = ask(operator, test, *span, "rtt_avg_ms")
    assert buckets["step"] == 10_000
    assert (40, 50, True) in gaps(buckets)
    assert [gap for gap in gaps(buckets) if gap[2] and gap[0] < 30] == []


def test_buckets_of_many_lines_come_at_once(operator, rows, engine, job, begin) -> None:
    """Each line has its own, of all its jobs, whatever is rolled up of them; one without runs has no points."""
    test, number = job
    hour = begin.replace(minute=0) - dt.timedelta(hours=2)
    edge, place = rows.worker("edge-2"), rows.destination("Other", "192.0.2.2")
    twice = rows.job(test, edge, place)
    rows.job(test, rows.worker("edge-3"), place)
    shot = rows.job(rows.test("Shot", "ping", destinations=[place]), edge, place)
    rows.execute(update(Job).where(Job.id == shot).values(test_id=test, one_shot=True, retired_at=begin))
    for index in range(600):
        rows.run(number, hour + dt.timedelta(seconds=index * 10), rtt_avg_ms=float(index % 4))
    rows.run(twice, hour, rtt_avg_ms=10.0)
    rows.run(twice, hour + dt.timedelta(minutes=100), status=probe_pb2.STATUS_ERROR)
    rows.run(shot, hour + dt.timedelta(seconds=2), rtt_avg_ms=30.0)
    span = (hour - dt.timedelta(hours=20), hour + dt.timedelta(hours=2))
    before = ask(operator, test, *span, "rtt_avg_ms,loss_pct")
    assert before["step"] == 300_000
    rolling.roll_up(engine, "ping")
    after = ask(operator, test, *span, "rtt_avg_ms,loss_pct")
    assert after["series"] == before["series"]
    first, second, third = after["series"]
    assert (len(first["t"]), len(second["t"]), third["t"]) == (20, 2, [])
    assert first["metrics"]["rtt_avg_ms"] == {
        "mean": [pytest.approx(1.5, abs=0.1)] * 20,
        "low": [0.0] * 20,
        "high": [3.0] * 20,
    }
    assert second["metrics"]["rtt_avg_ms"] == {
        "mean": [20.0, None],
        "low": [10.0, None],
        "high": [30.0, None],
    }
    assert second["metrics"]["loss_pct"]["mean"] == [None, None]
    assert second["t"] == [milliseconds(hour) + 150_000, milliseconds(hour) + 6_150_000]
    # What no run did is not counted bucket by bucket.
    assert (second["failed"], second["error"], second["missed"]) == ([], [0, 1], [])


def test_lines_that_have_left_the_test_are_marked(operator, rows, job, begin) -> None:
    """They are drawn where they ran, behind the others; a row of a group that the newest runs lack is marked too."""
    test, number = job
    rows.run(number, begin, rtt_avg_ms=1.0)
    rows.execute(update(Job).where(Job.id == number).values(retired_at=begin + dt.timedelta(minutes=1)))
    other = rows.job(test, rows.worker("edge-2"), rows.destination("Other", "192.0.2.2"))
    for index in range(12):
        keys = {
            "192.0.2.1": {"rtt_avg_ms": 1.0},
            **({"192.0.2.9": {"rtt_avg_ms": 2.0}} if index == 0 else {}),
        }
        rows.run(other, begin + dt.timedelta(seconds=index * 2), children={"by_address": keys})

    def labels(start: dt.datetime) -> list[str]:
        found = ask(operator, test, start, begin + dt.timedelta(minutes=5), "rtt_avg_ms")
        return [series["label"] for series in found["series"]]

    gone = "edge-1 → Router (no longer part of the test)"
    assert labels(begin) == ["edge-2 → Other", gone]
    assert labels(begin + dt.timedelta(seconds=1)) == ["edge-2 → Other"]
    assert gone in operator.get(f"/tests/{test}")
    query = {"from": milliseconds(begin), "to": milliseconds(begin + dt.timedelta(minutes=5))}
    found = operator.client.get(
        f"/tests/{test}/rows.json", query_string={"child": "by_address", "metrics": "rtt_avg_ms", **query}
    ).get_json()
    assert [row["label"] for row in found["rows"]] == ["192.0.2.1", "192.0.2.9 (not in the newest runs)"]
