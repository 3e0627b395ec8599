"""Operations over the API: asking a keeper, watching, cancelling, and telling of one that runs elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session
from support.clients import Api

from controller.store.commands import operations as commands
from controller.store.commands.audit import SYSTEM
from controller.store.queries.users import Role


def begin(api: Api, *hosts: str, **values: Any) -> dict[str, Any]:
    """Begin one that the caller runs."""
    answer = api("POST", "/operations/begun", {"kind": "upgrade", "hosts": list(hosts), **values})
    assert answer.status_code == 201, answer.json
    made: dict[str, Any] = answer.json
    return made


def test_asking_a_keeper_and_cancelling(api: Api, engine: Engine) -> None:
    """It is queued with its task; cancelled it is over, and both stand in the audit log."""
    answer = api("POST", "/operations", {"kind": "remove", "limit": "oslo", "options": {"wait": 5}})
    assert answer.status_code == 202
    asked = answer.json
    assert (asked["state"], asked["limit"], asked["options"], asked["made_by"]) == (
        "queued", "oslo", {"wait": 5}, "token:a-admin",
    )  # fmt: skip
    with engine.connect() as connection:
        queued = connection.execute(text("SELECT task_name FROM procrastinate_jobs")).scalars().all()
    assert queued == ["operation"]
    assert api("GET", "/operations?kind=remove&state=queued").json["items"] == [asked]
    assert api("GET", "/operations?kind=verify").json["items"] == []
    assert api("POST", f"/operations/{asked['id']}/cancel").json["state"] == "cancelled"
    assert api("POST", f"/operations/{asked['id']}/cancel").status_code == 409
    actions = [entry["action"] for entry in api("GET", "/audit?object_type=operation").json["items"]]
    assert actions == ["operation.cancel", "operation.start"]


def test_telling_of_one_that_runs_elsewhere(api: Api) -> None:
    """From its beginning to its end, as the command line does it."""
    made = begin(api, "a", "b", limit="all", forks=3)
    path, version = f"/operations/{made['id']}", made["version"]
    assert (made["state"], made["by_keeper"], made["forks"]) == ("running", False, 3)
    told = api(
        "POST",
        f"{path}/events",
        {
            "version": version,
            "events": [
                {"host": "a", "task": "Unpack", "state": "changed", "at": "2026-03-01T12:00:00Z"},
                {"host": "b", "task": "Unpack", "state": "failed", "message": "disk full\nfree some"},
            ],
        },
    )
    assert told.json == {"standing": "goes_on"}
    events = api("GET", f"{path}/events?limit=1")
    assert [event["host"] for event in events.json["items"]] == ["a"]
    rest = api("GET", f"{path}/events?cursor={events.json['next_cursor']}").json
    assert [event["message"] for event in rest["items"]] == ["disk full\nfree some"]
    assert api("GET", "/operations?host=b").json["items"][0]["id"] == made["id"]
    assert api("POST", f"{path}/cancel").json["state"] == "running"
    outcomes = [{"host": "a", "state": "ok", "changed": 1}, {"host": "b", "state": "failed", "changed": 0}]
    told = api("POST", f"{path}/events", {"version": version, "hosts": outcomes})
    assert told.json == {"standing": "cancelled"}
    ended = api("POST", f"{path}/finish", {"version": version, "state": "cancelled", "error": "by hand"})
    assert (ended.json["state"], ended.json["error"]) == ("cancelled", "by hand")
    assert [host["state"] for host in api("GET", f"{path}/hosts").json["items"]] == ["ok", "failed"]
    assert api("POST", f"{path}/events", {"version": version}).json == {"standing": "lost"}
    assert api("POST", f"{path}/finish", {"version": version, "state": "failed"}).status_code == 409


def test_a_rollback_that_is_told_of_can_be_cancelled(api: Api) -> None:
    """It is only said to be one; it is in the history as any other."""
    made = begin(api, "a", kind="rollback")
    assert api("POST", f"/operations/{made['id']}/cancel").status_code == 200
    told = {"version": made["version"], "events": []}
    assert api("POST", f"/operations/{made['id']}/events", told).json == {"standing": "cancelled"}
    assert [found["id"] for found in api("GET", "/operations?kind=rollback&host=a").json["items"]] == [
        made["id"]
    ]


def test_what_belongs_to_an_upgrade_is_found_by_it(api: Api, engine: Engine) -> None:
    """A keeper's upgrade has what it judged as operations of their own; nobody says of his own that it belongs to one."""
    asked = api("POST", "/operations", {"kind": "upgrade", "limit": "a"}).json
    with Session(engine) as session, session.begin():
        claim = commands.take_up(session, asked["id"])
        assert claim is not None
        judged = commands.begin(session, {"kind": "judge", "hosts": ["a"]}, actor=SYSTEM, part_of=claim)
    begin(api, "b")
    [found] = api("GET", f"/operations?part_of={asked['id']}").json["items"]
    assert (found["id"], found["kind"], found["part_of"]) == (judged.id, "judge", asked["id"])
    assert api("GET", f"/operations/{asked['id']}").json["part_of"] is None
    assert api("GET", f"/operations?part_of={judged.id}").json["items"] == []
    assert api("GET", "/operations?part_of=a").status_code == 422
    body = {"kind": "judge", "hosts": ["c"], "part_of": asked["id"]}
    assert api("POST", "/operations/begun", body).status_code == 422


def test_steps_of_an_upgrade_over_the_command_line_belong_to_the_first(
    api: Api, app: Flask, token: Callable[[Role], str]
) -> None:
    """Who began that says so, and nobody else; what is asked of a keeper, and a further step, have no steps like these."""
    first = begin(api, "a")
    end = {"version": first["version"], "state": "succeeded"}
    assert api("POST", f"/operations/{first['id']}/finish", end).status_code == 200
    judged = begin(api, "a", kind="judge", part_of=first["id"])
    second = begin(api, "b", part_of=first["id"])
    assert (first["part_of"], judged["part_of"], second["part_of"]) == (None, first["id"], first["id"])
    assert second["by_keeper"] is False
    found = api("GET", f"/operations?part_of={first['id']}").json["items"]
    assert [each["id"] for each in found] == [second["id"], judged["id"]]
    asked = api("POST", "/operations", {"kind": "upgrade", "limit": "c"}).json
    others = begin(Api(app.test_client(), token("operator")), "c")
    for number in (judged["id"], asked["id"], others["id"], 4711, 0, "1", True):
        body = {"kind": "judge", "hosts": ["d"], "part_of": number}
        answer = api("POST", "/operations/begun", body)
        assert answer.status_code == 422, number
        assert [error["path"] for error in answer.json["errors"]] == ["part_of"]
    assert begin(api, "d", part_of=None)["part_of"] is None


def test_two_at_once_on_a_host(api: Api) -> None:
    """The second is told which operation is in its way."""
    made = begin(api, "a")
    answer = api("POST", "/operations/begun", {"kind": "verify", "hosts": ["b", "a"]})
    assert answer.status_code == 409
    assert f"operation {made['id']} (upgrade) works on a" in answer.json["detail"]


def test_nobody_else_tells_of_it(api: Api, app: Flask, token: Callable[[Role], str]) -> None:
    """Another token, however much it may do, cannot write into it."""
    made = begin(Api(app.test_client(), token("operator")), "a")
    for call, body in (("events", {}), ("finish", {"state": "succeeded"})):
        answer = api("POST", f"/operations/{made['id']}/{call}", {"version": made["version"], **body})
        assert answer.status_code == 409


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "version"),
        ({"version": True}, "version"),
        ({"version": 2, "events": [7]}, "events[0]"),
        ({"version": 2, "events": [{"host": "", "state": "ok"}]}, "events[0].host"),
        ({"version": 2, "events": [{"host": "a", "state": "burnt"}]}, "events[0].state"),
        ({"version": 2, "events": [{"host": "a", "state": "ok", "size": 1}]}, "events[0].size"),
        ({"version": 2, "hosts": [{"host": "a", "state": "ok", "changed": -1}]}, "hosts[0].changed"),
    ],
)
def test_what_is_told_is_checked(api: Api, body: dict[str, Any], path: str) -> None:
    """Every fault is named with its place."""
    made = begin(api, "a")
    answer = api("POST", f"/operations/{made['id']}/events", body)
    assert answer.status_code == 422
    assert [error["path"] for error in answer.json["errors"]] == [path]


def test_what_was_judged_is_told_in_numbers(api: Api) -> None:
    """As it was said, in its order; a number that is none is refused where it stands."""
    made = begin(api, "edge-1", kind="judge")
    path = f"/operations/{made['id']}"
    figure = {
        "kind": "ping",
        "quantity": "RTT average",
        "unit": "ms",
        "before": 10.0,
        "after": 14.5,
        "worse": True,
    }
    whole = {**figure, "where": "", "others": 2, "others_before": 9.5, "others_after": None}
    assert api("GET", f"{path}/figures").json == {"items": [], "next_cursor": None}
    end = {"version": made["version"], "state": "failed"}
    for wrong, at in (
        ({**figure, "before": "much"}, "figures[0].before"),
        ({**figure, "after": 1e300}, "figures[0].after"),
        ({"kind": "ping", "quantity": "x", "before": 1}, "figures[0].after"),
        ({**figure, "colour": "red"}, "figures[0].colour"),
    ):
        answer = api("POST", f"{path}/finish", {**end, "figures": [wrong]})
        assert answer.status_code == 422
        assert at in {problem["path"] for problem in answer.json["errors"]}
    assert api("POST", f"{path}/finish", {**end, "figures": [whole, figure]}).status_code == 200
    items = api("GET", f"{path}/figures").json["items"]
    assert items == [whole, {**figure, "where": "", "others": 0, "others_before": None, "others_after": None}]
    assert "figures" not in api("GET", path).json
    assert api("GET", "/operations/4711/figures").status_code == 404
