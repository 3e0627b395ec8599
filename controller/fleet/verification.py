"""How a worker that should be as provisioned looks from the controller: known, connected, delivering."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any

from controller.policies import comparable, same_policy
from streamswarm.targets import shown

#: A certificate is renewed at half of its life. One of which so much is over was not.
RENEWAL_FAILED = 0.55


def faults(
    workers: Sequence[Mapping[str, Any]], *, now: dt.datetime, policy: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """Return what is wrong with a host's worker, given what the API says of the workers with its name.

    `policy` is the one that the inventory intends; None where that is not known, or not asked.
    """
    valid = [worker for worker in workers if worker["state"] != "revoked"]
    if not valid:
        return ("the controller has revoked its worker" if workers else "the controller does not know it",)
    return tuple(fault for worker in valid for fault in _faults(worker, now, policy))


def _faults(worker: Mapping[str, Any], now: dt.datetime, policy: Mapping[str, Any] | None) -> list[str]:
    found = []
    if worker["state"] == "pending":
        found.append("its worker has never enrolled")
    elif worker["state"] == "drained":
        found.append(f"its worker is drained since {worker['drained_at']}, by {worker['drained_by']}")
    elif worker["state"] == "offline":
        since = worker["disconnected_at"] or worker["last_seen_at"]
        found.append(f"its worker is not connected since {since}" if since else "its worker is not connected")
    if worker["certificate_until"] is not None:
        begin, end = (dt.datetime.fromisoformat(worker[f"certificate_{at}"]) for at in ("from", "until"))
        if now >= end:
            found.append(f"its certificate has expired at {worker['certificate_until']}")
        elif now > begin + (end - begin) * RENEWAL_FAILED:
            found.append(
                f"its certificate ends at {worker['certificate_until']} and was not renewed at half of its life"
            )
    if (
        policy is not None
        and worker["connected_at"] is not None
        and not same_policy(policy, worker["policy"])
    ):
        found.append(
            f"the policy that it keeps to is {_words(worker['policy'])}, not {_words(policy)} as the inventory intends"
        )
    if worker["jobs_overdue"]:
        found.append(
            f"{worker['jobs_overdue']} of its {worker['jobs']} jobs deliver nothing although they are due"
        )
    if worker["spool_stuck_since"]:
        found.append(
            f"it delivers nothing since {worker['spool_stuck_since']}; {worker['spool_records']} results wait"
        )
    if worker["spool_alarm"]:
        found.append(worker["spool_alarm"])
    return found


def _words(policy: Mapping[str, Any]) -> str:
    return shown(json.dumps(comparable(policy), sort_keys=True), 300) if comparable(policy) else "empty"
