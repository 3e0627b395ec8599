"""How the tests of a suite came out: pure judgement of results by what the suite asks."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.suites.suite import Aim, Suite, SuiteTest
from streamswarm.expressions import Measured, Reading, Truth, Value
from streamswarm.v1 import probe_pb2


class State(str, enum.Enum):
    """How one test at one destination came out."""

    PASSED = "passed"
    FAILED = "failed"
    #: Nothing could be measured: that says nothing about the destination.
    NOT_RUN = "not run"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One assertion and what became of it."""

    text: str
    #: None when what it is about was not measured.
    truth: Truth
    readings: tuple[Reading, ...]

    @property
    def reason(self) -> str:
        """Why it does not hold, in words."""
        seen = dict.fromkeys(str(reading) for reading in self.readings)
        return f"{self.text}: {', '.join(seen)}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One test at one destination."""

    test: SuiteTest
    aim: Aim
    state: State
    #: Why it did not pass; empty when it did.
    reason: str
    checks: tuple[Check, ...]
    result: probe_pb2.Result

    @property
    def title(self) -> str:
        """The test's name and what it aimed at."""
        if not self.aim.target or self.test.name == self.aim.name:
            return self.test.name
        return f"{self.test.name} → {self.aim.name}"

    @property
    def headline(self) -> Reading:
        """The metric that stands for the kind."""
        metric = self.test.kind.headline
        value = measured(self.result, self.test).metrics.get(metric.name)
        return Reading(name=metric.name, value=value, unit=metric.unit)


@dataclass(frozen=True, kw_only=True)
class SuiteRun:
    """A suite that has run."""

    suite: Suite
    #: In the order of the file.
    outcomes: tuple[Outcome, ...]
    #: Seconds since the epoch.
    started_at: float
    duration_s: float
    #: Where it ran; empty for this machine.
    host: str = ""
    #: Why that host measured nothing at all; empty when it did.
    problem: str = ""
    #: What went wrong there beside measuring; empty when nothing did.
    remark: str = ""

    @property
    def title(self) -> str:
        """The suite's name, and where it ran."""
        return f"{self.suite.name} on {self.host}" if self.host else self.suite.name

    def count(self, state: State) -> int:
        """Return how many came out so."""
        return sum(outcome.state is state for outcome in self.outcomes)


def judge(test: SuiteTest, aim: Aim, result: probe_pb2.Result) -> Outcome:
    """Return how a test came out, from the result of its run."""
    seen = measured(result, test)
    checks = tuple(
        Check(
            text=assertion.text,
            truth=assertion.expression.truth(seen),
            readings=tuple(assertion.expression.readings(seen)),
        )
        for assertion in test.assertions
    )
    state, reason = _judge(test, result, checks)
    return Outcome(test=test, aim=aim, state=state, reason=reason, checks=checks, result=result)


def _judge(test: SuiteTest, result: probe_pb2.Result, checks: tuple[Check, ...]) -> tuple[State, str]:
    if result.status not in (probe_pb2.STATUS_OK, probe_pb2.STATUS_FAILED):
        return State.NOT_RUN, result.error
    if test.expect == "failed" and result.status == probe_pb2.STATUS_OK:
        return State.FAILED, "it succeeded, and the suite expects it to fail"
    broken = [check.reason for check in checks if check.truth is not True]
    if test.expect == "ok" and result.status == probe_pb2.STATUS_FAILED:
        return State.FAILED, "; ".join(
            [result.error, *(reason for reason in broken if "was not measured" not in reason)]
        )
    return (State.FAILED, "; ".join(broken)) if broken else (State.PASSED, "")


def measured(result: probe_pb2.Result, test: SuiteTest) -> Measured:
    """Return what a result holds, metrics that were not measured as None."""
    message = getattr(result, test.kind.name) if result.WhichOneof("metrics") == test.kind.name else None
    if message is None:
        return Measured(metrics={metric.name: None for metric in test.kind.metrics})
    return Measured(
        metrics=_values(message, [metric.name for metric in test.kind.metrics]),
        children={
            child.name: {
                getattr(row, child.key): _values(row, [metric.name for metric in child.metrics])
                for row in getattr(message, child.name)
            }
            for child in test.kind.children
        },
    )


def _values(message: Any, names: list[str]) -> Mapping[str, Value]:
    return {name: getattr(message, name) if message.HasField(name) else None for name in names}
