"""`streamswarm fleet remove`, `rotate`, `verify` and `history`: what they ask, what they pass on, how they end."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from controller.cli.client import Client, RefusedError, UnreachableError
from controller.cli.fleet import fleet
from controller.errors import ConfigurationError, ConflictError
from controller.fleet import operations
from controller.fleet.events import HostRecap
from controller.fleet.operations import PlaybookRequest, Recap
from controller.settings import Settings

Call = Callable[..., Result]


class Asked:
    """Stands in for the operations: keeps the requests and ends as it is told."""

    def __init__(self) -> None:
        self.requests: list[PlaybookRequest] = []
        self.recap = Recap(
            hosts=(
                HostRecap(host="a", ok=9, changed=4, failed=0, unreachable=False, notes=("3 results wait",)),
            )
        )

    def __call__(self, request: PlaybookRequest, **_: Any) -> Recap:
        self.requests.append(request)
        return self.recap


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The operations, replaced."""
    stand_in = Asked()
    for name in ("remove", "verify", "rotate", "restart", "drain", "resume"):
        monkeypatch.setattr(operations, name, stand_in)
    monkeypatch.setenv("STREAMSWARM_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("STREAMSWARM_TOKEN", "ssw_test")
    return stand_in


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller that answers whose the token is: an administrator's."""
    monkeypatch.setattr(Client, "get", lambda *_, **__: {"name": "ci", "role": "admin", "by_token": True})


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """Call `streamswarm fleet` with an inventory."""
    inventory = tmp_path / "hosts.ini"
    inventory.write_text("[workers]\na\n")

    def run(name: str, *words: str, answer: str = "") -> Result:
        return CliRunner().invoke(fleet, [name, "-i", str(inventory), *words], input=answer)

    return run


def test_the_help_names_the_setting_of_the_inventory() -> None:
    """Each command that works on hosts names the variable that it reads."""
    assert Settings.load({"STREAMSWARM_INVENTORY": "hosts.ini"}).inventory
    for name in ("provision", "upgrade", "remove", "verify", "rotate", "restart", "drain", "resume"):
        said = CliRunner().invoke(fleet, [name, "--help"], env={"COLUMNS": "200"}).output
        assert set(re.findall(r"STREAMSWARM\w*INVENTORY", said)) == {"STREAMSWARM_INVENTORY"}, name


@pytest.mark.usefixtures("there")
def test_removal_asks_first_and_a_no_does_nothing(asked: Asked, call: Call) -> None:
    """Without --yes it names what it is about; any other answer than yes, or none, leaves all as it is."""
    for answer in ("n\n", ""):
        said = call("remove", answer=answer)
        assert "ALL hosts" in said.output
        assert said.exit_code == 1
    assert asked.requests == []
    assert "the hosts `oslo`" in call("remove", "--limit", "oslo", answer="y\n").output
    assert [request.limit for request in asked.requests] == ["oslo"]


def test_a_check_run_is_not_asked_about(asked: Asked, call: Call) -> None:
    """Nothing is at stake there."""
    said = call("remove", "--check")
    assert said.exit_code == 0
    assert "would be removed" in said.output
    assert asked.requests[0].check


@pytest.mark.usefixtures("there")
def test_the_options_become_variables_over_those_of_files(asked: Asked, call: Call, tmp_path: Path) -> None:
    """What stands on the command line wins; what is not given is left to the inventory."""
    variables = tmp_path / "variables.yml"
    variables.write_text("streamswarm_worker_drain_timeout: 5\nother: 1\n")
    call("remove", "--yes", "-e", str(variables), "--discard", "--wait", "7")
    call("remove", "--yes")
    assert [dict(request.variables) for request in asked.requests] == [
        {"streamswarm_worker_drain_timeout": 7, "other": 1, "streamswarm_worker_discard": True},
        {},
    ]


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("name", ["remove", "verify"])
def test_the_exit_code_tells_how_the_hosts_came_out_of_it(asked: Asked, call: Call, name: str) -> None:
    """0 when all is well, 1 when a host is not, 130 when stopped; what the playbook said is shown."""
    words = ("--yes",) if name == "remove" else ()
    well = call(name, *words)
    assert well.exit_code == 0
    assert "a: 3 results wait" in well.output
    asked.recap = Recap(
        hosts=(HostRecap(host="a", ok=1, changed=0, failed=1, unreachable=False, message="no"),)
    )
    failed = call(name, *words)
    assert failed.exit_code == 1
    assert "a: no" in failed.output
    asked.recap = Recap(hosts=(), cancelled=True)
    assert call(name, *words).exit_code == 130


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (("restart",), {}),
        (("restart", "--force"), {"streamswarm_worker_force": True}),
        (("drain", "--wait", "5"), {"streamswarm_worker_drain_timeout": 5}),
        (("resume",), {}),
    ],
)
def test_hosts_in_and_out_of_service_are_named(
    asked: Asked, call: Call, words: tuple[str, ...], variables: dict[str, Any]
) -> None:
    """One or several; without any, nothing is done."""
    assert call(*words).exit_code == 2
    assert asked.requests == []
    assert call(*words, "a", "oslo:!b").exit_code == 0
    [request] = asked.requests
    assert (request.limit, dict(request.variables)) == ("a:oslo:!b", variables)
    assert "would be" in call(*words, "a", "--check").output


@pytest.mark.parametrize(
    "words",
    [
        ("drain", "twin"),
        ("restart", "a", "twin"),
        ("remove", "--yes", "--limit", "twin"),
        ("rotate", "-l", "!twin"),
    ],
)
def test_a_name_that_a_host_and_a_group_have_is_refused(
    asked: Asked, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """Before anything is done: Ansible would take all hosts of the group."""
    inventory = tmp_path / "hosts.ini"
    inventory.write_text("[workers]\na\ntwin\n\n[twin]\na\n")
    said = CliRunner().invoke(fleet, [*words, "-i", str(inventory)])
    assert isinstance(said.exception, ConfigurationError)
    assert "`twin` is a host of the inventory and a group too" in said.exception.message
    assert asked.requests == []


def test_a_controller_that_is_away_keeps_nobody_from_it(asked: Asked, call: Call) -> None:
    """The run goes on, and it is said that the history lacks it."""
    said = call("rotate")
    assert said.exit_code == 0
    assert "history lacks this run" in said.output
    assert len(asked.requests) == 1


def test_a_removal_wants_the_controller_first(asked: Asked, call: Call) -> None:
    """Away, it could not be told: no host is touched, and what goes on without it is named. A check run needs it not."""
    refused = call("remove", "--yes")
    assert isinstance(refused.exception, UnreachableError)
    assert "nothing was changed" in refused.exception.message
    assert "--on-controller keep" in refused.exception.mend
    assert asked.requests == []
    assert call("remove", "--check").exit_code == 0
    said = call("remove", "--yes", "--on-controller", "keep")
    assert said.exit_code == 0
    assert "history lacks this run" in said.output
    assert [request.check for request in asked.requests] == [True, False]


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
def test_removal_asks_first_whether_the_token_may_revoke(
    asked: Asked, call: Call, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    """Before anything is changed; what leaves the worker as it is at the controller, or only says what would be, needs no such right."""
    monkeypatch.setattr(Client, "get", lambda *_, **__: {"name": "ci", "role": role, "by_token": True})
    said = call("remove", "--yes")
    if role == "admin":
        assert said.exit_code == 0
    else:
        assert isinstance(said.exception, RefusedError)
        assert f"needs the role admin, and the token `ci` is of the role {role}; nothing was changed" in str(
            said.exception
        )
    assert len(asked.requests) == (role == "admin")
    assert call("remove", "--yes", "--on-controller", "keep").exit_code == 0
    assert call("remove", "--check").exit_code == 0


@pytest.mark.usefixtures("there")
def test_a_host_that_is_being_worked_on_is_left_alone(
    asked: Asked, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is run, and the operation in the way is named."""

    def refuse(self: Client, path: str, body: Any = None) -> Any:
        assert (path, body["hosts"], body["kind"]) == ("/operations/begun", ["a"], "remove")
        raise ConflictError("operation 7 (provision) works on a now")

    monkeypatch.setattr(Client, "post", refuse)
    said = call("remove", "--yes")
    assert isinstance(said.exception, ConflictError)
    assert asked.requests == []


def test_what_it_does_is_told_to_the_controller(
    asked: Asked, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its beginning, how each host came out of it, and its end."""
    calls: list[tuple[str, Any]] = []

    def answer(self: Client, path: str, body: Any = None) -> Any:
        calls.append((path, body))
        return {"id": 7, "version": 2, "standing": "goes_on"}

    monkeypatch.setattr(Client, "post", answer)
    assert call("verify").exit_code == 0
    [_, (told, body), (ended, end)] = calls
    assert (told, body["hosts"]) == (
        "/operations/7/events",
        [{"host": "a", "state": "ok", "changed": 4, "message": "3 results wait"}],
    )
    assert (ended, end["state"]) == ("/operations/7/finish", "succeeded")


@pytest.mark.usefixtures("there")
def test_a_limit_that_names_too_many_hosts_is_told_by_their_number(
    asked: Asked, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The playbook gets it as it is; the history has the hosts anyway."""
    begun: list[Any] = []

    def answer(self: Client, path: str, body: Any = None) -> Any:
        begun.append(body)
        return {"id": 7, "version": 2, "standing": "goes_on"}

    monkeypatch.setattr(Client, "post", answer)
    limit = ",".join(["a"] * 600)
    call("remove", "--yes", "--limit", limit)
    assert [request.limit for request in asked.requests] == [limit]
    assert (begun[0]["limit"], begun[0]["hosts"]) == ("1 hosts", ["a"])


@pytest.mark.usefixtures("there")
def test_results_go_only_with_their_worker(asked: Asked, call: Call) -> None:
    """--with-data deletes the worker too, which the question says; keeping or only revoking it contradicts that."""
    refused = call("remove", "--with-data", "--on-controller", "revoke", "--yes")
    assert refused.exit_code == 2
    assert "--with-data" in refused.output
    asking = call("remove", "--with-data", answer="n\n")
    assert "delete all their results" in asking.output
    assert asked.requests == []
    assert call("remove", "--with-data", "--yes").exit_code == 0


def test_the_root_is_rotated_for_all_workers_or_not_at_all(asked: Asked, call: Call) -> None:
    """--ca with --limit is refused; certificates alone can be renewed on some hosts."""
    assert call("rotate", "--ca", "--limit", "a").exit_code == 2
    assert asked.requests == []
    assert call("rotate", "--limit", "a").exit_code == 0
    assert [request.limit for request in asked.requests] == ["a"]


def test_the_history_is_shown(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row for each operation, with the hosts that are not well and what it belongs to; no more than asked for, though there are more pages."""
    found = {
        "id": 8, "kind": "rollback", "part_of": 7, "check": False, "limit": "edge-1", "state": "failed", "made_by": "user:ada",
        "hosts": {"total": 1, "failed": 0, "unreachable": 1}, "started_at": "2026-03-01T12:00:00+01:00",
    }  # fmt: skip
    asked_for: list[Any] = []

    def answer(self: Client, path: str, **query: Any) -> Any:
        asked_for.append((path, query))
        return {
            "items": [
                found,
                {
                    **found,
                    "id": 7,
                    "part_of": None,
                    "limit": "",
                    "hosts": {**found["hosts"], "unreachable": 0},
                },
            ],
            "next_cursor": "more",
        }

    monkeypatch.setattr(Client, "get", answer)
    said = CliRunner().invoke(fleet, ["history", "--host", "edge-1", "--most", "2"], env={"COLUMNS": "200"})
    assert asked_for == [("/operations", {"host": "edge-1", "limit": 2})]
    rows = [line.split("  ") for line in said.stdout.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells[1:] == [
        ["8", "rollback, part of 7", "edge-1: 1 of 1 not well", "failed", "user:ada", "2026-03-01 11:00:00"],
        ["7", "rollback", "all workers", "failed", "user:ada", "2026-03-01 11:00:00"],
    ]


def test_one_operation_is_shown_with_all_that_it_told(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why it failed, what to do, each host, and each line that was judged: also where no dashboard is at hand."""
    about = {
        "id": 9, "kind": "judge", "part_of": 7, "check": False, "limit": "edge-1", "state": "failed", "made_by": "user:ada",
        "hosts": {"total": 1, "failed": 1, "unreachable": 0}, "started_at": "2026-03-01T12:00:00+01:00",
        "error": "what its hosts measure is worse with the release", "mend": "its hosts are returned",
    }  # fmt: skip
    host = {"host": "edge-1", "state": "failed", "changed": 0, "message": "it is\nworse"}
    event = {"host": "edge-1", "at": "2026-03-01T12:00:02+01:00", "task": "What 1.1 measures"}
    pages: dict[str, Any] = {
        "/operations": {"items": [], "next_cursor": None},
        "/operations/9": about,
        "/operations/9/hosts": {"items": [host], "next_cursor": None},
        "/operations/9/events": {
            "items": [
                {**event, "message": "broken: edge-1: ping to office fails\nworse"},
                {**event, "message": ""},
            ],
            "next_cursor": None,
        },
    }
    monkeypatch.setattr(Client, "get", lambda self, path, **query: pages[path])
    said = CliRunner().invoke(fleet, ["history", "9"])
    assert said.stdout.splitlines() == [
        "operation 9: judge edge-1: 1 of 1 not well failed user:ada 2026-03-01 11:00:00",
        "why: what its hosts measure is worse with the release",
        "what to do: its hosts are returned",
        "part of: operation 7",
        "edge-1: failed, 0 changes: it is; worse",
        "11:00:02 edge-1: What 1.1 measures: broken: edge-1: ping to office fails",
        "    worse",
        "11:00:02 edge-1: What 1.1 measures",
    ]


def test_the_first_step_of_an_upgrade_leads_to_the_others(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A keeper's upgrade leads to what it judged and returned so too; in their order, of one host where that is asked for."""
    first = {
        "id": 7, "kind": "upgrade", "part_of": None, "check": False, "limit": "a", "state": "succeeded",
        "made_by": "user:ada", "hosts": {"total": 1, "failed": 0, "unreachable": 0},
        "started_at": "2026-03-01T12:00:00Z", "error": "", "mend": "",
    }  # fmt: skip
    others = [
        {**first, "id": 9, "part_of": 7, "limit": "b"},
        {**first, "id": 8, "part_of": 7, "kind": "judge"},
    ]
    asked_for: list[Any] = []

    def answer(self: Client, path: str, **query: Any) -> Any:
        if path == "/operations":
            asked_for.append(query)
        items = others if path == "/operations" else []
        return first if path == "/operations/7" else {"items": items, "next_cursor": None}

    monkeypatch.setattr(Client, "get", answer)
    assert CliRunner().invoke(fleet, ["history", "7"]).stdout.splitlines() == [
        "operation 7: upgrade a succeeded user:ada 2026-03-01 12:00:00",
        "further step 8: judge a succeeded user:ada 2026-03-01 12:00:00",
        "further step 9: upgrade b succeeded user:ada 2026-03-01 12:00:00",
    ]
    CliRunner().invoke(fleet, ["history", "7", "--host", "a"])
    assert [query.get("host") for query in asked_for] == [None, "a"]
    assert {query["part_of"] for query in asked_for} == {7}


def test_a_long_history_is_one_call_and_a_line_each(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of operations that name a hundred hosts one by one; where it is about one operation, all are told."""
    limit = ",".join(f"edge-{number}" for number in range(100))
    found = {
        "kind": "upgrade", "part_of": None, "check": False, "limit": limit, "state": "succeeded", "made_by": "token:ci",
        "hosts": {"total": 100, "failed": 0, "unreachable": 0}, "started_at": "2026-03-01T12:00:00Z",
        "error": "", "mend": "",
    }  # fmt: skip
    asked_for: list[str] = []

    def answer(self: Client, path: str, **query: Any) -> Any:
        asked_for.append(path)
        if path == "/operations/7":
            return {**found, "id": 7}
        whole = path == "/operations" and "part_of" not in query
        rows = [{**found, "id": 200 - number} for number in range(200)] if whole else []
        return {"items": rows, "next_cursor": None}

    monkeypatch.setattr(Client, "get", answer)
    said = CliRunner().invoke(fleet, ["history", "--most", "200"], env={"COLUMNS": "200"})
    assert asked_for == ["/operations"]
    lines = said.stdout.splitlines()
    assert len(lines) == 201
    assert all("edge-0,edge-1," in line and "…" in line and "token:ci" in line for line in lines[1:])
    assert limit in CliRunner().invoke(fleet, ["history", "7"]).stdout
