"""A worker as the controller sees it: every way in which it is not as provisioned."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from controller.fleet.verification import faults

NOW = dt.datetime(2030, 1, 1, 12, tzinfo=dt.UTC)
WELL = {
    "state": "connected",
    "disconnected_at": None,
    "last_seen_at": "2030-01-01T11:59:59Z",
    "certificate_from": "2030-01-01T00:00:00Z",
    "certificate_until": "2030-01-02T00:00:00Z",
    "jobs": 3,
    "jobs_overdue": 0,
    "spool_stuck_since": None,
    "spool_alarm": "",
    "spool_records": 0,
}


def test_a_worker_that_is_well_has_no_fault() -> None:
    """Connected, with a certificate that lasts and a spool that empties."""
    assert faults([WELL], now=NOW) == ()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"state": "offline", "disconnected_at": "2030-01-01T10:00:00Z"},
            "not connected since 2030-01-01T10",
        ),
        (
            {"state": "drained", "drained_at": "2030-01-01T10:00:00Z", "drained_by": "user:ada"},
            "drained since 2030-01-01T10:00:00Z, by user:ada",
        ),
        ({"state": "pending", "certificate_until": None}, "never enrolled"),
        ({"state": "revoked"}, "revoked"),
        ({"certificate_until": "2030-01-01T11:59:00Z"}, "expired"),
        (
            {"certificate_from": "2029-12-31T22:00:00Z", "certificate_until": "2030-01-01T22:00:00Z"},
            "not renewed",
        ),
        ({"jobs_overdue": 2}, "2 of its 3 jobs deliver nothing"),
        ({"spool_stuck_since": "2030-01-01T11:00:00Z", "spool_records": 700}, "700 results wait"),
        ({"spool_alarm": "the spool is full"}, "the spool is full"),
    ],
)
def test_each_fault_is_named(changed: dict[str, Any], said: str) -> None:
    """One fault, one text."""
    (found,) = faults([{**WELL, **changed}], now=NOW)
    assert said in found


def test_a_host_without_a_worker_is_unknown_and_a_revoked_one_before_it_does_not_count() -> None:
    """A host that was provisioned anew under the same name has a revoked worker beside its own."""
    assert faults([], now=NOW) == ("the controller does not know it",)
    assert faults([{**WELL, "state": "revoked"}, WELL], now=NOW) == ()


def test_a_warning_that_the_worker_tells_beside_its_policy_is_no_other_policy() -> None:
    """It keeps to what is intended: names alone, with a responder that can answer nobody."""
    policy = {"allow": ["www.example.org"], "responder": 5405}
    told = {"warning": "the responder answers nobody: `allow` has names of hosts only", **policy}
    worker = {**WELL, "connected_at": "2030-01-01T11:00:00Z", "policy": told}
    assert faults([worker], now=NOW, policy=policy) == ()
    assert faults([worker], now=NOW, policy={**policy, "responder": 5406}) != ()
