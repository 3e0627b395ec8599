"""Workers in trouble, as far as the controller knows; what is wrong on a host, `streamswarm-worker doctor` tells there."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy.orm import Session

from controller.store import health
from controller.store.queries import troubles
from streamswarm.findings import Finding, ok, wrong

_MENDS = {
    troubles.Trouble.OFFLINE: "call `streamswarm-worker doctor` on the host; revoke or delete workers that are gone for good",
    troubles.Trouble.CLOCK: "set the clock on the host, and have it kept by NTP",
    troubles.Trouble.SPOOL: "call `streamswarm-worker doctor` on the host, and make room on its disk",
    troubles.Trouble.STUCK: "see the gateway's log for why results of it are not stored",
    troubles.Trouble.NETWORK: "see the worker's page; its host has lost its own access to the network",
    troubles.Trouble.REFUSED: "see what was refused and why: its page, or /api/v1/workers/ID/quarantine",
    troubles.Trouble.EXPIRED: "they were not stored, and its page counts them; a worker that is away for longer needs a longer "
    "STREAMSWARM_RETENTION_DAYS, on gateways and keepers",
    troubles.Trouble.NEWER: "bring the controller to the workers' release, or the workers back to the controller's",
}


def examine(session: Session) -> Iterator[Finding]:
    """Yield a finding for each sort of trouble, and one for what is well."""
    state = health.read_health(session.connection()).worker
    found = troubles.read(session)
    for trouble in found:
        names = ", ".join(trouble.names)
        more = (
            f" and {trouble.workers - len(trouble.names)} more"
            if trouble.workers > len(trouble.names)
            else ""
        )
        yield wrong("workers", f"{trouble.workers} {trouble.text}: {names}{more}", _MENDS[trouble.trouble])
    overdue = troubles.overdue_jobs(session)
    if overdue:
        yield wrong(
            "jobs",
            f"{overdue} jobs of connected workers do not deliver what is due",
            "see the workers' pages: their policy may forbid them, or too much is asked of them",
        )
    if not found and not overdue:
        yield ok("workers", state.message)
