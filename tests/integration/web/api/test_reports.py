"""Reports and exports over the API: asking, watching, fetching, deleting, and all runs as CSV."""

from __future__ import annotations

import csv
import datetime as dt
import io
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, text
from sqlalchemy.orm import Session
from support.clients import Api

from controller.reports.make import make_report
from controller.store import results
from controller.store.commands import reports as commands
from controller.store.entities import Job, Worker
from controller.store.queries import exports

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)


class Ground:
    """A ping test on one worker with runs of the last minutes."""

    def __init__(self, api: Api, engine: Engine) -> None:
        self.engine = engine
        self.place = api("POST", "/destinations", {"name": "=Router", "address": "192.0.2.1"}).json["id"]
        values = {"name": "Round trip", "kind": "ping", "interval_s": 10, "destinations": [self.place]}
        self.test = api("POST", "/tests", values).json["id"]
        with Session(engine) as session, session.begin():
            worker = Worker(name="alpha", host_name="alpha", enrolled_at=func.now())
            session.add(worker)
            session.flush()
            self.worker: uuid.UUID = worker.id
            job = Job(
                test_id=self.test, worker_id=worker.id, destination_id=self.place, kind="ping", target="192.0.2.1",
                spec={}, interval_us=10_000_000, anchor_us=0,
            )  # fmt: skip
            session.add(job)
            session.flush()
            self.job = job.id

    def runs(self, count: int) -> None:
        """Store runs, one a second, up to two minutes ago."""
        with Session(self.engine) as session, session.begin():
            rows = [
                {
                    "job_id": self.job, "scheduled_at": NOW - dt.timedelta(seconds=120 + index),
                    "started_at": NOW, "duration_ms": 0.5, "job_version": 1, "status": 1, "failure_source": 0,
                    "rtt_avg_ms": -float(index),
                }
                for index in range(count)
            ]  # fmt: skip
            session.execute(insert(results.table("ping")), rows)


@pytest.fixture
def ground(api: Api, engine: Engine) -> Ground:
    """The test."""
    return Ground(api, engine)


def test_a_report_from_asking_to_fetching(api: Api, engine: Engine, ground: Ground) -> None:
    """It waits, a task is queued with it, its file is sent to be saved, and it can be deleted."""
    ground.runs(20)
    answer = api("POST", "/reports", {"tests": [ground.test], "last": "7d"})
    assert answer.status_code == 202
    asked = answer.json
    assert (asked["state"], asked["title"], asked["made_by"]) == ("waiting", "Round trip", "token:a-admin")
    begin, end = (dt.datetime.fromisoformat(asked[name]) for name in ("start", "end"))
    assert end - begin == dt.timedelta(days=7)
    with engine.connect() as connection:
        queued = connection.execute(
            text("SELECT args, lock FROM procrastinate_jobs WHERE task_name = 'report'")
        ).one()
    assert queued == ({"report_id": asked["id"]}, "report")
    early = api("GET", f"/reports/{asked['id']}/file")
    assert (early.status_code, early.json["mend"]) == (409, "ask again in a moment")
    assert make_report(engine, asked["id"])
    shown = api("GET", f"/reports/{asked['id']}").json
    assert shown["state"] == "ready"
    assert api("GET", "/reports").json["items"] == [shown]
    sent = api("GET", f"/reports/{asked['id']}/file")
    assert sent.status_code == 200
    assert sent.mimetype == "application/pdf"
    assert sent.headers["X-Content-Type-Options"] == "nosniff"
    name = f"streamswarm-report-{asked['id']}-{end:%Y-%m-%d}.pdf"
    assert sent.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert len(sent.data) == shown["size"]
    assert api("DELETE", f"/reports/{asked['id']}").status_code == 204
    assert api("GET", f"/reports/{asked['id']}").status_code == 404
    actions = [entry["action"] for entry in api("GET", "/audit?object_type=report").json["items"]]
    assert actions == ["report.delete", "report.create"]


def ago(**more: float) -> str:
    """Return an instant so long ago."""
    return (NOW - dt.timedelta(**more)).isoformat()


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ({"tests": []}, "tests"),
        ({"tests": [4711]}, "tests[0]"),
        ({"tests": "all"}, "tests"),
        ({"last": "yesterday"}, "last"),
        ({"last": "0d"}, "last"),
        ({"last": "93d"}, "last"),
        ({"last": "7d", "from": ago(days=1)}, "last"),
        ({"to": ago(days=1)}, "from"),
        ({"from": ago(days=100)}, "from"),
        ({"from": ago(days=1), "to": ago(days=2)}, "to"),
        ({"from": ago(days=1), "to": ago(days=-1)}, "to"),
        ({"from": ago(days=-1)}, "to"),
        ({"from": "2026-01-01T00:00:00"}, "from"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_report_that_cannot_be_is_refused(
    api: Api, ground: Ground, asked: dict[str, Any], path: str
) -> None:
    """Each fault is named with its path, and nothing is queued."""
    answer = api("POST", "/reports", {"tests": [ground.test], **asked})
    assert answer.status_code == 422, answer.json
    assert path in [fault["path"] for fault in answer.json["errors"]]
    assert api("GET", "/reports").json["items"] == []


def test_a_report_over_results_that_have_expired_is_refused(api: Api, engine: Engine, ground: Ground) -> None:
    """It would call runs missing that were there; the answer says where a report can begin."""
    gone_before = NOW - dt.timedelta(days=2)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO expiries VALUES ('ping', 'raw', :at), ('dns', 'raw', now()), ('ping', '1h', now())"
            ),
            {"at": gone_before},
        )
    refused = api("POST", "/reports", {"tests": [ground.test], "last": "7d"})
    assert refused.status_code == 422
    assert f"results due before {gone_before.isoformat()} have expired" in str(refused.json)
    assert api("POST", "/reports", {"tests": [ground.test], "last": "24h"}).status_code == 202


def test_not_too_many_reports_wait(api: Api, ground: Ground) -> None:
    """Beyond the bound the answer says when to come back."""
    for _ in range(commands.MOST_PENDING):
        assert api("POST", "/reports", {"tests": [ground.test]}).status_code == 202
    refused = api("POST", "/reports", {"tests": [ground.test]})
    assert refused.status_code == 409
    assert "20 reports are waiting already" in refused.json["detail"]


def test_viewers_read_and_operators_make(app: Any, ground: Ground, token: Callable[..., str]) -> None:
    """Making a report costs the installation something; reading one does not."""
    viewer, operator = (Api(app.test_client(), token(role)) for role in ("viewer", "operator"))
    assert viewer("POST", "/reports", {"tests": [ground.test]}).status_code == 403
    made = operator("POST", "/reports", {"tests": [ground.test]}).json
    assert viewer("GET", f"/reports/{made['id']}").status_code == 200
    assert viewer("DELETE", f"/reports/{made['id']}").status_code == 403
    assert viewer("GET", f"/tests/{ground.test}/results.csv").status_code == 200


def test_runs_as_csv(api: Api, ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run once, over many pages, oldest first; names are no formulas and numbers are numbers."""
    ground.runs(257)
    monkeypatch.setattr(exports.runs_of, "__kwdefaults__", {"page": 50})
    answer = api("GET", f"/tests/{ground.test}/results.csv")
    assert answer.status_code == 200
    assert answer.is_streamed
    assert answer.mimetype == "text/csv"
    disposition = answer.headers["Content-Disposition"]
    assert disposition.startswith(f'attachment; filename="streamswarm-test-{ground.test}-')
    assert disposition.isascii()
    rows = list(csv.DictReader(io.StringIO(answer.get_data(as_text=True), newline="")))
    assert len(rows) == 257
    instants = [row["scheduled_at"] for row in rows]
    assert instants == sorted(set(instants))
    assert instants[-1] == f"{NOW - dt.timedelta(seconds=120):%Y-%m-%dT%H:%M:%S}.000000Z"
    assert {row["destination"] for row in rows} == {"'=Router"}
    assert [float(row["rtt_avg_ms [ms]"]) for row in rows] == [-float(index) for index in range(256, -1, -1)]
    assert {row["loss_pct [%]"] for row in rows} == {""}


def test_rows_of_a_repeated_group_as_csv(
    api: Api, ground: Ground, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line for each row of each run, over pages that end in the middle of one; keys are no formulas."""
    ground.runs(7)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO result_ping_by_address (job_id, scheduled_at, key, rtt_avg_ms) "
                "SELECT job_id, scheduled_at, key, 1.5 FROM result_ping, unnest(ARRAY['=a', 'b', 'c']) AS k (key)"
            )
        )
    monkeypatch.setattr(exports.rows_of, "__kwdefaults__", {"page": 4})
    answer = api("GET", f"/tests/{ground.test}/results.csv?child=by_address")
    assert answer.status_code == 200
    name = f'attachment; filename="streamswarm-test-{ground.test}-by_address-'
    assert answer.headers["Content-Disposition"].startswith(name)
    rows = list(csv.DictReader(io.StringIO(answer.get_data(as_text=True), newline="")))
    places = [(row["scheduled_at"], row["address"]) for row in rows]
    assert len(places) == 21
    assert [key for _, key in places] == ["'=a", "b", "c"] * 7
    assert [at for at, _ in places[::3]] == sorted({at for at, _ in places})
    assert {row["rtt_avg_ms [ms]"] for row in rows} == {"1.5"}
    assert {row["run_status"] for row in rows} == {"ok"}
    refused = api("GET", f"/tests/{ground.test}/results.csv?child=hops")
    assert refused.json["errors"] == [{"path": "child", "message": "`hops` is not one of by_address"}]


def test_csv_of_a_range(api: Api, ground: Ground) -> None:
    """The begin is included, the end is not; a range that cannot be is refused before anything is sent."""
    ground.runs(30)
    begin, end = (NOW - dt.timedelta(seconds=seconds) for seconds in (130, 125))
    query = {"from": begin.isoformat(), "to": end.isoformat()}
    answer = api("GET", f"/tests/{ground.test}/results.csv", query_string=query)
    assert answer.get_data(as_text=True).count("\r\n") == 1 + 5
    path = f"/tests/{ground.test}/results.csv"
    for wrong, at in (
        ("from=2030-01-02T00:00:00Z&to=2030-01-01T00:00:00Z", "to"),
        ("from=x", "from"),
        ("a=1", "a"),
    ):
        refused = api("GET", f"{path}?{wrong}")
        assert refused.status_code == 422
        assert refused.json["errors"][0]["path"] == at
    assert api("GET", "/tests/4711/results.csv").status_code == 404
