"""A test's state: three-valued, and unknown is never down."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from controller.store.queries.results import ResultRecord
from controller.store.queries.tests import TestRecord
from streamswarm.v1 import probe_pb2
from web.pages.states import ICONS, SOURCES, test_look

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


def a_test(**more: Any) -> TestRecord:
    """Return an active ping test that runs every 10 s on one job."""
    values: dict[str, Any] = {
        "id": 1,
        "name": "t",
        "description": "",
        "kind": "ping",
        "spec": {},
        "destinations": (),
        "selection": {"all": True},
        "tags": (),
        "interval_s": 10.0,
        "starts_at": None,
        "ends_at": None,
        "paused": False,
        "jobs": 1,
        "version": 1,
        "planned_version": 1,
        "created_by": "",
        "created_at": NOW,
        "updated_at": NOW,
    }
    return TestRecord(**(values | more))


def run(status: str, age_s: float = 5, value: float | None = None) -> ResultRecord:
    """Return a run of so many seconds ago."""
    at = NOW - dt.timedelta(seconds=age_s)
    return ResultRecord(
        job_id=1,
        job_version=1,
        scheduled_at=at,
        started_at=at,
        duration_ms=1.0,
        status=status,
        failure_source="none",
        error="",
        clock_offset_ms=None,
        metrics={"rtt_avg_ms": value},
        detail=None,
    )


@pytest.mark.parametrize(
    ("changes", "runs", "state", "word"),
    [
        ({}, [run("ok", value=3.0)], "ok", "ok"),
        ({}, [run("failed"), run("ok")], "failed", "1 of 2 failed"),
        ({}, [run("error")], "error", "not measured"),
        ({}, [run("missed")], "missed", "missed"),
        ({}, [run("failed"), run("error")], "failed", "1 of 2 failed"),
        ({}, [], "waiting", "no results yet"),
        ({"jobs": 0}, [], "waiting", "no worker runs it"),
        ({}, [run("ok", age_s=31)], "stale", "silent"),
        ({}, [run("failed", age_s=31)], "stale", "silent"),
        ({"jobs_drained": 1}, [run("failed", age_s=31)], "drained", "workers drained"),
        ({"jobs_drained": 1}, [run("failed")], "failed", "failed"),
        ({"jobs": 2, "jobs_drained": 1}, [run("ok", age_s=31)], "stale", "silent"),
        ({"interval_s": None}, [run("ok", age_s=3600)], "ok", "ok"),
        ({"interval_s": None, "jobs": 0, "finished": True}, [], "waiting", "ended"),
        ({"interval_s": None, "jobs": 0, "finished": True}, [run("failed")], "failed", "failed"),
        ({"paused": True}, [run("failed")], "paused", "paused"),
        ({"ends_at": NOW}, [run("ok")], "waiting", "ended"),
        ({"recurrence": "new_test", "jobs": 0}, [], "waiting", "a test per run"),
        ({"starts_at": NOW + dt.timedelta(hours=1)}, [], "waiting", "not started yet"),
    ],
)
def test_the_state_follows_from_the_newest_runs(
    changes: dict[str, Any], runs: list[ResultRecord], state: str, word: str
) -> None:
    """What is overdue is silent, however its last run ended: unknown, not down."""
    look = test_look(a_test(**changes), runs, NOW)
    assert (look.state, look.word) == (state, word)
    assert look.state in ICONS


def test_the_value_is_the_mean_of_what_was_measured() -> None:
    """Lines that measured nothing do not pull the mean to zero."""
    look = test_look(a_test(), [run("ok", value=2.0), run("ok", value=4.0), run("failed")], NOW)
    assert (look.value, look.measured) == (3.0, 2)
    look = test_look(a_test(), [run("failed")], NOW)
    assert (look.value, look.measured) == (None, 0)


def test_every_failure_source_has_words() -> None:
    """The contract's failure sources are all spelled out for people."""
    names = {
        name.removeprefix("FAILURE_SOURCE_").lower()
        for name in probe_pb2.FailureSource.DESCRIPTOR.values_by_name
    }
    assert set(SOURCES) == names
