"""A suite's run as plain values, for JSON."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

from controller.suites.outcome import Outcome, State, SuiteRun, measured
from streamswarm.outcomes import failure_reason_name, failure_source_name, status_name
from streamswarm.v1 import probe_pb2


def as_json(runs: Sequence[SuiteRun]) -> str:
    """Return the runs as a JSON text; what was not measured is null."""
    return json.dumps({"suites": [_run(run) for run in runs]}, indent=2, ensure_ascii=False) + "\n"


def _run(run: SuiteRun) -> dict[str, Any]:
    return {
        "suite": run.suite.name,
        "file": run.suite.file,
        "host": run.host or None,
        "problem": run.problem or None,
        "started_at": _instant(run.started_at),
        "duration_s": round(run.duration_s, 3),
        **{state.value.replace(" ", "_"): run.count(state) for state in State},
        "outcomes": [_outcome(outcome) for outcome in run.outcomes],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    result, seen = outcome.result, measured(outcome.result, outcome.test)
    ran = result.status in (probe_pb2.STATUS_OK, probe_pb2.STATUS_FAILED)
    return {
        "test": outcome.test.name,
        "at": outcome.test.at,
        "kind": outcome.test.kind.name,
        "destination": outcome.aim.name or None,
        "target": outcome.aim.target or None,
        "state": outcome.state.value.replace(" ", "_"),
        "reason": outcome.reason,
        "status": status_name(result.status),
        "failure_source": failure_source_name(result.failure_source),
        "failure_reason": failure_reason_name(result.failure_reason),
        "error": result.error,
        "started_at": _instant(result.started_at_us / 1e6) if ran else None,
        "duration_ms": result.duration_ms if ran else None,
        "metrics": dict(seen.metrics),
        "children": {
            name: {key: dict(row) for key, row in rows.items()} for name, rows in seen.children.items()
        },
        "detail": json.loads(result.detail_json) if result.detail_json else None,
        "assertions": [{"text": check.text, "holds": check.truth} for check in outcome.checks],
    }


def _instant(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc).isoformat().replace("+00:00", "Z")
