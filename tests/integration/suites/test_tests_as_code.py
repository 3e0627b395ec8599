"""`streamswarm plan`, `apply` and `export` against the real API on a real database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from support.dashboard import serving

from controller.cli.client import Client
from controller.cli.main import cli
from controller.errors import ConflictError
from controller.settings import Settings
from controller.store.commands import tokens
from controller.store.commands.audit import SYSTEM
from controller.suites import suite as suites
from controller.suites.applying import apply
from controller.suites.changes import compare
from controller.suites.state import read_state
from web import create_app

SUITE = """\
suite: Office edge
destinations:
  - name: Router
    address: 192.0.2.1
    tags: [office]
tests:
  - name: Router answers
    kind: ping
    destinations: [Router, 192.0.2.2]
    spec: {count: 5}
    interval_s: 10
    assert: rtt_avg_ms < 20
  - name: Host
    kind: system
    interval_s: 60
"""


@dataclass
class Controller:
    """A controller's API, and a folder to work in."""

    folder: Path
    environment: dict[str, str]
    client: Client

    def run(self, command: str, text: str | None = None, *options: str) -> Result:
        """Call the command line with a suite."""
        words = [command]
        if text is not None:
            file = self.folder / "suite.yaml"
            file.write_text(text)
            words.append(str(file))
        return CliRunner().invoke(cli, [*words, *options], env=self.environment)

    def tests(self) -> dict[str, dict[str, Any]]:
        """All tests by name."""
        return {item["name"]: item for item in self.client.items("/tests")}

    def destinations(self) -> dict[str, dict[str, Any]]:
        """All destinations by name."""
        return {item["name"]: item for item in self.client.items("/destinations")}


@pytest.fixture
def controller(settings: Settings, engine: Engine, tmp_path: Path) -> Iterator[Controller]:
    """The API on loopback, with an operator's token."""
    app = create_app(settings)
    with Session(engine) as session, session.begin():
        values = {"name": "ci", "scope": "operator"}
        _, token = tokens.create(session, values, actor=SYSTEM, user_id=None, role="admin")
    with serving(app) as url:
        client = Client(url, token, through_proxies=False)
        yield Controller(
            tmp_path, {"STREAMSWARM_URL": url, "STREAMSWARM_TOKEN": token, "NO_PROXY": "*"}, client
        )
        client.close()
    app.extensions["streamswarm.engine"].dispose()


def test_a_suite_becomes_tests_and_changes_nothing_twice(controller: Controller) -> None:
    """Plan shows, apply makes, a second plan finds nothing to do."""
    planned = controller.run("plan", SUITE, "--exit-code")
    assert planned.exit_code == 3, planned.output
    assert "+ create destination Router" in planned.output
    assert "4 to create" in planned.output
    assert controller.tests() == {}

    applied = controller.run("apply", SUITE, "--yes")
    assert applied.exit_code == 0, applied.output
    assert "Done: 4 of 4 changes." in applied.output
    made = controller.tests()["Router answers"]
    assert made["spec"]["count"] == 5
    assert made["interval_s"] == 10
    assert made["tags"] == ["suite:office-edge"]
    assert {item["name"] for item in made["destinations"]} == {"Router", "192.0.2.2"}
    assert controller.destinations()["Router"]["tags"] == ["office", "suite:office-edge"]

    again = controller.run("plan", SUITE, "--exit-code")
    assert (again.exit_code, again.output.strip()) == (0, "4 as they should be")
    assert controller.run("apply", SUITE).exit_code == 0


def test_a_change_is_shown_field_by_field(controller: Controller) -> None:
    """Only what the file changes is changed; a pause made on the dashboard stays, for the file says nothing of it."""
    controller.run("apply", SUITE, "--yes")
    test = controller.tests()["Router answers"]
    controller.client.post(f"/tests/{test['id']}/pause")
    changed = SUITE.replace("count: 5", "count: 7").replace("interval_s: 10", "interval_s: 20")
    planned = controller.run("plan", changed)
    assert (
        "~ update test Router answers\n    spec.count: 5 → 7\n    interval_s: 10.0 → 20.0\n" in planned.output
    )
    assert "1 to update, 3 as they should be" in planned.output
    assert controller.run("apply", changed, "--yes").exit_code == 0
    after = controller.tests()["Router answers"]
    assert (after["spec"]["count"], after["interval_s"], after["paused"]) == (7, 20, True)
    unpaused = changed.replace("    kind: ping\n", "    kind: ping\n    paused: false\n")
    assert controller.run("apply", unpaused, "--yes").exit_code == 0
    assert controller.tests()["Router answers"]["paused"] is False


def test_what_others_made_is_left_alone(controller: Controller) -> None:
    """A destination of the same name and address is used, other things of the same name stop the whole until told otherwise."""
    router = controller.client.post("/destinations", {"name": "router", "address": "192.0.2.1"})
    host = controller.client.post("/tests", {"name": "Host", "kind": "system", "interval_s": 5})
    other = controller.client.post("/tests", {"name": "Other", "kind": "system", "interval_s": 5})
    refused = controller.run("apply", SUITE, "--yes")
    assert refused.exit_code == 1
    assert "! conflict test Host: a test of this name was not made by this suite" in refused.output
    assert set(controller.tests()) == {"Host", "Other"}

    taken = controller.run("apply", SUITE, "--yes", "--adopt", "--prune")
    assert taken.exit_code == 0, taken.output
    tests = controller.tests()
    assert tests["Host"]["id"] == host["id"]
    assert tests["Host"]["interval_s"] == 60
    assert tests["Host"]["tags"] == ["suite:office-edge"]
    assert tests["Other"] == {
        **other,
        "jobs": tests["Other"]["jobs"],
        "planned_version": tests["Other"]["planned_version"],
    }
    assert controller.destinations()["Router"]["id"] == router["id"]


def test_a_shared_destination_is_used_as_it_is(controller: Controller) -> None:
    """Without adopting it, the suite neither tags nor changes it, and the next plan is quiet."""
    before = controller.client.post(
        "/destinations", {"name": "router", "address": "192.0.2.1", "tags": ["x"]}
    )
    assert controller.run("apply", SUITE, "--yes").exit_code == 0
    after = controller.destinations()["router"]
    assert (after["version"], after["tags"]) == (before["version"], ["x"])
    assert controller.run("plan", SUITE, "--exit-code").exit_code == 0
    elsewhere = controller.run("plan", SUITE.replace("192.0.2.1", "192.0.2.9"))
    assert elsewhere.exit_code == 1
    assert (
        "conflict destination Router: a destination of this name was not made by this suite; it has the address 192.0.2.1"
        in elsewhere.output
    )


def test_what_a_suite_no_longer_names_goes_only_on_request(controller: Controller) -> None:
    """Without --prune it stays and is told; with it, tests go first and then destinations that nobody uses."""
    controller.run("apply", SUITE, "--yes")
    smaller = SUITE.replace(", 192.0.2.2", "").partition("  - name: Host")[0]
    kept = controller.run("apply", smaller, "--yes")
    assert "left test Host: the suite no longer names it; --prune deletes it" in kept.output
    assert "Host" in controller.tests()
    mine = controller.client.post(
        "/tests",
        {"name": "Mine", "kind": "ping", "interval_s": 5,
         "destinations": [controller.destinations()["192.0.2.2"]["id"]]},
    )  # fmt: skip
    gone = controller.run("apply", smaller, "--yes", "--prune")
    assert gone.exit_code == 0, gone.output
    assert "Done: 1 of 1 changes." in gone.output
    assert set(controller.tests()) == {"Router answers", "Mine"}
    assert "left destination 192.0.2.2: tests that this suite has not made aim at it" in gone.output
    controller.client.delete(f"/tests/{mine['id']}")
    assert controller.run("apply", smaller, "--yes", "--prune").exit_code == 0
    assert set(controller.destinations()) == {"Router"}


def test_nobody_is_asked_without_a_terminal(controller: Controller) -> None:
    """Without --yes and without a person the command says so and changes nothing."""
    refused = controller.run("apply", SUITE)
    assert refused.exit_code == 2
    assert "add --yes" in refused.output
    assert controller.tests() == {}


def test_a_faster_colleague_is_not_overwritten(controller: Controller) -> None:
    """A change made between plan and apply is a conflict; what came before it is done, and a new run goes on."""
    controller.run("apply", SUITE, "--yes")
    file = controller.folder / "suite.yaml"
    file.write_text(SUITE.replace("count: 5", "count: 7"))
    suite = suites.load(file)
    state = read_state(controller.client)
    changes = compare(suite, state)
    test = controller.tests()["Router answers"]
    controller.client.patch(f"/tests/{test['id']}", {"description": "mine", "version": test["version"]})
    with pytest.raises(ConflictError, match="changed"):
        apply(controller.client, changes, state)
    assert controller.tests()["Router answers"]["description"] == "mine"


def test_the_kind_of_a_test_is_for_good(controller: Controller) -> None:
    """Results hang on it, so another kind under the same name is a conflict."""
    controller.run("apply", SUITE, "--yes")
    other = controller.run(
        "plan",
        SUITE.replace("kind: ping", "kind: dns").replace(
            "    spec: {count: 5}\n    interval_s: 10\n    assert: rtt_avg_ms < 20\n", ""
        ),
    )
    assert other.exit_code == 1
    assert "is of the kind `ping` for good" in other.output


def test_unknown_workers_are_told(controller: Controller) -> None:
    """A selection by name needs a worker of that name."""
    other = controller.run(
        "plan", SUITE.replace("    interval_s: 60", "    interval_s: 60\n    selection: {workers: [nobody]}")
    )
    assert other.exit_code == 1
    assert "names `nobody`, and there is no such worker" in other.output


def test_what_is_exported_comes_back_the_same(controller: Controller) -> None:
    """An export, applied elsewhere or here, makes what was exported; defaults and marks are left out."""
    controller.run("apply", SUITE, "--yes")
    text = controller.run("export", None, "--from-suite", "Office edge", "--name", "Office edge").output
    values = yaml.safe_load(text)
    assert values["tests"][1] == {
        "name": "Router answers", "kind": "ping", "destinations": ["Router", "192.0.2.2"],
        "spec": {"count": 5}, "interval_s": 10,
    }  # fmt: skip
    assert values["destinations"][1] == {"name": "Router", "address": "192.0.2.1", "tags": ["office"]}
    assert controller.run("plan", text, "--exit-code").output.strip() == "4 as they should be"
    nothing = controller.run("export", None, "--tag", "nobody")
    assert nothing.exit_code == 1
    assert "there is no test to export" in nothing.output


def test_schedules_go_there_and_back(controller: Controller) -> None:
    """Cron, zone, windows, count and recurrence: applied, nothing to change, exported, and changed field by field."""
    text = """\
suite: Nights
tests:
  - name: Nightly
    kind: system
    cron: 30 23 * * *
    zone: Europe/Berlin
    windows: [{days: [mon, fri], from: 22:00, to: "06:00"}, {from: 23:00, to: 24:00}]
    max_runs: 100
    recurrence: new_test
"""
    assert controller.run("apply", text, "--yes").exit_code == 0
    made = controller.tests()["Nightly"]
    assert (made["cron"], made["interval_s"], made["recurrence"]) == ("30 23 * * *", None, "new_test")
    assert controller.run("plan", text, "--exit-code").output.strip() == "1 as they should be"
    exported = controller.run("export", None, "--from-suite", "Nights", "--name", "Nights").output
    [test] = yaml.safe_load(exported)["tests"]
    assert (test["zone"], test["max_runs"], test["windows"]) == ("Europe/Berlin", 100, made["windows"])
    assert {"days": ["mon", "fri"], "from": "22:00", "to": "06:00"} in test["windows"]
    assert controller.run("plan", exported, "--exit-code").output.strip() == "1 as they should be"
    changed = controller.run("plan", text.replace("max_runs: 100", "max_runs: 50")).output
    assert "max_runs" in changed
    assert "windows" not in changed


def test_a_viewers_token_plans_and_does_not_apply(
    controller: Controller, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API's word is the last one: reading is enough for a plan, applying says what is missing."""
    with Session(engine) as session, session.begin():
        values = {"name": "reader", "scope": "viewer"}
        _, token = tokens.create(session, values, actor=SYSTEM, user_id=None, role="admin")
    controller.environment["STREAMSWARM_TOKEN"] = token
    assert controller.run("plan", SUITE).exit_code == 0
    refused = controller.run("apply", SUITE, "--yes")
    assert refused.exit_code == 1
    assert "operator" in refused.output
    assert controller.tests() == {}
