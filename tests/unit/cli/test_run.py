"""`streamswarm run --on`: what goes together, what it passes on, how it ends."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from controller.cli import agentless
from controller.cli.run import run
from controller.errors import ConfigurationError
from controller.fleet.agentless import Answers, HostAnswer
from streamswarm.v1 import probe_pb2

SUITE = """\
suite: Doors
tests:
  - {name: Door, kind: tcp, destinations: "192.0.2.1:1"}
"""


class Hosts:
    """Stands in for the hosts: keeps what it was asked and answers as it is told."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.answers = Answers(hosts=())

    def __call__(self, request: Any, jobs: Any, **options: Any) -> Answers:
        self.asked.append((request, jobs, options))
        return self.answers


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Hosts:
    """The hosts, replaced."""
    stand_in = Hosts()
    monkeypatch.setattr(agentless, "run_once", stand_in)
    return stand_in


def _call(folder: Path, *words: str) -> Result:
    suite, inventory = folder / "doors.yaml", folder / "hosts.ini"
    suite.write_text(SUITE)
    inventory.write_text("[oslo]\na\n")
    named = ("-i", str(inventory)) if "--on" in words else ()
    return CliRunner().invoke(run, [str(suite), *named, *words])


def _answer(host: str, *statuses: int, **more: Any) -> HostAnswer:
    results = tuple(probe_pb2.Result(job_id=1, kind="tcp", status=status) for status in statuses)
    return HostAnswer(host=host, results=results, started_at=1.0, duration_s=0.5, **more)


@pytest.mark.parametrize(
    ("answers", "code", "told"),
    [
        ([_answer("a", probe_pb2.STATUS_OK)], 0, "Doors on a  1 passed in 0.5 s"),
        ([_answer("a", probe_pb2.STATUS_OK), _answer("b", probe_pb2.STATUS_FAILED)], 1, "Doors on b  1 failed"),
        ([_answer("a", probe_pb2.STATUS_OK), _answer("b", problem="no route")], 2, "b: nothing was measured: no route\n"),
        ([_answer("a")], 2, "a: nothing was measured: the run of `Door` has no result"),
        ([_answer("a", probe_pb2.STATUS_OK, remark="disk full")], 2, "a: it measured, but then: disk full\n"),
    ],
)  # fmt: skip
def test_each_host_is_judged_and_the_worst_decides(
    hosts: Hosts, tmp_path: Path, answers: list[HostAnswer], code: int, told: str
) -> None:
    """Passed, failed, not measured, and left behind: exit codes and words."""
    hosts.answers = Answers(hosts=tuple(answers))
    done = _call(tmp_path, "--on", "oslo")
    assert done.exit_code == code, done.output
    assert told in done.output


def test_options_are_passed_on(hosts: Hosts, tmp_path: Path) -> None:
    """Group, limit, forks and become, with the jobs of the suite."""
    hosts.answers = Answers(hosts=(_answer("a", probe_pb2.STATUS_OK),))
    assert _call(tmp_path, "--on", "oslo", "--limit", "a", "--forks", "3", "--become").exit_code == 0
    [(request, jobs, options)] = hosts.asked
    assert (request.limit, request.forks, request.inventories) == ("a", 3, (tmp_path / "hosts.ini",))
    assert (options["on"], options["become"]) == ("oslo", True)
    assert [job.target for job in jobs] == ["192.0.2.1:1"]


def test_a_stop_has_no_verdict_and_names_what_was_left(hosts: Hosts, tmp_path: Path) -> None:
    """130, and a line for each host that could not be cleared."""
    hosts.answers = Answers(hosts=(_answer("b", problem="unreachable"),), cancelled=True)
    done = _call(tmp_path, "--on", "oslo")
    assert done.exit_code == 130
    assert "b: what was brought there could not be removed: unreachable\n" in done.output
    assert "Stopped; there is no verdict." in done.output


def test_what_does_not_go_together_is_refused(hosts: Hosts, tmp_path: Path) -> None:
    """Options for hosts without hosts, and this machine's permissions with them."""
    assert "go with --on" in _call(tmp_path, "--become").output
    for words in (["--allow-loopback"], ["--policy", "policy.yaml"]):
        done = _call(tmp_path, "--on", "oslo", *words)
        assert done.exit_code == 2
        assert "streamswarm_worker_policy" in done.output
    key = tmp_path / "key"
    key.touch()
    for words in (["--databases-dir", str(tmp_path)], ["--responder-key-file", str(key)]):
        done = _call(tmp_path, "--on", "oslo", *words)
        assert done.exit_code == 2
        assert "streamswarm_worker_options" in done.output
    assert hosts.asked == []


def test_the_base_installation_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Ansible only --on is out of reach."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    done = _call(tmp_path, "--on", "oslo")
    assert isinstance(done.exception, ConfigurationError)
    assert "streamswarm[controller]" in str(done.exception)
