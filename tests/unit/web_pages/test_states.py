"""A test's state: three-valued, and unknown is never down."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from support.records import NOW, a_test

from controller.store.queries.standings import Standing
from streamswarm.v1 import probe_pb2
from web.pages.states import ICONS, SOURCES, test_look


def stands(*statuses: str, age_s: float = 5) -> Standing:
    """Return how a test stands whose lines ended so, the newest so many seconds ago."""
    bad = {status: statuses.count(status) for status in ("failed", "error", "missed")}
    return Standing(last_at=NOW - dt.timedelta(seconds=age_s), runs=len(statuses), **bad)


@pytest.mark.parametrize(
    ("changes", "standing", "state", "word"),
    [
        ({}, stands("ok"), "ok", "ok"),
        ({}, stands("failed", "ok"), "failed", "1 of 2 failed"),
        ({}, stands("error"), "error", "not measured"),
        ({}, stands("missed"), "missed", "missed"),
        ({}, stands("failed", "error"), "failed", "1 of 2 failed"),
        ({}, None, "waiting", "no results yet"),
        ({"jobs": 0}, None, "waiting", "no worker runs it"),
        ({}, stands("ok", age_s=31), "stale", "silent"),
        ({}, stands("failed", age_s=31), "stale", "silent"),
        ({"jobs_drained": 1}, stands("failed", age_s=31), "drained", "workers drained"),
        ({"jobs_drained": 1}, stands("failed"), "failed", "failed"),
        ({"jobs": 2, "jobs_drained": 1}, stands("ok", age_s=31), "stale", "silent"),
        ({"interval_s": None}, stands("ok", age_s=3600), "ok", "ok"),
        ({"interval_s": None, "jobs": 0, "finished": True}, None, "waiting", "ended"),
        ({"interval_s": None, "jobs": 0, "finished": True}, stands("failed"), "failed", "failed"),
        ({"paused": True}, stands("failed"), "paused", "paused"),
        ({"ends_at": NOW}, stands("ok"), "waiting", "ended"),
        ({"recurrence": "new_test", "jobs": 0}, None, "waiting", "a test per run"),
        ({"starts_at": NOW + dt.timedelta(hours=1)}, None, "waiting", "not started yet"),
    ],
)
def test_the_state_follows_from_the_newest_runs(
    changes: dict[str, Any], standing: Standing | None, state: str, word: str
) -> None:
    """What is overdue is silent, however its last run ended: unknown, not down."""
    look = test_look(a_test(**changes), standing, NOW)
    assert (look.state, look.word) == (state, word)
    assert look.state in ICONS


def test_every_failure_source_has_words() -> None:
    """The contract's failure sources are all spelled out for people."""
    names = {
        name.removeprefix("FAILURE_SOURCE_").lower()
        for name in probe_pb2.FailureSource.DESCRIPTOR.values_by_name
    }
    assert set(SOURCES) == names
