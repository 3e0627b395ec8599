"""Made-up readings of jobs, as verdicts take them."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from controller.diagnosis.verdicts.records import JobReading, MetricReading, RunOutcome
from controller.diagnosis.watched import watched
from streamswarm import contract

NOW = dt.datetime(2026, 11, 20, 12, 0, tzinfo=dt.UTC)
TARGETS = {
    "ping": "192.0.2.1",
    "tcp": "192.0.2.1:8080",
    "dns": "192.0.2.53",
    "http": "https://www.example.org/a?b=c",
    "system": "",
}


def metric(
    kind: str, name: str, *, called: bool = False, now: float = 10.0, minutes: float = 2
) -> MetricReading:
    """Return a metric whose normal range is 9 to 12, inside it or called."""
    return MetricReading(
        metric=contract.kind(kind).metric(name),
        state="called" if called else "normal",
        low=9.0,
        normal=10.0,
        high=12.0,
        now=now,
        since=NOW - dt.timedelta(minutes=minutes) if called else None,
    )


def job(
    kind: str, number: int = 1, *, worker: int = 1, bad: dict[str, float] | None = None, **more: Any
) -> JobReading:
    """Return a job with twenty good runs, the newest a moment ago; `bad` are called metrics with their values."""
    bad = bad or {}
    return JobReading(
        **{
            "job_id": number,
            "test_id": 1,
            "test_name": "a test",
            "kind": contract.kind(kind),
            "worker_id": uuid.UUID(int=worker),
            "worker_name": f"edge-{worker}",
            "destination_name": "Router" if TARGETS[kind] else "",
            "target": TARGETS[kind],
            "spec": contract.spec_values(contract.make_spec(kind, {})),
            "interval_s": 10.0,
            "needed": 0,
            "runs": runs(),
            "metrics": tuple(
                metric(kind, one.name, called=one.name in bad, now=bad.get(one.name, 10.0))
                for one in watched(kind)
            ),
            **more,
        }
    )


def runs(status: str = "ok", source: str = "none", count: int = 20, last: int = 20) -> tuple[RunOutcome, ...]:
    """Return runs ten seconds apart of which the last ones ended like that, and the others well."""
    return tuple(
        RunOutcome(
            at=NOW - dt.timedelta(seconds=10 * (count - index)),
            status=status if index >= count - last else "ok",
            source=source if index >= count - last else "none",
        )
        for index in range(count)
    )


def busy_host(worker: int = 1, **more: Any) -> JobReading:
    """Return the system job of a worker whose CPU is busy."""
    return job("system", 90 + worker, worker=worker, test_id=9, bad={"cpu_busy_pct": 99.0}, **more)
