"""What becomes of tests over the REST API: when they end, what is not planned, when they are due, which runs came."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session
from support.clients import Api, make_destination, make_test, paths

from controller.store.commands import tests as commands


def test_a_test_that_ran_once_has_ended(api: Api, worker: str, engine: Engine) -> None:
    """Active until it is planned and while a job is left; then ended, in the overview too, until it is run again."""
    made = make_test(api, interval_s=None)
    path = f"/tests/{made['id']}"
    assert api("GET", path).json["state"] == "active"
    with engine.begin() as connection:
        connection.execute(text("UPDATE tests SET planned_version = version"))
        job = connection.execute(
            text(
                "INSERT INTO jobs (test_id, worker_id, destination_id, kind, spec, interval_us, anchor_us, one_shot) "
                "SELECT t.id, :worker, d.destination_id, t.kind, t.spec, 0, 0, true "
                "FROM tests t JOIN test_destinations d ON d.test_id = t.id RETURNING id"
            ),
            {"worker": worker},
        ).scalar_one()
    shown = api("GET", path).json
    assert (shown["state"], shown["finished"], shown["jobs"]) == ("active", False, 1)
    with engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET retired_at = now() WHERE id = :id"), {"id": job})
    shown = api("GET", path).json
    assert (shown["state"], shown["finished"], shown["jobs"]) == ("ended", True, 0)
    figures = api("GET", "/overview").json
    assert (figures["tests_total"], figures["tests_active"], figures["tests_ended"]) == (1, 0, 1)
    with engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET retired_at = NULL WHERE id = :id"), {"id": job})
    assert api("GET", path).json["state"] == "active"


def test_a_test_that_nobody_could_run_once_ends_when_its_time_is_over(api: Api, engine: Engine) -> None:
    """Without any job it waits for a worker for ten minutes."""
    made = make_test(api, interval_s=None)
    with engine.begin() as connection:
        connection.execute(text("UPDATE tests SET planned_version = version"))
    assert api("GET", f"/tests/{made['id']}").json["state"] == "active"
    with engine.begin() as connection:
        connection.execute(text("UPDATE tests SET created_at = now() - interval '11 minutes'"))
    assert api("GET", f"/tests/{made['id']}").json["state"] == "ended"


def test_what_is_not_planned_is_told_with_its_reason(api: Api, worker: str, engine: Engine) -> None:
    """Which worker, why, and what mends it; nothing when all is planned."""
    made = make_test(api)
    path = f"/tests/{made['id']}"
    assert api("GET", path).json["unplanned"] == []
    announced = '{"ping": {"available": false, "reason": "no ICMP sockets", "mend": "sysctl -w it"}}'
    with engine.begin() as connection:
        connection.execute(text("UPDATE workers SET kinds = CAST(:kinds AS jsonb)"), {"kinds": announced})
    assert api("GET", path).json["unplanned"] == [
        {
            "worker": "Alpha",
            "destination": None,
            "reason": "the worker cannot run `ping`: no ICMP sockets",
            "mend": "sysctl -w it",
        }
    ]


def test_schedules_over_the_api(api: Api) -> None:
    """Cron, zone, windows, count and recurrence are stored, answered and changed; faults have their paths."""
    place = make_destination(api)
    made = make_test(
        api,
        destinations=[place],
        interval_s=None,
        cron="0  9 * * 1-5",
        zone="Asia/Kathmandu",
        windows=[{"from": "08:00", "to": "24:00"}],
        max_runs=20,
        recurrence="new_test",
    )
    assert (made["cron"], made["zone"], made["interval_s"]) == ("0 9 * * 1-5", "Asia/Kathmandu", None)
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    assert made["windows"] == [{"days": days, "from": "08:00", "to": "24:00"}]
    assert (made["max_runs"], made["recurrence"], made["origin_id"]) == (20, "new_test", None)
    changed = api(
        "PATCH",
        f"/tests/{made['id']}",
        {"version": 1, "cron": None, "interval_s": 60, "recurrence": "continue"},
    )
    assert changed.status_code == 200, changed.json
    assert (changed.json["cron"], changed.json["interval_s"], changed.json["max_runs"]) == ("", 60, 20)
    refused = api(
        "PATCH",
        f"/tests/{made['id']}",
        {
            "version": 2,
            "cron": "* * *",
            "zone": "Mars",
            "windows": [{"from": "09:00", "to": "09:00"}],
            "max_runs": 0,
        },
    )
    assert refused.status_code == 422
    assert {fault["path"] for fault in refused.json["errors"]} == {
        "cron",
        "zone",
        "windows[0].to",
        "max_runs",
    }
    assert api("GET", f"/tests?origin={made['id']}").json["items"] == []


def test_tests_made_for_one_run_can_be_told_apart(api: Api, engine: Engine) -> None:
    """All are listed unless asked otherwise; the overview counts them apart."""
    place = make_destination(api)
    origin, run = (
        make_test(api, name=name, destinations=[place])["id"] for name in ("Nightly", "Nightly, 1")
    )
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE tests SET origin_id = :origin, origin_at = now() WHERE id = :run"),
            {"origin": origin, "run": run},
        )

    def listed(query: str) -> list[int]:
        return [item["id"] for item in api("GET", f"/tests{query}").json["items"]]

    assert listed("") == [origin, run]
    assert listed("?made_for_run=true") == [run]
    assert listed("?made_for_run=false") == [origin]
    figures = api("GET", "/overview").json
    assert (figures["tests_total"], figures["tests_made_for_runs"]) == (1, 1)


def test_accounts_over_the_api(api: Api) -> None:
    """A test without jobs has none; the range ends a minute ago, and a bad one is refused."""
    made = make_test(api, destinations=[make_destination(api)])
    answer = api("GET", f"/tests/{made['id']}/accounts")
    assert answer.status_code == 200, answer.json
    assert answer.json["items"] == []
    assert answer.json["from"] == answer.json["counted_from"] < answer.json["to"]
    refused = api("GET", f"/tests/{made['id']}/accounts?from=2030-01-02T00:00:00Z&to=2030-01-01T00:00:00Z")
    assert paths(refused) == {"to": paths(refused)["to"]}
    assert api("GET", "/tests/4711/accounts").status_code == 404


def test_a_run_now_that_came_to_nothing_is_told(api: Api, engine: Engine) -> None:
    """With its reason, until it is asked for again."""
    made = make_test(api, destinations=[make_destination(api)])
    path = f"/tests/{made['id']}"
    assert api("GET", path).json["run_failed"] is None
    requested = dt.datetime.fromisoformat(api("POST", f"{path}/run").json["requested_at"])
    with Session(engine) as session, session.begin():
        commands.run_failed(session, made["id"], requested, reason="there is no worker")
    told = api("GET", path).json["run_failed"]
    assert told["reason"] == "there is no worker"
    assert dt.datetime.fromisoformat(told["requested_at"]) == requested
    api("POST", f"{path}/run")
    assert api("GET", path).json["run_failed"] is None


def test_what_a_test_would_come_to_is_told_before_it_is_made(api: Api, worker: str) -> None:
    """Jobs, load and who is left out; what is wrong is told as when it is made; nothing is made."""
    places = [make_destination(api, name) for name in ("One", "Two")]
    asked = {"name": "a", "kind": "ping", "destinations": places, "interval_s": 60, "spec": {"count": 1}}
    answer = api("POST", "/tests/preview", asked)
    assert answer.status_code == 200
    assert answer.json == {"jobs": 2, "workers": 1, "destinations": 2, "runs_per_day": 2880, "left_out": []}
    once = api("POST", "/tests/preview", {**asked, "interval_s": None}).json
    assert (once["jobs"], once["runs_per_day"]) == (2, 2)
    nobody = api("POST", "/tests/preview", {**asked, "selection": {"sites": ["nowhere"]}}).json
    assert (nobody["jobs"], nobody["left_out"]) == (
        0, [{"reason": "its selection takes no worker", "count": 1}],
    )  # fmt: skip
    wrong = api("POST", "/tests/preview", {**asked, "destinations": [999], "spec": {"count": 0}})
    assert wrong.status_code == 422
    assert set(paths(wrong)) == {"destinations[0]", "spec.count"}
    assert api("GET", "/tests").json["items"] == []
