"""How `streamswarm fleet upgrade` returns hosts: written down as an operation of its own, and done whatever comes."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from controller.cli.client import Client
from controller.cli.fleet_upgrade import Playbooks
from controller.errors import ConflictError, StreamSwarmError
from controller.fleet import operations
from controller.fleet.events import HostRecap
from controller.fleet.operations import PlaybookRequest, Recap
from controller.fleet.upgrades.telling import Judged

DONE = Recap(hosts=(HostRecap(host="a", ok=3, changed=1, failed=0, unreachable=False),))


@pytest.fixture
def returned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is returned: the hosts, and the release that is taken back."""
    calls: list[tuple[str, str]] = []

    def run_playbook(playbook: str, request: PlaybookRequest, **_: Any) -> Recap:
        assert playbook == "rollback.yml"
        calls.append((request.limit, request.variables["streamswarm_worker_bad_release"]))
        return DONE

    monkeypatch.setattr(operations, "run_playbook", run_playbook)
    return calls


def _roll_back(tmp_path: Path) -> Recap:
    inventory = tmp_path / "hosts.ini"
    inventory.write_text("[workers]\na\nb\n")
    client = Client("http://127.0.0.1:9", "ssw_test")
    playbooks = Playbooks(
        PlaybookRequest(inventories=(inventory,)),
        client,
        Console(stderr=True, width=200),
        stopped=lambda: True,
    )
    try:
        return playbooks.roll_back(["a"], "1.1", ["it measures worse", "loss: 0 % before, 9 % after"])
    finally:
        client.close()


def test_it_is_an_operation_with_its_reason(
    returned: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kind, its hosts, and why; neither Ctrl-C nor what the controller answers ends it half-way."""
    calls: dict[str, Any] = {}

    def answer(self: Client, path: str, body: Any = None) -> Any:
        calls.setdefault(path, body)
        return {"id": 7, "version": 2, "standing": "cancelled"}

    monkeypatch.setattr(Client, "post", answer)
    assert _roll_back(tmp_path) == DONE
    assert returned == [("a", "1.1")]
    begun = calls["/operations/begun"]
    assert (begun["kind"], begun["hosts"]) == ("rollback", ["a"])
    [why] = calls["/operations/7/events"]["events"]
    assert (why["host"], why["task"]) == ("a", "Why 1.1 is taken back")
    assert why["message"] == "it measures worse\nloss: 0 % before, 9 % after"
    assert calls["/operations/7/finish"]["state"] == "succeeded"


def test_what_was_judged_is_an_operation_with_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the history has the figures of a step that passed too, and the next upgrade knows that it was judged."""
    calls: dict[str, Any] = {}

    def answer(self: Client, path: str, body: Any = None) -> Any:
        calls.setdefault(path, body)
        return {"id": 8, "version": 2, "standing": "goes_on"}

    monkeypatch.setattr(Client, "post", answer)
    inventory = tmp_path / "hosts.ini"
    inventory.write_text("[workers]\na\nb\n")
    client = Client("http://127.0.0.1:9", "ssw_test")
    playbooks = Playbooks(
        PlaybookRequest(inventories=(inventory,)), client, Console(stderr=True), stopped=lambda: False
    )
    try:
        playbooks.note(Judged(hosts=("a",), release="1.1", lines=("not worse: ping", "3 comparisons")))
    finally:
        client.close()
    assert (calls["/operations/begun"]["kind"], calls["/operations/begun"]["hosts"]) == ("judge", ["a"])
    told = calls["/operations/8/events"]["events"]
    assert [(event["host"], event["task"], event["message"]) for event in told] == [
        ("a", "What 1.1 measures", "not worse: ping"),
        ("a", "What 1.1 measures", "3 comparisons"),
    ]
    assert calls["/operations/8/finish"]["state"] == "succeeded"


def test_the_steps_of_an_upgrade_belong_to_its_first(
    returned: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the first one that was written down: an upgrade may begin with judging, and the controller may have been away."""
    begun: list[tuple[str, Any]] = []

    def answer(self: Client, path: str, body: Any = None) -> Any:
        if path == "/operations/begun":
            begun.append((body["kind"], body["part_of"]))
            if len(begun) == 1:
                raise StreamSwarmError("the controller is away")
        return {"id": 5 + len(begun), "version": 2, "standing": "goes_on"}

    monkeypatch.setattr(Client, "post", answer)
    monkeypatch.setattr(operations, "upgrade", lambda *_, **__: DONE)
    inventory = tmp_path / "hosts.ini"
    inventory.write_text("[workers]\na\nb\n")
    judged = Judged(hosts=("a",), release="1.1", lines=("not worse: ping",))
    with closing(Client("http://127.0.0.1:9", "ssw_test")) as client:
        playbooks = Playbooks(
            PlaybookRequest(inventories=(inventory,)), client, Console(stderr=True), stopped=lambda: False
        )
        playbooks.note(judged)
        playbooks.upgrade(["a"])
        playbooks.note(judged)
        playbooks.upgrade(["b"])
        playbooks.roll_back(["b"], "1.1", ["it measures worse"])
    assert begun == [("judge", None), ("upgrade", None), ("judge", 7), ("upgrade", 7), ("rollback", 7)]
    assert returned == [("b", "1.1")]


def test_another_operation_on_the_host_does_not_keep_it(
    returned: list[tuple[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The host's own lock sees to the order there; that the history lacks it is said."""

    def refuse(self: Client, path: str, body: Any = None) -> Any:
        raise ConflictError("operation 6 (verify) works on a now")

    monkeypatch.setattr(Client, "post", refuse)
    assert _roll_back(tmp_path) == DONE
    assert returned == [("a", "1.1")]
    assert "operation 6 (verify) works on a now" in capsys.readouterr().err
