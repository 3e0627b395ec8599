"""A suite's run as Markdown, for the summary of a CI job."""

from __future__ import annotations

import re
from collections.abc import Sequence

from controller.suites.outcome import Outcome, State, SuiteRun
from streamswarm.targets import shown

_SIGNS = {State.PASSED: "✅", State.FAILED: "❌", State.NOT_RUN: "⚠️"}
#: What Markdown or HTML would take for its own; a name or an error must stay text.
_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+!|~&$@:])")
_LONGEST = 300


def markdown(runs: Sequence[SuiteRun]) -> str:
    """Return a heading, the counts and a table for each suite; what did not pass stands first."""
    return "\n".join(_suite(run) for run in runs)


def counts(run: SuiteRun) -> str:
    """Return how many came out how, in words: `3 passed, 1 failed`."""
    found = [f"{run.count(state)} {state.value}" for state in State if run.count(state)]
    return ", ".join(found) or "no tests"


def _suite(run: SuiteRun) -> str:
    worst = max(run.outcomes, key=lambda outcome: list(State).index(outcome.state), default=None)
    sign = _SIGNS[worst.state] if worst else _SIGNS[State.PASSED]
    lines = [f"## {sign} {_text(run.title)}", "", f"{counts(run)} in {run.duration_s:.1f} s", ""]
    lines += ["| | test | kind | measured | why |", "|---|---|---|---|---|"]
    lines += [
        _row(outcome) for outcome in sorted(run.outcomes, key=lambda outcome: outcome.state is State.PASSED)
    ]
    return "\n".join(lines) + "\n"


def _row(outcome: Outcome) -> str:
    headline = outcome.headline
    cells = (
        f"{_SIGNS[outcome.state]} {outcome.state.value}",
        _text(outcome.title),
        outcome.test.kind.name,
        "" if headline.value is None else _text(headline.amount),
        _text(outcome.reason),
    )
    return f"| {' | '.join(cells)} |"


def _text(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", shown(text, _LONGEST))
