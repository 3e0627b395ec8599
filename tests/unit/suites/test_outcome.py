"""Judgement of results, and the forms in which it is handed on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import pytest

from controller.suites.document import parse
from controller.suites.junit import junit
from controller.suites.markdown import markdown
from controller.suites.outcome import Outcome, State, SuiteRun, judge
from controller.suites.plain import as_json
from controller.suites.suite import Suite, check
from streamswarm.v1 import probe_pb2

TARGET, VANTAGE = probe_pb2.FAILURE_SOURCE_TARGET, probe_pb2.FAILURE_SOURCE_VANTAGE


def suite(asserted: list[str], *, expect: str = "ok", name: str = "Web") -> Suite:
    """A suite of one http test."""
    test = {
        "name": name,
        "kind": "http",
        "destinations": ["http://192.0.2.1/"],
        "assert": asserted,
        "expect": expect,
    }
    return check(parse(json.dumps({"suite": "S", "tests": [test]}), name="s.yaml"))


def result(status: int, metrics: Mapping[str, Any] | None = None, **more: Any) -> probe_pb2.Result:
    """A result of an http run."""
    made = probe_pb2.Result(
        job_id=1, status=status, kind="http", started_at_us=1_900_000_000_000_000, duration_ms=12.5, **more
    )
    if metrics is not None:
        made.http.SetInParent()
        for metric, value in metrics.items():
            setattr(made.http, metric, value)
    return made


def judged(asserted: list[str], ended: probe_pb2.Result, *, expect: str = "ok") -> Outcome:
    """How the test comes out."""
    test = suite(asserted, expect=expect).tests[0]
    return judge(test, test.aims[0], ended)


OK = result(probe_pb2.STATUS_OK, {"status": 200, "total_ms": 34.5678})
REFUSED = result(
    probe_pb2.STATUS_FAILED, {}, failure_source=TARGET, error="192.0.2.1:80 refused the connection"
)
NO_TOOL = result(probe_pb2.STATUS_ERROR, failure_source=VANTAGE, error="no permission")


@pytest.mark.parametrize(
    ("asserted", "ended", "expect", "state", "reason"),
    [
        ([], OK, "ok", State.PASSED, ""),
        (["status == 200", "total_ms < 50"], OK, "ok", State.PASSED, ""),
        (["status == 200", "total_ms < 20"], OK, "ok", State.FAILED, "total_ms < 20: total_ms was 34.568 ms"),
        (["tls_ms < 20"], OK, "ok", State.FAILED, "tls_ms < 20: tls_ms was not measured"),
        (["not tls_ms < 20"], OK, "ok", State.FAILED, "not tls_ms < 20: tls_ms was not measured"),
        ([], REFUSED, "ok", State.FAILED, "192.0.2.1:80 refused the connection"),
        (["status == 200"], REFUSED, "ok", State.FAILED, "192.0.2.1:80 refused the connection"),
        ([], REFUSED, "failed", State.PASSED, ""),
        ([], OK, "failed", State.FAILED, "it succeeded, and the suite expects it to fail"),
        ([], NO_TOOL, "ok", State.NOT_RUN, "no permission"),
        ([], NO_TOOL, "failed", State.NOT_RUN, "no permission"),
    ],
)  # fmt: skip
def test_judgement(asserted: list[str], ended: Any, expect: str, state: State, reason: str) -> None:
    """A run that did not end well fails, one that could not be measured did not run, an absent value holds nothing."""
    outcome = judged(asserted, ended, expect=expect)
    assert (outcome.state, outcome.reason) == (state, reason)


def run_of(*outcomes: Outcome) -> SuiteRun:
    """A run of a suite with these outcomes."""
    return SuiteRun(suite=suite([], name="S"), outcomes=outcomes, started_at=1_900_000_000.0, duration_s=1.25)


RUNS = [run_of(judged(["status == 200"], OK), judged([], REFUSED), judged([], NO_TOOL))]


def test_junit() -> None:
    """Counts, a failure and an error with their reasons, file and line, metrics as properties."""
    root = ElementTree.fromstring(junit(RUNS))  # noqa: S314  our own text
    assert root.attrib | {"time": ""} == {
        "name": "StreamSwarm",
        "tests": "3",
        "failures": "1",
        "errors": "1",
        "time": "",
    }
    [case, failed, not_run] = root.iter("testcase")
    assert case.attrib == {
        "classname": "s.http",
        "name": "Web → http://192.0.2.1/",
        "time": "0.013" if case.attrib["time"] == "0.013" else "0.012",
        "file": "s.yaml",
        "line": "1",
    }
    properties = {item.attrib["name"]: item.attrib["value"] for item in case.iter("property")}
    assert properties == {"status": "200", "total_ms": "34.5678"}
    assert [child.tag for child in failed] == ["failure"]
    assert failed[0].attrib["message"] == "192.0.2.1:80 refused the connection"
    assert [child.tag for child in not_run] == ["error"]


def test_json() -> None:
    """Everything that was measured, and null for what was not."""
    [run] = json.loads(as_json(RUNS))["suites"]
    assert (run["passed"], run["failed"], run["not_run"]) == (1, 1, 1)
    first, refused, not_run = run["outcomes"]
    assert first["metrics"]["total_ms"] == 34.5678
    assert first["metrics"]["tls_ms"] is None
    assert first["assertions"] == [{"text": "status == 200", "holds": True}]
    assert first["started_at"] == "2030-03-17T17:46:40Z"
    assert (refused["status"], refused["failure_source"], refused["state"]) == ("failed", "target", "failed")
    assert (not_run["state"], not_run["started_at"], not_run["duration_ms"]) == ("not_run", None, None)


def test_markdown_takes_no_name_for_markup() -> None:
    """What did not pass stands first; markup, mentions, links and cell borders in names and errors stay text."""
    evil = "<img src=x>|`a`[b](http://c)\n@me #1"
    test = suite([], name="Web").tests[0]
    outcome = judge(
        test, test.aims[0], result(probe_pb2.STATUS_FAILED, {}, failure_source=TARGET, error=evil)
    )
    text = markdown([run_of(judged([], OK), outcome)])
    rows = [line for line in text.splitlines() if line.startswith("| ") and "test" not in line]
    assert [row.split(" | ")[0] for row in rows] == ["| ❌ failed", "| ✅ passed"]
    assert r"\<img src=x\>\|\`a\`\[b\]\(http\://c\)\\n\@me \#1" in rows[0]
    assert "1 passed, 1 failed in 1.2 s" in text


@pytest.mark.parametrize("evil", ["\x00", "\x1b[31m", "\ud800", "￾"])
def test_no_character_breaks_the_xml(evil: str) -> None:
    """Characters that XML cannot hold are shown escaped."""
    test = suite([], name="Web").tests[0]
    outcome = judge(test, test.aims[0], result(probe_pb2.STATUS_ERROR, {}))
    made = run_of(
        Outcome(
            test=outcome.test,
            aim=outcome.aim,
            state=State.FAILED,
            reason=f"a{evil}b",
            checks=(),
            result=outcome.result,
        )
    )
    [failure] = ElementTree.fromstring(junit([made])).iter("failure")  # noqa: S314
    assert failure.attrib["message"].startswith("a")
    assert evil not in failure.attrib["message"]
