"""The health gate of an upgrade."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from controller.fleet.upgrades.gate import Passage, passage
from controller.fleet.upgrades.samples import SLACK_S, Job

START = dt.datetime(2030, 1, 1, 12, tzinfo=dt.UTC)
AGAIN = START + dt.timedelta(seconds=8)


def _worker(**values: Any) -> dict[str, Any]:
    usual = {"state": "connected", "connected_at": AGAIN.isoformat(), "version": "1.1+b"}
    return {**usual, **values}


SOON = AGAIN + dt.timedelta(seconds=3)


def _job(
    interval_s: float | None, latest: dt.datetime | None, *, first_due: dt.datetime | None = SOON
) -> Job:
    return Job(
        kind="ping",
        test_id=1,
        destination_id=2,
        name="ping to office",
        interval_s=interval_s,
        latest=latest,
        first_due=first_due,
    )


def _passage(workers: list[dict[str, Any]], jobs: list[Job] | None = None, *, seconds: float = 10) -> Passage:
    now = START + dt.timedelta(seconds=seconds)
    return passage(workers, jobs or [], release="1.1+b", after=START, patience_s=60, now=now)


def test_a_worker_that_is_back_and_delivers_is_through() -> None:
    """Jobs by cron, and those that run less often than every five minutes, are not waited for."""
    fresh = AGAIN + dt.timedelta(seconds=1)
    jobs = [_job(5, fresh), _job(None, None), _job(3600, None)]
    assert _passage([_worker()], jobs) == Passage(since=AGAIN)


@pytest.mark.parametrize(
    "worker",
    [
        {"state": "offline"},
        {"connected_at": (START - dt.timedelta(hours=1)).isoformat()},
        {"connected_at": None},
    ],
)
def test_a_session_of_before_does_not_count(worker: dict[str, Any]) -> None:
    """It is waited for, and not for ever."""
    assert _passage([_worker(**worker)]).waiting == "its worker has not connected again"
    assert (
        _passage([_worker(**worker)], seconds=61).failed == "its worker has not connected again within 60 s"
    )


def test_the_wrong_release_and_a_revoked_worker_fail_at_once() -> None:
    """Waiting is no use."""
    assert "release 1.0+a, not 1.1+b" in _passage([_worker(version="1.0+a")]).failed
    assert "revoked" in _passage([_worker(state="revoked")]).failed
    assert "does not know it" in _passage([]).failed


def test_a_job_is_waited_for_until_its_interval_and_the_slack_are_over() -> None:
    """What it delivered before the restart does not count."""
    jobs = [_job(5, AGAIN - dt.timedelta(seconds=1)), _job(5, AGAIN + dt.timedelta(seconds=2))]
    assert _passage([_worker()], jobs).waiting == "results of 1 of 2 jobs"
    late = 8 + 3 + 5 + SLACK_S + 0.1
    assert _passage([_worker()], jobs, seconds=late - 0.2).waiting
    failed = _passage([_worker()], jobs, seconds=late).failed
    assert failed.startswith("1 of its 2 jobs delivered nothing within their interval and 15 s")
    assert "ping to office every 5 s" in failed


@pytest.mark.parametrize("first_due", [None, AGAIN + dt.timedelta(hours=10)])
def test_a_job_that_is_not_due_is_not_waited_for(first_due: dt.datetime | None) -> None:
    """Outside its windows, before its start, after its end, or paused: nothing of it is missing."""
    job = _job(60, AGAIN - dt.timedelta(hours=4), first_due=first_due)
    assert _passage([_worker()], [job]) == Passage(since=AGAIN)
    assert _passage([_worker()], [job], seconds=1000) == Passage(since=AGAIN)


def test_a_job_whose_window_opens_is_late_only_an_interval_after_that() -> None:
    """However long the session has been there by then."""
    job = _job(60, AGAIN - dt.timedelta(hours=14), first_due=AGAIN + dt.timedelta(seconds=200))
    assert _passage([_worker()], [job], seconds=8 + 201).waiting == "results of 1 of 1 jobs"
    assert "delivered nothing" in _passage([_worker()], [job], seconds=8 + 200 + 60 + SLACK_S + 1).failed
