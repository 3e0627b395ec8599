"""Metrics of repeated groups: a line for every row, from results and roll-ups alike, gaps as they are."""

from __future__ import annotations

import datetime as dt
import random
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Engine, insert, text
from sqlalchemy.orm import Session

from controller.store import partitions, results, rollups
from controller.store.entities import Destination, Job, JobVersion, Test, Worker
from controller.store.queries import children
from controller.store.queries.results import Line, Series, lines, read_plans
from controller.store.rollups import DAY, HOUR, rolling
from streamswarm.v1 import probe_pb2

START = rollups.floor(dt.datetime.now(dt.UTC), DAY.width) - 3 * DAY.width
END = START + 2 * DAY.width
#: Hops of the path; the last two are there for half of the time only.
KEYS = ["01", "02", "03", "10"]
METRICS = ["rtt_avg_ms", "loss_pct"]


@dataclass(frozen=True, kw_only=True)
class Path:
    """A traceroute with two days of runs, every two minutes, and two hours without any."""

    engine: Engine
    line: Line

    def series(
        self, metric: str, start: dt.datetime, end: dt.datetime, keys: Iterable[str] = KEYS
    ) -> tuple[Series, ...]:
        """Read a metric of its hops."""
        with Session(self.engine) as session:
            plan = read_plans(session, [self.line], start=start, end=end)[self.line]
            return children.child_series(
                session, self.line, plan, "hops", metric, list(keys), group_size=len(KEYS), start=start, end=end
            )  # fmt: skip

    def keys(self, start: dt.datetime, end: dt.datetime) -> list[str]:
        """Read which hops there are."""
        with Session(self.engine) as session:
            return list(children.keys(session, self.line, "hops", start=start, end=end).names)

    def expire(self, until: dt.datetime) -> None:
        """Remove results, as retention does."""
        with self.engine.begin() as connection:
            for name in results.table_names("traceroute"):
                connection.execute(text(f"DELETE FROM {name} WHERE scheduled_at < :until"), {"until": until})
            connection.execute(
                text("INSERT INTO expiries (kind, layer, gone_before) VALUES ('traceroute', 'raw', :until)"),
                {"until": until},
            )


@pytest.fixture
def path(engine: Engine) -> Path:
    """The path, nothing of it rolled up."""
    chance = random.Random(5)
    with Session(engine) as session, session.begin():
        worker, place = Worker(name="berlin", host_name="berlin"), Destination(name="d", address="192.0.2.1")
        test = Test(name="way", kind="traceroute", spec={}, interval_s=120)
        session.add_all([worker, place, test])
        session.flush()
        job = Job(
            test_id=test.id,
            worker_id=worker.id,
            destination_id=place.id,
            kind="traceroute",
            spec={},
            interval_us=120_000_000,
            anchor_us=0,
            target="192.0.2.1",
            created_at=START,
        )
        session.add(job)
        session.flush()
        session.add(
            JobVersion(job_id=job.id, version=1, valid_from=START, interval_us=120_000_000, anchor_us=0)
        )
        number, test_id = job.id, test.id
    own: list[dict[str, Any]] = []
    hops: list[dict[str, Any]] = []
    for second in range(0, 2 * 86_400, 120):
        if 36_000 <= second < 43_200:
            continue
        at = START + dt.timedelta(seconds=second)
        failed = chance.random() < 0.05
        own.append(
            {
                "job_id": number,
                "scheduled_at": at,
                "started_at": at,
                "duration_ms": 1.0,
                "job_version": 1,
                "status": probe_pb2.STATUS_FAILED if failed else probe_pb2.STATUS_OK,
                "failure_source": 0,
            }
        )
        for key in KEYS if second < 86_400 else KEYS[:2]:
            silent = chance.random() < 0.1
            hops.append(
                {
                    "job_id": number,
                    "scheduled_at": at,
                    "key": key,
                    "rtt_avg_ms": None if silent else chance.lognormvariate(2, 0.5),
                    "loss_pct": chance.choice([0.0, 33.0]),
                }
            )
    with engine.begin() as connection:
        for day in range(3):
            partitions.ensure_partitions(connection, "traceroute", [(START + day * DAY.width).date()])
        connection.execute(insert(results.table("traceroute")), own)
        connection.execute(insert(results.child_table("traceroute", "hops")), hops)
    with Session(engine) as session:
        (line,) = lines(session, test_ids=[test_id])
    return Path(engine=engine, line=line)


def same(found: tuple[Series, ...], other: tuple[Series, ...]) -> None:
    """Fail unless points, counts, minima and maxima are equal, and means but for rounding."""
    assert [(each.key, each.bucket_s) for each in found] == [(each.key, each.bucket_s) for each in other]
    for ours, theirs in zip(found, other, strict=True):
        assert [(point.at, point.count, point.min, point.max) for point in ours.points] == [
            (point.at, point.count, point.min, point.max) for point in theirs.points
        ]
        assert [point.value for point in ours.points] == [
            None if point.value is None else pytest.approx(point.value, rel=1e-12) for point in theirs.points
        ]


def test_figures_are_the_same_from_roll_ups(path: Path) -> None:
    """Ranges that begin and end anywhere, short and long; the first are computed from results alone."""
    ranges = [
        (START, END),
        (START + dt.timedelta(minutes=17, seconds=3), END - dt.timedelta(minutes=1)),
        (START + 5 * HOUR.width, START + 30 * HOUR.width),
        (START - 300 * DAY.width, END),
    ]
    plain = [(path.series(metric, *span), path.keys(*span)) for span in ranges for metric in METRICS]
    assert any(point.count > 1 for point in plain[0][0][0].points), "the ranges are read in buckets"
    rolling.roll_up(path.engine, "traceroute")
    with path.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM rollup_traceroute_hops_1d")).scalar_one() == 6
    found = [(path.series(metric, *span), path.keys(*span)) for span in ranges for metric in METRICS]
    for (ours, our_keys), (theirs, their_keys) in zip(found, plain, strict=True):
        assert our_keys == their_keys
        same(ours, theirs)
        assert all(len(each.points) <= 500 for each in ours)


def percentiles(path: Path, start: dt.datetime, end: dt.datetime) -> dict[str, list[tuple[float, ...]]]:
    """Read the percentiles of each hop's round-trip times, by day."""
    with Session(path.engine) as session:
        plan = read_plans(session, [path.line], start=start, end=end)[path.line]
        found = children.read(
            session, path.line, plan, "hops", ["rtt_avg_ms"], KEYS, start=start, end=end, bucket=DAY.width, percentiles=True
        )  # fmt: skip
    return {key: [day.percentiles for day in row["rtt_avg_ms"] if day] for key, row in found.rows.items()}


def test_percentiles_are_each_rows_own(path: Path) -> None:
    """Exact from results, within the sketches' error from roll-ups and where both are read."""
    ranges = [(START, END), (START + dt.timedelta(minutes=17), END - dt.timedelta(minutes=1))]
    exact = [percentiles(path, *span) for span in ranges]
    with path.engine.connect() as connection:
        values = connection.execute(
            text("SELECT rtt_avg_ms FROM result_traceroute_hops WHERE key = '03' AND rtt_avg_ms IS NOT NULL")
        ).scalars()
        assert exact[0]["03"][0][0] == pytest.approx(statistics.median(values))
    assert exact[0]["01"][0] != exact[0]["02"][0]
    rolling.roll_up(path.engine, "traceroute")
    for span, before in zip(ranges, exact, strict=True):
        found = percentiles(path, *span)
        assert found != before, "they come from sketches"
        for key in KEYS:
            assert len(found[key]) == len(before[key]) == (2 if key in KEYS[:2] else 1)
            for ours, theirs in zip(found[key], before[key], strict=True):
                assert ours == pytest.approx(theirs, rel=0.0101)


def test_what_was_rolled_up_before_has_no_percentiles(path: Path) -> None:
    """Hours from before the contract said `distribution` have none; a day with any of them would have those of a part."""
    span = (START, END)
    rolling.roll_up(path.engine, "traceroute")
    with path.engine.begin() as connection:
        for layer in (HOUR, DAY):
            connection.execute(
                text(
                    f"UPDATE rollup_traceroute_hops_{layer.name} SET rtt_avg_ms_sketch = NULL "
                    "WHERE key = '01' AND bucket < :until"
                ),
                {"until": START + DAY.width},
            )
    found = percentiles(path, *span)
    assert [len(day) for day in found["01"]] == [0, 3]
    assert [len(day) for day in found["02"]] == [3, 3]
    with path.engine.begin() as connection:
        connection.execute(
            text("UPDATE rollup_traceroute_hops_1d SET rtt_avg_ms_sketch = (SELECT rtt_avg_ms_sketch "
                 "FROM rollup_traceroute_hops_1h WHERE key = '01' AND bucket = :later) WHERE key = '01' AND bucket = :day"),
            {"later": START + DAY.width, "day": START},
        )  # fmt: skip
    assert [len(day) for day in percentiles(path, *span)["01"]] == [0, 3]


def test_hops_that_results_no_longer_know_are_shown(path: Path) -> None:
    """Beyond the retention of results the keys and their figures come from the hours."""
    rolling.roll_up(path.engine, "traceroute")
    before = path.series("rtt_avg_ms", START, START + DAY.width)
    path.expire(END)
    assert path.keys(START, END) == KEYS
    assert path.keys(START + DAY.width, END) == KEYS[:2]
    found = path.series("rtt_avg_ms", START, START + DAY.width)
    assert {each.bucket_s for each in found} == {3600.0}
    assert [each.key for each in found] == KEYS
    for ours, theirs in zip(found, before, strict=True):
        assert sum(point.count for point in ours.points) == sum(point.count for point in theirs.points)
        assert max(point.max for point in ours.points if point.max) == max(
            point.max for point in theirs.points if point.max
        )


def test_gaps_stay_gaps(path: Path) -> None:
    """Hours without runs, and runs without the hop, are points without a value: in runs and in buckets."""
    rolling.roll_up(path.engine, "traceroute")
    whole = {each.key: each for each in path.series("loss_pct", START, END)}
    quiet = [
        point for point in whole["01"].points if START + 10 * HOUR.width <= point.at < START + 12 * HOUR.width
    ]
    assert len(quiet) > 5
    assert all((point.count, point.value) == (0, None) for point in quiet)
    later = [point for point in whole["10"].points if point.at >= START + DAY.width]
    assert len(later) > 100, "the hop is gone, its line goes on"
    assert all((point.count, point.value) == (0, None) for point in later)
    around = path.series("loss_pct", START + 9 * HOUR.width, START + 13 * HOUR.width)
    assert {each.bucket_s for each in around} == {None}
    empty = [point.at for point in around[0].points if not point.count]
    assert empty == [START + 10 * HOUR.width]


def test_many_rows_come_in_hours(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where more results would be read than one chart is worth, the hours serve; they are the same figures."""
    fine = path.series("rtt_avg_ms", START, END)
    assert {each.bucket_s for each in fine} == {600.0}
    monkeypatch.setattr(children, "MOST_ROWS", 1440 * len(KEYS) - 1)
    rolling.roll_up(path.engine, "traceroute")
    hours = path.series("rtt_avg_ms", START, END)
    assert {each.bucket_s for each in hours} == {3600.0}
    for ours, theirs in zip(hours, fine, strict=True):
        assert sum(point.count for point in ours.points) == sum(point.count for point in theirs.points)
    few = path.series("rtt_avg_ms", START, END - dt.timedelta(minutes=10))
    assert {each.bucket_s for each in few} == {600.0}


def test_a_hop_that_gave_no_answer_is_not_measured(path: Path) -> None:
    """Its round-trip time is None there, while its loss is known."""
    span = (START, START + HOUR.width)
    (rtt,), (loss,) = (path.series(metric, *span, ["02"]) for metric in METRICS)
    assert {point.count for point in rtt.points} == {0, 1}
    assert {point.count for point in loss.points} == {1}
    assert all((point.value is None) == (point.count == 0) for point in rtt.points)


def test_runs_and_how_they_ended_come_once(path: Path) -> None:
    """A group's points count the runs of the line, not those of every row; several metrics are read at once."""
    with Session(path.engine) as session:
        span = {"start": START, "end": START + DAY.width}
        asked = (path.line, read_plans(session, [path.line], **span)[path.line], "hops", METRICS, KEYS)
        runs = children.read(session, *asked, **span, bucket=None, most=1000)
        hours = children.read(session, *asked, **span, bucket=HOUR.width)
        newest = children.read(session, *asked, **span, bucket=None, most=5)
    assert len(runs.at) == 660
    assert sum(runs.failed) == sum(hours.failed) > 10
    assert len(hours.at) == 22
    assert newest.at == runs.at[-5:]
    for metric in METRICS:
        assert newest.rows["10"][metric] == runs.rows["10"][metric][-5:]
        of_runs = [each.mean for each in runs.rows["03"][metric] if each and each.mean is not None]
        of_hours = [each for each in hours.rows["03"][metric] if each]
        assert sum(each.count for each in of_hours) == len(of_runs)
        assert sum((each.mean or 0) * each.count for each in of_hours) == pytest.approx(sum(of_runs))


def test_keys_are_ordered_as_people_count(engine: Engine, path: Path) -> None:
    """`eth2` comes before `eth10`; where there is nothing there are no keys."""
    job = path.line.job_ids[0]
    with engine.begin() as connection:
        connection.execute(
            insert(results.child_table("traceroute", "hops")),
            [
                {"job_id": job, "scheduled_at": START + DAY.width * 2, "key": key}
                for key in ("eth10", "eth2", "lo", "9", "10.0.0.1", "10.0.0.10", "10.0.0.9")
            ],
        )
    found = path.keys(END, END + HOUR.width)
    assert found == ["9", "10.0.0.1", "10.0.0.9", "10.0.0.10", "eth2", "eth10", "lo"]
    assert path.keys(START - DAY.width, START) == []


def test_keys_without_end_are_cut_off_and_said_to_be(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than the most are read, whatever a worker makes up; each of the others is found when it is asked for."""
    span = {"start": START, "end": END}
    with Session(path.engine) as session:
        monkeypatch.setattr(children, "MOST_KEYS", len(KEYS))
        assert children.keys(session, path.line, "hops", **span) == children.Keys(
            names=tuple(KEYS), more=False
        )
        monkeypatch.setattr(children, "MOST_KEYS", 2)
        assert children.keys(session, path.line, "hops", **span) == children.Keys(
            names=("01", "02"), more=True
        )
        assert children.has_key(session, path.line, "hops", "10", **span)
        assert not children.has_key(session, path.line, "hops", "11", **span)


@pytest.mark.parametrize("metric", ["rtt", "error", "key", "rtt_avg_ms; DROP TABLE jobs", "", "status"])
def test_unknown_groups_and_metrics_are_refused(path: Path, metric: str) -> None:
    """Only what the contract has is read: no columns of the envelope, no SQL."""
    with pytest.raises(KeyError, match=r"`traceroute\.hops`"):
        path.series(metric, START, START + HOUR.width)
    with pytest.raises(KeyError, match=r"`traceroute\.hops`"):
        path.series(metric, START, END)
    with Session(path.engine) as session, pytest.raises(KeyError, match="repeated group"):
        children.keys(session, path.line, metric, start=START, end=END)
