"""Destinations, tests, workers, tokens, users, audit and enrolment over the API."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
from sqlalchemy import Engine, text
from support.clients import Api, make_destination, make_test, paths


def deferred(engine: Engine, task: str = "plan") -> list[dict[str, Any]]:
    """Return the arguments of the tasks that wait."""
    with engine.connect() as connection:
        query = text("SELECT args FROM procrastinate_jobs WHERE task_name = :task ORDER BY id")
        return list(connection.execute(query, {"task": task}).scalars())


def test_a_destination_lives_its_life(api: Api) -> None:
    """Made, read, listed, changed, deleted; its address comes out in its canonical form."""
    answer = api(
        "POST", "/destinations", {"name": " Web ", "address": "WWW.Example.Org.", "tags": ["a", "b", "a"]}
    )
    assert answer.status_code == 201
    made = answer.json
    assert (made["name"], made["address"], made["tags"], made["version"], made["tests"]) == (
        "Web",
        "www.example.org",
        ["a", "b"],
        1,
        0,
    )
    assert made["created_at"].endswith("Z")
    assert answer.headers["ETag"] == '"1"'
    path = f"/destinations/{made['id']}"
    assert api("GET", path).json == made
    changed = api("PATCH", path, {"version": 1, "address": "https://example.org/x?y=1"})
    assert (changed.json["address"], changed.json["version"]) == ("https://example.org/x?y=1", 2)
    by_header = api("PATCH", path, {"description": "two\nlines"}, headers={"If-Match": '"2"'})
    assert by_header.json["description"] == "two\nlines"
    assert api("PATCH", path, {"version": 3, "tags": ["a", "b"]}).json["version"] == 3
    assert [item["id"] for item in api("GET", "/destinations?search=EXAMPLE&tag=b").json["items"]] == [
        made["id"]
    ]
    assert api("GET", "/destinations?search=%25").json["items"] == []
    assert api("DELETE", path).status_code == 204
    assert api("GET", path).status_code == 404
    assert api("GET", "/destinations").json["items"] == []
    assert make_destination(api, "Web") != made["id"]


def test_a_change_based_on_an_old_version_is_refused(api: Api, engine: Engine) -> None:
    """Nobody's change is overwritten unseen: 409 on destinations and tests, 428 when no version is sent."""
    test = make_test(api)
    for path in (f"/destinations/{test['destinations'][0]['id']}", f"/tests/{test['id']}"):
        assert api("PATCH", path, {"version": 1, "description": "first"}).status_code == 200
        answer = api("PATCH", path, {"version": 1, "description": "second"})
        assert answer.status_code == 409
        assert "is at version 2, not 1" in answer.json["detail"]
        assert answer.json["mend"]
        assert api("GET", path).json["description"] == "first"
        assert api("PATCH", path, {"description": "x"}).status_code == 428


def test_names_are_unique_whatever_their_case(api: Api) -> None:
    """The second gets 409 with the name; a renaming too; and nothing half-done stays."""
    make_destination(api, "One")
    other = make_destination(api, "Two")
    answer = api("POST", "/destinations", {"name": "ONE", "address": "192.0.2.2"})
    assert (answer.status_code, "named `ONE`" in answer.json["detail"]) == (409, True)
    assert api("PATCH", f"/destinations/{other}", {"version": 1, "name": "one"}).status_code == 409
    assert api("GET", f"/destinations/{other}").json["version"] == 1
    test = make_test(api, destinations=[other])
    assert api("POST", "/tests", {"name": "t", "kind": "system", "interval_s": 5}).status_code == 409
    assert api("DELETE", f"/tests/{test['id']}").status_code == 204
    assert api("POST", "/tests", {"name": "t", "kind": "system", "interval_s": 5}).status_code == 201


def test_a_destination_in_use_stays_and_keeps_a_form_that_its_tests_can_use(api: Api, engine: Engine) -> None:
    """Deleting names the tests; an address that a test's kind cannot use names the test; a good one is planned."""
    destination = make_destination(api)
    test = make_test(api, name="Needs it", destinations=[destination])
    path = f"/destinations/{destination}"
    refused = api("DELETE", path)
    assert (refused.status_code, "`Needs it`" in refused.json["detail"]) == (409, True)
    unusable = api("PATCH", path, {"version": 1, "address": "https://example.org/"})
    assert (unusable.status_code, "`Needs it`" in unusable.json["detail"]) == (409, True)
    assert api("PATCH", path, {"version": 1, "address": "192.0.2.77"}).status_code == 200
    assert deferred(engine) == [{"test_id": test["id"]}, {"destination_id": destination}]
    assert api("DELETE", f"/tests/{test['id']}").status_code == 204
    assert api("DELETE", path).status_code == 204


def test_a_test_lives_its_life(api: Api, engine: Engine) -> None:
    """Made with defaults filled in, changed, paused, resumed, run, deleted; each change is planned."""
    made = make_test(api, spec={"count": "4"}, tags=["x"])
    assert made["spec"]["count"] == 4
    assert made["spec"].keys() > {"count"}
    assert made["selection"] == {"all": True}
    assert (made["state"], made["paused"], made["version"], made["jobs"]) == ("active", False, 1, 0)
    assert made["created_by"] == "token:a-admin"
    path = f"/tests/{made['id']}"
    changed = api("PATCH", path, {"version": 1, "interval_s": 10.5, "spec": {"count": 2}})
    assert (changed.json["interval_s"], changed.json["spec"]["count"]) == (10.5, 2)
    paused = api("POST", f"{path}/pause").json
    assert (paused["paused"], paused["state"], paused["version"]) == (True, "paused", 3)
    assert api("POST", f"{path}/pause").json["version"] == 3
    assert api("GET", "/tests?paused=true&kind=ping&tag=x").json["items"][0]["id"] == made["id"]
    assert api("GET", "/tests?paused=false").json["items"] == []
    assert api("POST", f"{path}/resume", {}).json["paused"] is False
    run = api("POST", f"{path}/run")
    assert (run.status_code, run.json["requested_at"][-1]) == (202, "Z")
    assert [item["test_id"] for item in deferred(engine, "run_now")] == [made["id"]]
    past = api("PATCH", path, {"version": 4, "ends_at": "2020-01-01T00:00:00+01:00"})
    assert past.status_code == 422
    assert [fault["path"] for fault in past.json["errors"]] == ["ends_at"]
    end = dt.datetime.now(dt.UTC).isoformat()
    assert api("PATCH", path, {"version": 4, "ends_at": end}).json["state"] == "ended"
    assert api("PATCH", path, {"version": 5, "ends_at": end, "interval_s": 20}).json["version"] == 6
    assert api("POST", f"{path}/run").status_code == 409
    assert api("DELETE", path).status_code == 204
    assert api("GET", path).status_code == 404
    assert deferred(engine) == [{"test_id": made["id"]}]  # merged: no keeper has run meanwhile
    with engine.connect() as connection:
        row = connection.execute(text("SELECT deleted_at IS NOT NULL, version FROM tests")).one()
    assert tuple(row) == (True, 7)


def test_a_test_is_deleted_with_its_data_when_asked(api: Api, engine: Engine) -> None:
    """Only `true` has the results removed, and the audit log says so; anything odd is refused."""
    first, second = (make_test(api, name=name, kind="system", destinations=[]) for name in ("a", "b"))
    assert api("DELETE", f"/tests/{first['id']}?with_data=perhaps").status_code == 422
    assert api("DELETE", f"/tests/{first['id']}?with_data=true").status_code == 204
    assert api("DELETE", f"/tests/{second['id']}?with_data=false").status_code == 204
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT data_deleted_at IS NOT NULL FROM tests WHERE deleted_at IS NOT NULL ORDER BY id")
        ).scalars()
        assert list(rows) == [True, False]
        told = connection.execute(
            text("SELECT detail -> 'with_data' FROM audit WHERE action = 'test.delete' ORDER BY id")
        ).scalars()
        assert list(told) == [True, None]


def test_every_fault_of_a_test_is_told_at_once_with_its_path(api: Api, worker: str) -> None:
    """Unknown fields, limits of parameters, destinations that do not suit the kind, spans, selections."""
    url = make_destination(api, "URL", "https://example.org/")
    faults = paths(
        api(
            "POST",
            "/tests",
            {
                "name": "",
                "kind": "ping",
                "colour": "red",
                "interval_s": 0.5,
                "spec": {"count": 10**9, "nonsense": 1},
                "destinations": [url, 4711, url, "x"],
                "starts_at": "2030-01-02T00:00:00Z",
                "ends_at": "2030-01-01T00:00:00Z",
                "selection": {"workers": [str(uuid.UUID(int=7)), "w"], "planets": []},
                "tags": ["a b"],
                "paused": "maybe",
            },
        )
    )
    assert set(faults) == {
        "colour",
        "name",
        "interval_s",
        "spec.count",
        "spec.nonsense",
        "destinations[2]",
        "destinations[3]",
        "ends_at",
        "selection.workers[0]",
        "selection.workers[1]",
        "selection.planets",
        "tags[0]",
        "paused",
    }
    assert "between 1 and" in faults["interval_s"]
    faults = paths(api("POST", "/tests", {"name": "x", "kind": "ping", "destinations": [url, 4711]}))
    assert set(faults) == {"destinations[0]", "destinations[1]"}
    assert set(paths(api("POST", "/tests", {"name": "x", "kind": "ping"}))) == {"destinations"}
    assert set(paths(api("POST", "/tests", {"name": "x", "kind": "system", "destinations": [url]}))) == {
        "destinations"
    }
    assert "there are ping" in paths(api("POST", "/tests", {"name": "x", "kind": "pong"}))["kind"]
    assert set(paths(api("POST", "/tests", {"name": "x", "kind": "system", "selection": {}}))) == {
        "selection"
    }
    naive = {"name": "x", "kind": "system", "starts_at": "2030-01-01T00:00:00"}
    assert "lacks its zone" in paths(api("POST", "/tests", naive))["starts_at"]
    assert api("GET", "/tests").json["items"] == []


def test_the_kind_of_a_test_is_for_good(api: Api) -> None:
    """Results hang on it; everything else that is not sent stays as it is."""
    made = make_test(api, tags=["keep"])
    path = f"/tests/{made['id']}"
    assert list(paths(api("PATCH", path, {"version": 1, "kind": "tcp"}))) == ["kind"]
    same = api("PATCH", path, {"version": 1, "kind": "ping", "name": "Renamed"}).json
    assert {**made, "name": "Renamed", "version": 2, "updated_at": same["updated_at"]} == same


def test_workers_are_selected_by_what_they_are(api: Api, worker: str) -> None:
    """A selection keeps ids, sites, groups and labels in one form."""
    selection = {"workers": [worker.upper()], "sites": ["berlin"], "labels": {"os": "linux"}, "groups": []}
    made = make_test(api, selection=selection)
    assert made["selection"] == {"workers": [worker], "sites": ["berlin"], "labels": {"os": "linux"}}
    both = {"version": 1, "selection": {"all": True, "sites": ["berlin"]}}
    assert list(paths(api("PATCH", f"/tests/{made['id']}", both))) == ["selection"]


def test_a_worker_lives_its_life(api: Api, worker: str, engine: Engine) -> None:
    """Listed, renamed, moved, revoked, deleted; a move is planned, and a revocation ends its certificates."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO certificates (serial, worker_id, not_before, not_after) VALUES ('ab', :id, now(), now())"
            ),
            {"id": worker},
        )
    (listed,) = api("GET", "/workers?site=berlin&search=ALPHA").json["items"]
    assert (listed["id"], listed["state"], listed["jobs_current"]) == (worker, "offline", True)
    assert api("GET", "/workers?connected=true").json["items"] == []
    path = f"/workers/{worker}"
    renamed = api("PATCH", path, {"name": "Beta"})
    assert renamed.json["name"] == "Beta"
    assert deferred(engine) == []
    moved = api("PATCH", path, {"site": "", "labels": {"rack": "7"}, "groups": ["edge"]}).json
    assert (moved["site"], moved["labels"], moved["groups"]) == ("", {"rack": "7"}, ["edge"])
    assert deferred(engine) == [{"worker_id": worker}]
    assert [item["name"] for item in api("GET", "/workers?label=rack=7").json["items"]] == ["Beta"]
    assert set(paths(api("PATCH", path, {"host_name": "x", "labels": {"a": 1}}))) == {"host_name", "labels.a"}
    assert api("POST", f"{path}/revoke").json["state"] == "revoked"
    assert api("POST", f"{path}/revoke").status_code == 200
    with engine.connect() as connection:
        assert connection.execute(text("SELECT revoked_at FROM certificates")).scalar_one() is not None
        revocations = connection.execute(text("SELECT count(*) FROM audit WHERE action = 'worker.revoke'"))
        assert revocations.scalar_one() == 1
    assert api("DELETE", path).status_code == 204
    assert api("GET", path).status_code == 404
    assert api("GET", "/workers").json["items"] == []


@pytest.mark.parametrize("with_data", [True, False])
def test_a_worker_is_deleted_with_its_data_when_asked(
    api: Api, worker: str, engine: Engine, with_data: bool
) -> None:
    """Only `true` has the results removed, and the audit log says so; anything odd is refused."""
    path = f"/workers/{worker}"
    assert api("DELETE", f"{path}?with_data=perhaps").status_code == 422
    assert api("DELETE", f"{path}?data=true").status_code == 422
    assert api("DELETE", f"{path}?with_data={str(with_data).lower()}").status_code == 204
    assert api("DELETE", f"{path}?with_data=true").status_code == 404
    with engine.connect() as connection:
        row = connection.execute(text("SELECT deleted_at, revoked_at, data_deleted_at FROM workers")).one()
        told = connection.execute(
            text("SELECT detail FROM audit WHERE action = 'worker.delete'")
        ).scalar_one()
    assert [value is not None for value in row] == [True, True, with_data]
    assert told.get("with_data", False) is with_data


def test_a_connected_worker_is_one_whose_gateway_is_alive(api: Api, worker: str, engine: Engine) -> None:
    """The session of a gateway that has fallen silent counts for nothing."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "WITH p AS (INSERT INTO processes (role, name, host_name, pid, version) "
                "VALUES ('gateway', 'g', 'h', 1, '0') RETURNING id) UPDATE workers SET gateway_id = p.id FROM p"
            )
        )
    assert api("GET", f"/workers/{worker}").json["state"] == "connected"
    assert api("GET", "/overview").json["workers_connected"] == 1
    with engine.begin() as connection:
        connection.execute(text("UPDATE processes SET heartbeat_at = now() - interval '1 minute'"))
    assert api("GET", f"/workers/{worker}").json["state"] == "offline"
    assert api("GET", "/workers?connected=false").json["items"][0]["id"] == worker


def test_health_tells_everybody_whether_and_the_logged_in_why(
    api: Api, stranger: Api, worker: str, engine: Engine
) -> None:
    """503 until a gateway, a keeper and a worker are there; then 200. Reasons and processes need a login."""
    down = stranger("GET", "/health")
    assert down.status_code == 503
    assert down.json == {
        "status": "down",
        "components": {"database": "ok", "gateway": "down", "keeper": "down", "worker": "down", "web": "ok"},
    }
    with engine.begin() as connection:
        for role in ("gateway", "keeper"):
            connection.execute(
                text(
                    "INSERT INTO processes (role, name, host_name, pid, version, gauges) "
                    "VALUES (:role, 'one', 'h', 1, '0', '{\"sessions\": 1}')"
                ),
                {"role": role},
            )
        connection.execute(
            text("UPDATE workers SET gateway_id = (SELECT id FROM processes WHERE role = 'gateway')")
        )
    well = stranger("GET", "/health")
    assert (well.status_code, well.json["status"]) == (200, "ok")
    assert set(well.json) == {"status", "components"}
    told = api("GET", "/health").json
    assert [process["role"] for process in told["processes"]] == ["gateway", "keeper"]
    assert told["details"]["worker"]["alive"] == 1


def test_lists_are_read_page_by_page_while_they_change(api: Api) -> None:
    """A cursor goes on behind the last row seen, by name, whatever came or went meanwhile."""
    for name in ("delta", "Alpha", "charlie", "Bravo", "\u00c4gir"):
        make_destination(api, name)
    first = api("GET", "/destinations?limit=2").json
    names = [item["name"] for item in first["items"]]
    make_destination(api, "0 before all")
    api("DELETE", f"/destinations/{first['items'][1]['id']}")
    cursor = first["next_cursor"]
    while cursor:
        page = api("GET", f"/destinations?limit=2&cursor={cursor}").json
        names += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert sorted(names) == sorted(["Alpha", "Bravo", "charlie", "delta", "\u00c4gir"])
    assert len(names) == 5


def test_kinds_come_from_the_contract(api: Api) -> None:
    """Parameters with limits and metrics with units, for whoever builds a form or a client."""
    kinds = {kind["name"]: kind for kind in api("GET", "/kinds").json["items"]}
    assert {"ping", "tcp", "dns", "http", "system"} <= kinds.keys()
    count = next(parameter for parameter in kinds["ping"]["parameters"] if parameter["name"] == "count")
    assert (count["type"], count["min"] >= 1, count["default"] >= 1) == ("integer", True, True)
    assert api("GET", "/kinds/ping").json == kinds["ping"]
    assert api("GET", "/kinds/pong").status_code == 404


def test_numbers_may_come_as_text(api: Api) -> None:
    """As forms send them; answers have numbers."""
    made = make_test(api, interval_s="5", spec={"count": "5"})
    assert (made["interval_s"], made["spec"]["count"]) == (5, 5)


def test_a_drained_worker_is_a_state_of_its_own(api: Api, worker: str, engine: Engine) -> None:
    """With since when and by whom, once however often it is told; resumed it is offline until it connects."""
    path = f"/workers/{worker}"
    drained = api("POST", f"{path}/drained").json
    assert (drained["state"], bool(drained["drained_at"])) == ("drained", True)
    assert drained["drained_by"].startswith("token:")
    assert api("POST", f"{path}/drained").json["drained_at"] == drained["drained_at"]
    assert api("GET", "/overview").json["workers_drained"] == 1
    resumed = api("POST", f"{path}/resumed").json
    assert (resumed["state"], resumed["drained_at"], resumed["drained_by"]) == ("offline", None, "")
    assert api("POST", f"{path}/resumed").status_code == 200
    with engine.connect() as connection:
        told = connection.execute(text("SELECT action FROM audit WHERE action LIKE 'worker.%' ORDER BY id"))
        assert list(told.scalars()) == ["worker.drained", "worker.resumed"]
    assert api("POST", f"{path}/drained").json["state"] == "drained"
    assert api("POST", f"{path}/revoke").json["state"] == "revoked"
    assert api("POST", f"{path}/drained").status_code == 409
