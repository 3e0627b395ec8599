"""Results over the API: raw runs page by page, and series."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from sqlalchemy import Engine, text
from support.clients import Api

from controller.store.queries import children
from controller.store.rollups import rolling


class Ground:
    """A ping test with two workers and two destinations, and runs in the table."""

    def __init__(self, api: Api, engine: Engine) -> None:
        self.engine = engine
        self.now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        self.destinations = [
            api("POST", "/destinations", {"name": name, "address": f"192.0.2.{number}"}).json["id"]
            for number, name in enumerate(("One", "Two"), 1)
        ]
        values = {"name": "T", "kind": "ping", "interval_s": 10, "destinations": self.destinations}
        self.test = api("POST", "/tests", values).json["id"]
        self.jobs: dict[tuple[str, int], int] = {}
        with engine.begin() as connection:
            self.workers = [
                str(
                    connection.execute(
                        text("INSERT INTO workers (name, host_name) VALUES (:n, :n) RETURNING id"),
                        {"n": name},
                    ).scalar_one()
                )
                for name in ("alpha", "beta")
            ]
            for worker in self.workers:
                for destination in self.destinations:
                    self.jobs[worker, destination] = connection.execute(
                        text(
                            "INSERT INTO jobs (test_id, worker_id, destination_id, kind, target, spec, "
                            "interval_us, anchor_us, created_at) "
                            "VALUES (:t, :w, :d, 'ping', 'x', '{}', 10000000, 0, now() - interval '50 days') RETURNING id"
                        ),
                        {"t": self.test, "w": worker, "d": destination},
                    ).scalar_one()

    def version(self, job: int, age_s: float) -> None:
        """Write down that a job is due every ten seconds since so long ago."""
        with self.engine.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO job_versions (job_id, version, valid_from, interval_us, anchor_us) "
                    "VALUES (:j, 1, :at, 10000000, extract(epoch FROM CAST(:at AS timestamptz)) * 1000000)"
                ),
                {"j": job, "at": self.now - dt.timedelta(seconds=age_s)},
            )

    def run(self, job: int, age_s: float, rtt: float | None, status: int = 1) -> None:
        """Store one run that was due so long ago."""
        with self.engine.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO result_ping (job_id, scheduled_at, started_at, duration_ms, job_version, status, "
                    "failure_source, error, rtt_avg_ms) VALUES (:j, :at, :at, 5, 1, :s, :f, :e, :rtt)"
                ),
                {
                    "j": job, "at": self.now - dt.timedelta(seconds=age_s), "s": status,
                    "f": 0 if status == 1 else 2, "e": None if status == 1 else "no answer", "rtt": rtt,
                },
            )  # fmt: skip


@pytest.fixture
def ground(api: Api, engine: Engine) -> Ground:
    """The test with its jobs."""
    return Ground(api, engine)


def read_all(api: Api, path: str) -> list[dict[str, Any]]:
    """Return every item, page by page."""
    items: list[dict[str, Any]] = []
    cursor = ""
    while cursor is not None:
        page = api("GET", f"{path}{f'&cursor={cursor}' if cursor else ''}").json
        items += page["items"]
        cursor = page["next_cursor"]
    return items


def test_runs_come_newest_first_and_each_once(api: Api, ground: Ground) -> None:
    """Also where many jobs were due at the same instant, and the page ends among them."""
    for age in (0, 10, 20):
        for job in ground.jobs.values():
            ground.run(job, age, 1.5)
    path = f"/tests/{ground.test}/results"
    runs = read_all(api, f"{path}?limit=5")
    keys = [(run["scheduled_at"], run["job_id"]) for run in runs]
    assert len(keys) == 12
    assert len(set(keys)) == 12
    assert keys == sorted(keys, reverse=True)
    first = runs[0]
    assert (first["status"], first["failure_source"], first["error"], first["worker"]) == (
        "ok",
        "none",
        "",
        "beta",
    )
    assert (first["metrics"]["rtt_avg_ms"], first["metrics"]["rtt_max_ms"]) == (1.5, None)
    assert (first["destination"], first["job_version"], first["children"]) == ("Two", 1, {})


def test_jobs_tell_when_they_are_first_due_in_the_session(api: Api, ground: Ground) -> None:
    """Not while paused, not before the job's start, and not where no worker has been: nothing is missing then."""
    worker, (first, second) = ground.workers[0], ground.destinations
    for job in ground.jobs.values():
        ground.version(job, 100)
    later = ground.now + dt.timedelta(hours=3)

    def due() -> list[str | None]:
        return [item["first_due_at"] for item in api("GET", f"/workers/{worker}/jobs").json["items"]]

    assert due() == [None, None]
    session = ground.now.replace(second=3) - dt.timedelta(minutes=1)
    with ground.engine.begin() as connection:
        connection.execute(
            text("UPDATE job_versions SET valid_from = :at"), {"at": session - dt.timedelta(hours=1)}
        )
        connection.execute(
            text("UPDATE workers SET connected_at = :at WHERE id = :w"), {"at": session, "w": worker}
        )
        connection.execute(
            text("UPDATE jobs SET starts_at = :at WHERE id = :j"),
            {"at": later, "j": ground.jobs[worker, second]},
        )
    by_grid = dt.datetime.fromtimestamp((later.timestamp() + 9) // 10 * 10, dt.UTC)
    expected = [session.replace(second=10), by_grid]
    assert due() == [f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in expected]
    of_test = api("GET", f"/tests/{ground.test}/jobs").json["items"]
    assert [item["last_due_at"] is None for item in of_test] == [False, True, True, True]
    assert [item["first_due_at"] is None for item in of_test] == [False, False, True, True]
    with ground.engine.begin() as connection:
        connection.execute(
            text("UPDATE jobs SET ends_at = :at WHERE id = :j"),
            {"at": session.replace(second=25), "j": ground.jobs[worker, first]},
        )
    ended = api("GET", f"/workers/{worker}/jobs").json["items"][0]
    assert ended["last_due_at"] == f"{session.replace(second=20):%Y-%m-%dT%H:%M:%SZ}"
    with ground.engine.begin() as connection:
        connection.execute(
            text("UPDATE jobs SET paused = true WHERE id = :j"), {"j": ground.jobs[worker, first]}
        )
    assert due()[0] is None


def test_runs_are_filtered_by_worker_destination_and_time(api: Api, ground: Ground) -> None:
    """`from` is included, `to` is not."""
    for age in (0, 10, 20):
        for job in ground.jobs.values():
            ground.run(job, age, 1.0)
    worker, destination = ground.workers[0], ground.destinations[1]
    path = f"/tests/{ground.test}/results?limit=100"
    runs = read_all(api, f"{path}&worker={worker}&destination={destination}")
    assert {run["job_id"] for run in runs} == {ground.jobs[worker, destination]}
    assert len(runs) == 3
    start, end = ((ground.now - dt.timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%SZ") for age in (10, 0))
    assert {run["scheduled_at"] for run in read_all(api, f"{path}&from={start}&to={end}")} == {start}


def test_runs_by_a_clock_that_is_off_are_flagged_and_found(api: Api, ground: Ground, engine: Engine) -> None:
    """Beyond five seconds either way; an unknown offset is no flag. How late a run started comes with it."""
    job = next(iter(ground.jobs.values()))
    for age_s, offset in ((10, None), (20, 4999.0), (30, 5001.0), (40, -7_200_000.0)):
        ground.run(job, age_s, 1.0)
        with engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE result_ping SET clock_offset_ms = :o, start_error_us = 150 WHERE scheduled_at = :at"
                ),
                {"o": offset, "at": ground.now - dt.timedelta(seconds=age_s)},
            )
    path = f"/tests/{ground.test}/results"
    found = api("GET", f"{path}?limit=4").json["items"]
    assert [run["clock_off"] for run in found] == [False, False, True, True]
    assert {run["start_error_us"] for run in found} == {150}
    assert len(api("GET", f"{path}?clock_off=true").json["items"]) == 2
    unflagged = api("GET", f"{path}?clock_off=false").json["items"]
    assert {run["clock_offset_ms"] for run in unflagged} == {None, 4999.0}


def test_child_rows_come_with_their_run(api: Api, ground: Ground, engine: Engine) -> None:
    """The interfaces and disks of a system run, by their keys."""
    test = api("POST", "/tests", {"name": "S", "kind": "system", "interval_s": 10}).json["id"]
    with engine.begin() as connection:
        job = connection.execute(
            text(
                "INSERT INTO jobs (test_id, worker_id, kind, spec, interval_us, anchor_us) "
                "VALUES (:t, :w, 'system', '{}', 10000000, 0) RETURNING id"
            ),
            {"t": test, "w": ground.workers[0]},
        ).scalar_one()
        keys = {"j": job, "at": ground.now}
        connection.execute(
            text(
                "INSERT INTO result_system (job_id, scheduled_at, started_at, duration_ms, job_version, status, "
                "failure_source) VALUES (:j, :at, :at, 1, 1, 1, 0)"
            ),
            keys,
        )
        child = connection.execute(
            text(
                "SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'result\\_system\\_%' "
                "AND table_name !~ '[0-9]' ORDER BY 1 LIMIT 1"
            )
        ).scalar_one()
        connection.execute(
            text(
                f"INSERT INTO {child} (job_id, scheduled_at, key) VALUES (:j, :at, 'first'), (:j, :at, 'second')"
            ),
            keys,
        )
    (run,) = api("GET", f"/tests/{test}/results").json["items"]
    assert (run["destination_id"], run["destination"]) == (None, None)
    name = child.removeprefix("result_system_")
    assert list(run["children"]) == [name]
    assert list(run["children"][name]) == ["first", "second"]


def make_system(api: Api, ground: Ground, disks: int) -> int:
    """Make a test of the host with two runs, ten seconds apart, and so many disks; the second run lacks the last."""
    test = int(api("POST", "/tests", {"name": "S", "kind": "system", "interval_s": 10}).json["id"])
    with ground.engine.begin() as connection:
        job = connection.execute(
            text(
                "INSERT INTO jobs (test_id, worker_id, kind, spec, interval_us, anchor_us, created_at) "
                "VALUES (:t, :w, 'system', '{}', 10000000, 0, now() - interval '50 days') RETURNING id"
            ),
            {"t": test, "w": ground.workers[0]},
        ).scalar_one()
        for age_s in (20, 10):
            at = ground.now - dt.timedelta(seconds=age_s)
            connection.execute(
                text(
                    "INSERT INTO result_system (job_id, scheduled_at, started_at, duration_ms, job_version, status, "
                    "failure_source) VALUES (:j, :at, :at, 1, 1, 1, 0)"
                ),
                {"j": job, "at": at},
            )
            connection.execute(
                text("INSERT INTO result_system_disks (job_id, scheduled_at, key, used_pct) VALUES (:j, :at, :k, :v)"),
                [
                    {"j": job, "at": at, "k": f"/data/{number}", "v": float(number)}
                    for number in range(disks - (age_s == 10))
                ],
            )  # fmt: skip
    return test


def test_a_series_of_a_repeated_group_has_a_line_for_each_row(api: Api, ground: Ground) -> None:
    """By the keys in the order in which people count; a run without the row is an empty point; one row can be asked for."""
    test = make_system(api, ground, 12)
    path = f"/tests/{test}/series?child=disks&metric=used_pct"
    answer = api("GET", path).json
    assert (answer["metric"], answer["unit"], answer["child"]) == ("used_pct", "%", "disks")
    assert [line["key"] for line in answer["lines"]] == [f"/data/{number}" for number in range(12)]
    assert [point["value"] for point in answer["lines"][3]["points"]] == [3.0, 3.0]
    assert [point["value"] for point in answer["lines"][11]["points"]] == [11.0, None]
    only = api("GET", f"{path}&key=/data/3").json["lines"]
    assert only == [answer["lines"][3]]
    assert api("GET", f"{path}&key=/nowhere").json["lines"] == []
    own = api("GET", f"/tests/{test}/series").json
    assert (own["child"], {line["key"] for line in own["lines"]}) == (None, {None})


def test_a_group_without_end_is_read_as_far_as_is_listed(
    api: Api, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker makes up rows: the answer says that there are more, and any of them can be asked for."""
    monkeypatch.setattr(children, "MOST_KEYS", 55)
    path = f"/tests/{make_system(api, ground, 70)}/series?child=disks&metric=used_pct"
    answer = api("GET", path)
    assert answer.status_code == 422
    assert "more than 55 lines are more than 50; name one" in answer.json["errors"][0]["message"]
    [line] = api("GET", f"{path}&key=/data/9").json["lines"]
    assert line["points"][0]["value"] == 9.0
    assert api("GET", f"{path}&key=/nowhere").json["lines"] == []


def test_a_series_of_a_repeated_group_that_cannot_be_is_refused(api: Api, ground: Ground) -> None:
    """Unknown groups and metrics name those there are; too many rows say how to ask for fewer."""
    test = make_system(api, ground, 51)
    for query, at, words in (
        ("child=disks", "metric", "is missing; it is one of total_bytes"),
        ("child=disks&metric=cpu_pct", "metric", "is not one of total_bytes"),
        ("child=hops&metric=used_pct", "child", "is not one of interfaces, disks"),
        ("key=/data/1", "key", "send `child` too"),
        ("child=disks&metric=used_pct", "key", "51 lines are more than 50; name one (of /data/0, /data/1,"),
    ):
        answer = api("GET", f"/tests/{test}/series?{query}")
        assert answer.status_code == 422, query
        error = answer.json["errors"][0]
        assert error["path"] == at, query
        assert words in error["message"], query
    tcp = {
        "name": "C",
        "kind": "tcp",
        "spec": {"port": 1},
        "interval_s": 10,
        "destinations": ground.destinations,
    }
    number = api("POST", "/tests", tcp).json["id"]
    answer = api("GET", f"/tests/{number}/series?child=hops&metric=rtt_avg_ms")
    assert answer.json["errors"][0]["message"] == "`hops` is not there: `tcp` has no repeated group"


def test_a_series_has_a_line_for_each_pair_and_gaps_where_nothing_was_measured(
    api: Api, ground: Ground
) -> None:
    """Values as they are, null for a run without one, an empty point where runs are missing."""
    worker, destination = ground.workers[0], ground.destinations[0]
    job = ground.jobs[worker, destination]
    ground.version(job, 90)
    ground.run(job, 60, 1.0)
    ground.run(job, 50, 2.0)
    ground.run(job, 40, None, status=2)
    ground.run(job, 10, 4.0)
    path = f"/tests/{ground.test}/series"
    start, end = (
        (ground.now - dt.timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%SZ") for age in (3600, 5)
    )
    metric = f"metric=rtt_avg_ms&from={start}&to={end}"
    answer = api("GET", f"{path}?{metric}").json
    assert (answer["metric"], answer["unit"], len(answer["lines"])) == ("rtt_avg_ms", "ms", 4)
    (line,) = (
        item
        for item in answer["lines"]
        if (item["worker_id"], item["destination_id"]) == (worker, destination)
    )
    assert [(point["value"], point["count"], point["gap"]) for point in line["points"]] == [
        (None, 0, "rest"),
        (None, 0, "missing"),
        (1.0, 1, None),
        (2.0, 1, None),
        (None, 0, None),
        (None, 0, "missing"),
        (4.0, 1, None),
    ]
    only = api("GET", f"{path}?{metric}&worker={worker}&destination={destination}").json["lines"]
    assert only == [line]
    assert api("GET", path).json["metric"] != ""


def test_a_series_that_cannot_be_is_refused(api: Api, ground: Ground) -> None:
    """An unknown metric names those there are; a span must go forward and not too far."""
    path = f"/tests/{ground.test}/series"
    for query, at in (
        ("metric=nonsense", "metric"),
        ("from=2030-01-02T00:00:00Z&to=2030-01-01T00:00:00Z", "to"),
        ("from=2000-01-01T00:00:00Z&to=2060-01-01T00:00:00Z", "from"),
        ("from=yesterday", "from"),
        ("worker=x", "worker"),
        ("destination=x", "destination"),
    ):
        answer = api("GET", f"{path}?{query}")
        assert answer.status_code == 422, query
        assert answer.json["errors"][0]["path"] == at, query
    assert api("GET", "/tests/4711/series").status_code == 404
    assert api("GET", "/tests/4711/results").status_code == 404


def test_pairs_that_have_left_the_test_come_where_they_ran(api: Api, ground: Ground, engine: Engine) -> None:
    """Behind the others, and not live; nowhere else, and not where only live ones are wanted. Their results may have expired."""
    worker, destination = ground.workers[0], ground.destinations[0]
    gone, never = ground.jobs[worker, destination], ground.jobs[worker, ground.destinations[1]]
    ground.run(gone, 3 * 3600, 1.0)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE jobs SET retired_at = now() WHERE id = ANY(:jobs)"), {"jobs": [gone, never]}
        )
    path = f"/tests/{ground.test}/series"

    def lines(query: str, hours: float = 5) -> list[tuple[str, int, bool]]:
        begin = (ground.now - dt.timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
        answer = api("GET", f"{path}?from={begin}&{query}").json["lines"]
        return [(line["worker"], line["destination_id"], line["live"]) for line in answer]

    live = [("beta", each, True) for each in ground.destinations]
    assert lines("") == [*live, ("alpha", destination, False)]
    assert lines("live=false") == [("alpha", destination, False)]
    assert lines("live=true") == live
    assert lines("", hours=2) == live
    rolling.roll_up(engine, "ping")
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM result_ping"))
        connection.execute(
            text("INSERT INTO expiries (kind, layer, gone_before) VALUES ('ping', 'raw', now())")
        )
    assert lines("") == [*live, ("alpha", destination, False)]


def test_a_row_that_the_newest_runs_lack_is_not_live(api: Api, ground: Ground) -> None:
    """A disk that was taken away has its line, for as long as there are runs with it."""
    test = make_system(api, ground, 2)
    with ground.engine.begin() as connection:
        job = connection.execute(text("SELECT max(id) FROM jobs")).scalar_one()
        for age_s in range(11, 20):
            connection.execute(
                text(
                    "INSERT INTO result_system_disks (job_id, scheduled_at, key, used_pct) VALUES (:j, :at, '/data/0', 1)"
                ),
                {"j": job, "at": ground.now - dt.timedelta(seconds=age_s)},
            )
    answer = api("GET", f"/tests/{test}/series?child=disks&metric=used_pct").json
    assert [(line["key"], line["live"]) for line in answer["lines"]] == [
        ("/data/0", True),
        ("/data/1", False),
    ]


@pytest.mark.parametrize("view", ["accounts", "results?clock_off=true"])
def test_a_range_with_too_many_runs_is_refused_with_one_that_can_be_read(
    api: Api, ground: Ground, engine: Engine, view: str
) -> None:
    """Counted by how the jobs were scheduled then: every second until ten days ago, every minute since."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO job_versions (job_id, version, valid_from, valid_until, interval_us, anchor_us) "
                "SELECT id, 1, now() - interval '40 days', now() - interval '10 days', 1000000, 0 FROM jobs "
                "UNION ALL SELECT id, 2, now() - interval '10 days', NULL, 60000000, 0 FROM jobs"
            )
        )
    path = f"/tests/{ground.test}/{view}{'&' if '?' in view else '?'}"
    assert api("GET", f"{path}from={moment(20)}").status_code == 200
    refused = api("GET", f"{path}from={moment(30)}")
    assert refused.status_code == 422
    [fault] = refused.json["errors"]
    assert fault["path"] == "from"
    said = re.fullmatch(
        r"some (\d+) runs were due in this range, and no more than 5000000 can be read at once; "
        r"a range from (\S+)\+00:00 on can be read",
        fault["message"],
    )
    assert said
    assert int(said[1]) == pytest.approx(4 * (20 * 86_400 + 10 * 1440), rel=0.01)
    fitting = api("GET", f"{path}from={said[2]}Z")
    assert fitting.status_code == 200, fitting.json
    # Four jobs a second make five million in less than fifteen days, beside those of every minute since.
    begins = dt.datetime.fromisoformat(f"{said[2]}+00:00")
    assert dt.timedelta(days=23) < ground.now - begins < dt.timedelta(days=24.5)


def test_the_lines_that_are_asked_for_are_counted(api: Api, ground: Ground, engine: Engine) -> None:
    """Runs of a clock that was off are looked for on one worker where all are too many; without a range in a day."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO job_versions (job_id, version, valid_from, interval_us, anchor_us) "
                "SELECT id, 1, now() - interval '40 days', 1000000, 0 FROM jobs"
            )
        )
    job = ground.jobs[ground.workers[0], ground.destinations[0]]
    for age_s in (10, 90_000):
        ground.run(job, age_s, 1.0)
    with engine.begin() as connection:
        connection.execute(text("UPDATE result_ping SET clock_offset_ms = 9000"))
    path = f"/tests/{ground.test}/results?clock_off=true"
    assert len(api("GET", path).json["items"]) == 1
    month = f"{path}&from={moment(25)}"
    assert api("GET", month).status_code == 422
    assert len(api("GET", f"{month}&worker={ground.workers[0]}").json["items"]) == 2
    assert api("GET", f"{month}&destination={ground.destinations[1]}").json["items"] == []


def moment(days: float) -> str:
    """Return the instant so many days ago as the API takes it."""
    return (dt.datetime.now(dt.UTC) - dt.timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
