"""How one job fares, and what of it is evidence. What was not measured never speaks against the destination."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Callable, Sequence

from controller.diagnosis.verdicts.records import (
    Condition,
    Domain,
    Evidence,
    JobReading,
    MetricReading,
    RunOutcome,
)
from controller.diagnosis.watched import floor
from streamswarm.contract import Metric

#: So many of the latest runs are looked at, and so many of them must be bad; the newest among them.
_LATEST, _BAD = 5, 3
#: A job is silent when its newest run is older than this many intervals and this long.
_SILENT_INTERVALS, _SILENT_AT_LEAST = 3, dt.timedelta(seconds=60)
#: What a failure source, and the layer of a metric, suggests.
_OF_SOURCE: dict[str, Domain] = {
    "target": "target_fault",
    "network": "path_fault",
    "resolver": "resolver_fault",
    "vantage": "vantage_fault",
    "schedule": "vantage_fault",
    "policy": "internal",
    "internal": "internal",
}
_OF_LAYER: dict[str, Domain] = {
    "target": "target_fault",
    "path": "path_fault",
    "resolver": "resolver_fault",
    "vantage": "vantage_fault",
}
_SOURCES = {
    "target": "the destination refused or answered wrongly",
    "network": "no answer",
    "resolver": "the name could not be resolved",
    "vantage": "the worker's host could not measure",
    "schedule": "the worker could not start them in time",
    "policy": "the worker's policy forbids it",
    "internal": "a fault of the worker",
}


def condition(job: JobReading, now: dt.datetime) -> Condition:
    """Return how a job fares."""
    if not job.runs or now - job.runs[-1].at > max(
        _SILENT_AT_LEAST, dt.timedelta(seconds=job.interval_s * _SILENT_INTERVALS)
    ):
        return "silent"
    if _quiet(job):
        return "learning" if job.needed else "good"
    told = _told(job.runs)
    if _fails(told):
        return "bad"
    if _many(told, unmeasured):
        return "unmeasured"
    if any(metric.state == "called" for metric in job.metrics):
        return "bad"
    return "learning" if job.needed else "good"


def evidence(job: JobReading) -> tuple[Evidence, ...]:
    """Return what speaks of a fault: runs that fail, or cannot be measured, and metrics that were called."""
    if _quiet(job):
        return ()
    found = []
    told = _told(job.runs)
    for fails in (failed, unmeasured):
        if _many(told, fails):
            found.append(_runs(job, told, [run for run in told if fails(run)]))
    called = [metric for metric in job.metrics if metric.state == "called"]
    since = min(
        (metric.since for metric in called if metric.since), default=job.runs[-1].at if job.runs else None
    )
    # Once one metric is called, others that have left their range as well are heard too: they tell parts apart.
    beside = [metric for metric in job.metrics if metric not in called and metric.beyond >= _BAD]
    found += [
        Evidence(
            job=job,
            metric=metric,
            text=_text(metric),
            since=metric.since or since,
            domain=_OF_LAYER.get(metric.metric.layer, "unknown"),
        )
        for metric in (*called, *beside)
        if called and since is not None
    ]
    return tuple(found)


def local_domain(found: Sequence[Evidence]) -> Domain:
    """Return what a job's own evidence blames: failed runs first, then the layers of its metrics.

    A slow path slows everything that goes over it, so it comes before the resolver, and the resolver before the
    destination.
    """
    runs = [one.domain for one in found if one.metric is None]
    if runs:
        return runs[0]
    layers = {one.domain for one in found}
    order: tuple[Domain, ...] = ("vantage_fault", "path_fault", "resolver_fault", "target_fault")
    return next((domain for domain in order if domain in layers), "unknown")


def health(job: JobReading) -> int | None:
    """Return how well a job fares, 0 to 100; None when none of its latest runs was measured."""
    if _quiet(job):
        return 100 if job.runs else None
    told = _told(job.runs)
    measured = [run for run in told[-_LATEST:] if run.status in ("ok", "failed")]
    fails = _fails(told)
    if not measured or (fails and all(run.status == "ok" for run in measured)):
        return None
    if fails:
        return round(100 * sum(run.status == "ok" for run in measured) / len(measured))
    called = [_severity(metric) for metric in job.metrics if metric.state == "called"]
    return max(0, round(100 - max(called) - 5 * (len(called) - 1))) if called else 100


def failed(run: RunOutcome) -> bool:
    """Whether a run says that what was asked for did not work."""
    return run.status == "failed" or (run.status == "error" and run.source == "resolver")


def unmeasured(run: RunOutcome) -> bool:
    """Whether a run says nothing about the destination."""
    return run.status == "missed" or (run.status == "error" and run.source != "resolver")


def amount(value: float | None, metric: Metric) -> str:
    """Return a value with its unit, to three digits."""
    if value is None:
        return "not measured"
    if value == 0:
        number = "0"
    else:
        places = max(0, 2 - math.floor(math.log10(abs(value))))
        number = f"{value:.{min(places, 3)}f}"
        number = number.rstrip("0").rstrip(".") if "." in number else number
    return number if metric.unit in ("1", "") else f"{number}\N{NO-BREAK SPACE}{metric.unit}"


def _quiet(job: JobReading) -> bool:
    """Whether nothing speaks against a job at all: most jobs of a large test, of which there is nothing more to find out."""
    return all(run.status == "ok" for run in job.runs) and not any(
        metric.state == "called" for metric in job.metrics
    )


def _told(runs: Sequence[RunOutcome]) -> Sequence[RunOutcome]:
    """Return the runs without those that could not start because the one before had not ended.

    A slow or silent destination makes runs last longer than the interval; what is missed in between says nothing of
    the worker. When nothing but misses has come lately, they are the news.
    """
    lately = runs[-_BAD - 1 :]
    if all(unmeasured(run) for run in lately):
        return runs
    return [run for run in runs if not (run.status == "missed" and run.source == "schedule")]


def _fails(runs: Sequence[RunOutcome]) -> bool:
    return _many(runs, failed)


def _many(runs: Sequence[RunOutcome], fails: Callable[[RunOutcome], bool]) -> bool:
    latest = runs[-_LATEST:]
    return bool(latest) and fails(latest[-1]) and sum(map(fails, latest)) >= _BAD


def _runs(job: JobReading, runs: Sequence[RunOutcome], bad: Sequence[RunOutcome]) -> Evidence:
    latest = runs[-_LATEST:]
    among = [run for run in latest if run in bad]
    source = Counter(run.source for run in among).most_common(1)[0][0]
    why = _SOURCES.get(source, "no reason was given")
    error = f" ({job.error})" if job.error else ""
    verb = "were not measured" if unmeasured(among[-1]) else "failed"
    return Evidence(
        job=job,
        metric=None,
        text=f"{len(among)} of the last {len(latest)} runs {verb}: {why}{error}",
        since=_streak(runs, bad),
        domain=_OF_SOURCE.get(source, "unknown"),
    )


def _streak(runs: Sequence[RunOutcome], bad: Sequence[RunOutcome]) -> dt.datetime:
    """Return when it began: the earliest bad run after which there were never three others in a row."""
    since, others = runs[-1].at, 0
    for run in reversed(runs):
        if run in bad:
            since, others = run.at, 0
        else:
            others += 1
            if others == _BAD:
                break
    return since


def _text(reading: MetricReading) -> str:
    metric = reading.metric
    return (
        f"{metric.label} {amount(reading.now, metric)}, "
        f"normally {amount(reading.low, metric)} to {amount(reading.high, metric)}"
    )


def _severity(reading: MetricReading) -> float:
    """Return how many points of health an anomaly costs: 30 at the edge of the range, up to 80 far beyond."""
    if reading.now is None or reading.high is None or reading.low is None or reading.normal is None:
        return 30.0
    edge = reading.low if reading.metric.better == "higher" else reading.high
    room = max(abs(edge - reading.normal), floor(reading.metric), 1e-9)
    return 30.0 + 50.0 * min(1.0, math.log1p(abs(reading.now - edge) / room) / math.log1p(50.0))
