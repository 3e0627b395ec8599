"""A suite's run as JUnit XML, the form that CI systems read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from xml.etree import ElementTree

from controller.suites.outcome import Outcome, State, SuiteRun, measured
from streamswarm.targets import shown

_LONGEST = 2000


def junit(runs: Sequence[SuiteRun]) -> str:
    """Return the XML; a test that could not be run is an error, one that did not pass a failure."""
    root = ElementTree.Element("testsuites", {"name": "StreamSwarm", **_counts(runs)})
    for run in runs:
        suite = ElementTree.SubElement(root, "testsuite", {"name": shown(run.title), **_counts([run])})
        if run.host:
            suite.set("hostname", shown(run.host))
        suite.set("timestamp", dt.datetime.fromtimestamp(run.started_at, dt.timezone.utc).isoformat())
        for outcome in run.outcomes:
            _add(suite, run, outcome)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _counts(runs: Sequence[SuiteRun]) -> dict[str, str]:
    return {
        "tests": str(sum(len(run.outcomes) for run in runs)),
        "failures": str(sum(run.count(State.FAILED) for run in runs)),
        "errors": str(sum(run.count(State.NOT_RUN) for run in runs)),
        "time": f"{max((run.duration_s for run in runs), default=0.0):.3f}",
    }


def _add(suite: ElementTree.Element, run: SuiteRun, outcome: Outcome) -> None:
    # The host belongs to the name by which CI systems tell one test from another.
    place = f"@{run.host}" if run.host else ""
    case = ElementTree.SubElement(
        suite,
        "testcase",
        classname=shown(f"{run.suite.slug}.{outcome.test.kind.name}{place}"),
        name=shown(outcome.title, 500),
        time=f"{outcome.result.duration_ms / 1000:.3f}",
    )
    file, _, line = outcome.test.at.rpartition(":")
    case.set("file", shown(file, 500))
    case.set("line", line)
    values = {
        name: value
        for name, value in measured(outcome.result, outcome.test).metrics.items()
        if value is not None
    }
    if values:
        properties = ElementTree.SubElement(case, "properties")
        for name, value in values.items():
            said = str(value).lower() if isinstance(value, bool) else repr(value)
            ElementTree.SubElement(properties, "property", name=name, value=said)
    if outcome.state is State.PASSED:
        return
    sort = "error" if outcome.state is State.NOT_RUN else "failure"
    reason = shown(outcome.reason, _LONGEST)
    ElementTree.SubElement(case, sort, message=reason, type=outcome.state.value).text = reason
