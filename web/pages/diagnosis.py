"""The diagnosis of a test: a panel on its page, and a page of its own where scripts do not run."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from flask import render_template, request

from controller.diagnosis.verdicts.records import Domain, Evidence, JobReading, MetricReading, Status, Verdict
from controller.store.queries import diagnosis, tests
from controller.store.queries.diagnosis import Readings
from web.auth import requires
from web.database import transaction
from web.pages.blueprint import blueprint
from web.pages.context import is_fragment
from web.pages.ranges import RangeBar, range_bar, ring

#: Rows of the table; what is wrong comes first.
_MOST_ROWS = 12
#: What a verdict blames, as people call it.
DOMAINS: dict[Domain, str] = {
    "target_fault": "destination",
    "path_fault": "network path",
    "vantage_fault": "worker's host",
    "resolver_fault": "name resolution",
    "internal": "worker or test",
    "unknown": "not known where",
}
#: Look and word of a verdict.
_LOOKS: dict[Status, tuple[str, str]] = {
    "healthy": ("ok", "healthy"),
    "fault": ("failed", "fault"),
    "unmeasured": ("error", "not measured"),
    "learning": ("waiting", "still learning"),
    "silent": ("stale", "no results"),
    "idle": ("waiting", "not running"),
}
#: What to do when there is no verdict.
_HINTS: dict[Status, str] = {
    "learning": "Nothing has to be done: come back when so many runs are stored. Failed runs are told at once all the same.",
    "silent": "See on the workers' page whether its workers are connected, and whether the test is paused. "
    "A keeper scores results a few seconds after they are stored.",
    "idle": "Choose workers for it, or resume it; then its runs can be diagnosed.",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: a piece of evidence, or a watched metric within its range."""

    job: JobReading
    metric: MetricReading | None
    #: None for a metric within its range.
    evidence: Evidence | None
    bar: RangeBar | None
    #: What it points to, in words; empty when it speaks of no part alone.
    domain: str


@blueprint.get("/tests/<int:test_id>/diagnosis")
@requires("viewer")
def test_diagnosis(test_id: int) -> str:
    """Show what is the matter with a test."""
    with transaction() as session:
        test = tests.get(session, test_id)
        now = dt.datetime.now(dt.UTC)
        verdict, found = diagnosis.diagnose(session, test_id, now=now, whole=_MOST_ROWS)
    rows, more = _rows(verdict, found)
    look, word = _LOOKS[verdict.status]
    return render_template(
        "tests/diagnosis.html" if is_fragment() else "tests/diagnosis_page.html",
        test=test,
        verdict=verdict,
        look=look,
        word=word,
        domain=DOMAINS[verdict.domain] if verdict.domain else "",
        hint=_HINTS.get(verdict.status, ""),
        ring=ring(verdict.health),
        rows=rows,
        more=more,
        looked_at=found.looked_at,
        refreshed="live" in request.args,
    )


def _rows(verdict: Verdict, found: Readings) -> tuple[list[Row], int]:
    """Return the first rows, evidence before what else is watched, and how many there are beyond them."""
    rows = [
        Row(
            job=one.job,
            metric=one.metric,
            evidence=one,
            bar=range_bar(one.metric) if one.metric else None,
            domain="" if one.domain == "unknown" else DOMAINS[one.domain],
        )
        for one in verdict.evidence[:_MOST_ROWS]
    ]
    told = {(one.job.job_id, one.metric.metric.name) for one in verdict.evidence if one.metric}
    ranges = [(job, metric) for job in found.jobs for metric in job.metrics if metric.high is not None]
    watched = [(job, metric) for job, metric in ranges if (job.job_id, metric.metric.name) not in told]
    # What calm jobs have beyond the first is counted where they are kept.
    count = found.ranges - (len(ranges) - len(watched))
    rows += [
        Row(job=job, metric=metric, evidence=None, bar=range_bar(metric), domain="")
        for job, metric in watched[: _MOST_ROWS - len(rows)]
    ]
    return rows, len(verdict.evidence) + count - len(rows)
