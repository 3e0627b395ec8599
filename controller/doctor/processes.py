"""The controller's own processes, by their heartbeats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from controller.store.health import NEEDS, is_clock_off, off_by
from controller.store.queries.health import ProcessRecord
from controller.store.upkeep import believed
from streamswarm import __version__
from streamswarm.findings import Finding, ok, wrong

#: What goes by the clock of a process.
_JUDGED = {
    "gateway": "certificates are judged by the gateway's",
    "keeper": f"nothing is removed for its age while they are more than {believed.AGREEMENT.total_seconds() / 60:.0f} "
    "minutes apart",
}


def examine(running: Sequence[ProcessRecord]) -> Iterator[Finding]:
    """Yield a finding for each role: none alive, some that died unheard, some of another release."""
    for role, consequence in NEEDS.items():
        mine = [process for process in running if process.role == role]
        alive = [process for process in mine if process.alive]
        dead = [process for process in mine if not process.alive]
        if not alive:
            yield wrong(role, f"none is alive: {consequence}", f"start `streamswarm {role}`")
        elif dead:
            yield wrong(
                role,
                f"{len(alive)} alive, and {_named(dead)} died without a word, {dead[0].heartbeat_age_s:,.0f} s ago",
                "see its log; start it again where it is still wanted (what is gone for an hour is forgotten)",
            )
        else:
            yield ok(role, f"{len(alive)} alive: {_named(alive)}")
        for process in alive:
            offset_ms = process.gauges.get("clock_offset_ms")
            if offset_ms is not None and is_clock_off(offset_ms):
                yield wrong(
                    role,
                    f"the clock of {_named([process])} is {off_by(offset_ms)} the database's",
                    f"set the clock of the one that is wrong (NTP); {_JUDGED[process.role]}",
                )
        others = [process for process in alive if process.version != __version__]
        if others:
            versions = ", ".join(sorted({process.version for process in others}))
            yield wrong(
                role,
                f"{_named(others)} runs {versions}, and this is {__version__}",
                f"restart `streamswarm {role}`",
            )


def _named(processes: Sequence[ProcessRecord]) -> str:
    return ", ".join(
        f"{process.name} (process {process.pid} on {process.host_name})" for process in processes[:5]
    )
