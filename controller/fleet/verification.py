"""How a worker that should be as provisioned looks from the controller: known, connected, delivering."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

#: A certificate is renewed at half of its life. One that ends so soon was not.
RENEWAL_FAILED = dt.timedelta(minutes=30)


def faults(workers: Sequence[Mapping[str, Any]], *, now: dt.datetime) -> tuple[str, ...]:
    """Return what is wrong with a host's worker, given what the API says of the workers with its name."""
    valid = [worker for worker in workers if worker["state"] != "revoked"]
    if not valid:
        return ("the controller has revoked its worker" if workers else "the controller does not know it",)
    return tuple(fault for worker in valid for fault in _faults(worker, now))


def _faults(worker: Mapping[str, Any], now: dt.datetime) -> list[str]:
    found = []
    if worker["state"] == "pending":
        found.append("its worker has never enrolled")
    elif worker["state"] == "offline":
        since = worker["disconnected_at"] or worker["last_seen_at"]
        found.append(f"its worker is not connected since {since}" if since else "its worker is not connected")
    if worker["certificate_until"] is not None:
        left = dt.datetime.fromisoformat(worker["certificate_until"]) - now
        if left <= dt.timedelta(0):
            found.append(f"its certificate has expired at {worker['certificate_until']}")
        elif left < RENEWAL_FAILED:
            found.append(f"its certificate ends at {worker['certificate_until']} and was not renewed")
    if worker["spool_stuck_since"]:
        found.append(
            f"it delivers nothing since {worker['spool_stuck_since']}; {worker['spool_records']} results wait"
        )
    if worker["spool_alarm"]:
        found.append(worker["spool_alarm"])
    return found
