"""Which workers a test means, and whether a worker can run a kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.planning.records import PlannedTest, PlannedWorker
from streamswarm import SCHEDULES_CONTRACT


def selects(selection: Mapping[str, Any], worker: PlannedWorker) -> bool:
    """Return whether a selection takes a worker: `all`, or any of its ids, sites, groups or labels."""
    if selection.get("all"):
        return True
    labels = selection.get("labels") or {}
    return (
        str(worker.id) in {str(item).lower() for item in selection.get("workers") or ()}
        or bool(worker.site and worker.site in (selection.get("sites") or ()))
        or not set(worker.groups).isdisjoint(selection.get("groups") or ())
        or any(worker.labels.get(key) == value for key, value in labels.items())
    )


def too_old(worker: PlannedWorker, test: PlannedTest) -> str:
    """Return why a worker's release cannot keep a test's schedule, or an empty text when it can.

    It would take a job with cron for one that is due once, and run outside of windows.
    """
    if not (test.cron or test.windows) or not 0 < worker.contract_version < SCHEDULES_CONTRACT:
        return ""
    return "the worker's release cannot keep cron and windows; upgrade the worker"


def unable(worker: PlannedWorker, kind: str) -> str:
    """Return why a worker gets no job of a kind, or an empty text when it can have one.

    A worker that has not announced its kinds yet gets its jobs in advance.
    """
    if worker.revoked:
        return "the worker's access is revoked; enrol it again to use it"
    if not worker.enrolled:
        return "the worker has not enrolled yet"
    if not worker.kinds:
        return ""
    announced = worker.kinds.get(kind)
    if announced is None:
        return f"the worker's release does not know `{kind}`; upgrade the worker"
    if announced.get("available"):
        return ""
    reason = str(announced.get("reason") or "").strip() or "the worker gives no reason"
    mend = str(announced.get("mend") or "").strip()
    return f"the worker cannot run `{kind}`: {reason}" + (f"; mend it with: {mend}" if mend else "")
