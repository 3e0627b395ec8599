"""The runs of suites from one place, whoever measures them."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from controller.suites.document import parse
from controller.suites.execution import ExecutionError, Judge, as_lines, result_of
from controller.suites.junit import junit
from controller.suites.markdown import markdown
from controller.suites.outcome import State
from controller.suites.plain import as_json
from controller.suites.suite import Suite, check
from streamswarm.v1 import probe_pb2

TEXT = """\
suite: Doors
tests:
  - {name: First, kind: tcp, destinations: ["192.0.2.1:1", "192.0.2.2:1"]}
  - {name: Host, kind: system, assert: cpu_count >= 1}
"""


@pytest.fixture
def suites() -> list[Suite]:
    """A suite of three runs."""
    return [check(parse(TEXT, name="doors.yaml"))]


def _ok(number: int) -> probe_pb2.Result:
    return probe_pb2.Result(job_id=number, kind="tcp", status=probe_pb2.STATUS_OK)


def test_jobs_are_numbered_and_written_as_lines(suites: list[Suite]) -> None:
    """One for each destination of each test, in the order of the file; a result's line is read back as it was."""
    jobs = Judge(suites).jobs
    assert [(job.job_id, job.target) for job in jobs] == [(1, "192.0.2.1:1"), (2, "192.0.2.2:1"), (3, "")]
    lines = [json.loads(line) for line in as_lines(jobs).splitlines()]
    assert [line.get("target", "") for line in lines] == ["192.0.2.1:1", "192.0.2.2:1", ""]
    assert result_of('{"job_id": 2, "status": "STATUS_OK", "of_tomorrow": 1}') == probe_pb2.Result(
        job_id=2, status=probe_pb2.STATUS_OK
    )


def test_a_host_that_measured_nothing_is_told_everywhere(suites: list[Suite]) -> None:
    """Each test did not run and says why; the host stands in title, JUnit and JSON."""
    [run] = Judge(suites, host="edge-1").nothing("unreachable", started_at=1.0, duration_s=0.0)
    assert (run.title, run.problem, run.count(State.NOT_RUN)) == ("Doors on edge-1", "unreachable", 3)
    assert {outcome.reason for outcome in run.outcomes} == {"unreachable"}
    [suite] = ElementTree.fromstring(junit([run]))  # noqa: S314  our own text
    assert (suite.get("name"), suite.get("hostname"), suite.get("errors")) == (
        "Doors on edge-1",
        "edge-1",
        "3",
    )
    assert [case.get("classname") for case in suite] == ["doors.tcp@edge-1"] * 2 + ["doors.system@edge-1"]
    told = json.loads(as_json([run]))["suites"][0]
    assert (told["host"], told["problem"], told["not_run"]) == ("edge-1", "unreachable", 3)
    assert "Doors on edge-1" in markdown([run])


def test_this_machine_has_no_name(suites: list[Suite]) -> None:
    """Without a host the forms are those of a local run."""
    judging = Judge(suites)
    for number in (1, 2, 3):
        judging.take(_ok(number))
    [run] = judging.verdict(started_at=1.0, duration_s=0.5)
    assert run.title == "Doors"
    [suite] = ElementTree.fromstring(junit([run]))  # noqa: S314  our own text
    assert suite.get("hostname") is None
    assert json.loads(as_json([run]))["suites"][0]["host"] is None


def test_a_missing_result_is_a_fault_unless_a_test_was_refused(suites: list[Suite]) -> None:
    """Nothing passes because nobody looked; when one could not be run, the others were not started."""
    judging = Judge(suites)
    judging.take(_ok(1))
    with pytest.raises(ExecutionError, match="`First` has no result"):
        judging.verdict(started_at=1.0, duration_s=0.0)
    judging.take(probe_pb2.Result(job_id=2, status=probe_pb2.STATUS_ERROR, error="denied"))
    [run] = judging.verdict(started_at=1.0, duration_s=0.0)
    assert [outcome.state for outcome in run.outcomes] == [State.PASSED, State.NOT_RUN, State.NOT_RUN]
    assert run.outcomes[2].reason == "not started, for another test cannot be run"


def test_a_result_of_no_job_is_refused(suites: list[Suite]) -> None:
    """A host may write what it likes: numbers that nobody gave out are no results."""
    for number in (0, 4, -1):
        with pytest.raises(ExecutionError, match=f"for the job {number}"):
            Judge(suites).take(_ok(number))
