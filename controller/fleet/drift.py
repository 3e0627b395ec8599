"""What the controller knows of its workers against what the inventory says: pure comparison, host by host.

What a worker never told, and what only a run of Ansible could read in the inventory, is not compared: neither counts as
drift.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from controller.errors import ConfigurationError
from controller.fleet.bundles import Bundle
from controller.fleet.inventory import InventoryHost
from controller.policies import comparable, same_policy
from streamswarm.targets import shown

#: The group whose hosts get a worker, as in the playbooks.
WORKERS = "workers"
#: The worker that `streamswarm up` runs beside the controller and looks after: no inventory has it.
LOCAL = "localhost"


class DriftKind(enum.StrEnum):
    """In what a host is other than it should be."""

    NOT_ENROLLED = "not enrolled"
    NOT_IN_INVENTORY = "not in the inventory"
    REVOKED = "revoked"
    NOT_CONNECTED = "not connected"
    VERSION = "version"
    POLICY = "policy"
    SITE = "site"
    LABELS = "labels"
    GROUPS = "groups"


#: What the controller alone holds, so that a call of its API mends it.
MENDED_HERE = (DriftKind.SITE, DriftKind.LABELS, DriftKind.GROUPS)


@dataclass(frozen=True, kw_only=True)
class FleetWorker:
    """A worker as far as it is compared."""

    id: str
    #: Name of its host in the inventory.
    host: str
    #: `connected`, `drained`, `offline`, `pending` or `revoked`.
    state: str
    #: Whether it has ever held a session: only then are version and policy its own words.
    known: bool
    last_seen: str
    site: str
    labels: Mapping[str, str]
    groups: tuple[str, ...]
    version: str
    policy: Mapping[str, Any]
    #: Version and machine of the Python that it runs on.
    python: str = ""
    architecture: str = ""

    @classmethod
    def from_answer(cls, answer: Mapping[str, Any]) -> FleetWorker:
        """Return the worker that the REST API shows."""
        facts = answer["facts"]
        return cls(
            id=answer["id"],
            host=answer["host_name"],
            state=answer["state"],
            known=answer["connected_at"] is not None,
            last_seen=answer["last_seen_at"] or "",
            site=answer["site"],
            labels=answer["labels"],
            groups=tuple(answer["groups"]),
            version=answer["version"],
            policy=answer["policy"],
            python=str(facts.get("python", "")),
            architecture=str(facts.get("architecture", "")),
        )


@dataclass(frozen=True, kw_only=True)
class Releases:
    """Which release this controller would install."""

    #: Version of the installed distribution.
    distribution: str
    #: Bundles that lie ready; for other platforms nothing but the distribution's version is known.
    ready: Sequence[Bundle] = ()
    #: Path of a bundle that the inventory names → its version; None when it cannot be read.
    of_file: Callable[[str], str | None] = lambda path: None

    def wanted(self, host: InventoryHost, worker: FleetWorker) -> tuple[str, ...]:
        """Return the versions of which any is right; one that ends in `+` stands for all that begin so."""
        if host.bundle:
            named = self.of_file(host.bundle)
            return (named,) if named else ()
        fitting = {
            bundle.version
            for bundle in self.ready
            if (bundle.platform.python, bundle.platform.architecture) == (worker.python, worker.architecture)
        }
        return tuple(sorted(fitting)) or (f"{self.distribution}+",)


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One thing in which a host is other than it should be."""

    host: str
    kind: DriftKind
    #: What the inventory, or this controller's release, wants; empty where that is said by the kind.
    wanted: Any = ""
    #: What the controller knows.
    found: Any = ""
    #: What to do.
    mend: str
    worker_id: str | None = None

    def __str__(self) -> str:
        sides = f" is {_words(self.found)}, not {_words(self.wanted)}" if self.kind in _COMPARED else ""
        told = f" ({_words(self.found)})" if not sides and self.found else ""
        return f"{self.host}: {self.kind.value}{sides}{told}; {self.mend}"


_COMPARED = (DriftKind.VERSION, DriftKind.POLICY, *MENDED_HERE)


class Api(Protocol):
    """The calls of the REST API's client that are needed here."""

    def items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Return every item of a list."""

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change something."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that was found."""

    drift: tuple[Drift, ...]
    #: Hosts of the inventory and workers of the controller that were looked at.
    hosts: int
    workers: int
    #: What could not be compared, and why.
    notes: tuple[str, ...] = field(default=())

    def as_plain(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return {
            "drift": [
                {
                    "host": drift.host,
                    "kind": drift.kind.value,
                    "wanted": drift.wanted or None,
                    "found": drift.found or None,
                    "mend": drift.mend,
                    "worker_id": drift.worker_id,
                }
                for drift in self.drift
            ],
            "notes": list(self.notes),
            "hosts": self.hosts,
            "workers": self.workers,
        }


def compare(
    hosts: Sequence[InventoryHost], workers: Sequence[FleetWorker], *, releases: Releases
) -> Comparison:
    """Return in what the workers are other than the inventory wants.

    Hosts outside of the group `workers` get no worker and are left out. So are workers that are not in the inventory
    when they are revoked, for that is how removed ones are kept, and the one that `streamswarm up` runs. Raises ConfigurationError when no host is in the group.
    """
    wanted = {host.name: host for host in hosts if WORKERS in host.groups}
    if not wanted:
        raise ConfigurationError(
            f"the inventory has no host in the group `{WORKERS}`, so nothing can be compared with it",
            mend="put the hosts that shall have a worker into that group, as inventory/example.ini does",
        )
    there = {worker.host: worker for worker in workers}
    drift: list[Drift] = []
    notes: list[str] = []
    for name in sorted(wanted.keys() | there.keys()):
        host, worker = wanted.get(name), there.get(name)
        if host is None and worker is not None:
            drift += _unexpected(worker)
        elif host is not None and (worker is None or worker.state == "pending"):
            drift.append(_not_enrolled(host, worker))
        elif host is not None and worker is not None:
            drift += _differences(host, worker, releases)
            notes += _not_compared(host, worker, releases)
            if worker.state == "drained":
                notes.append(f"{name}: drained; `streamswarm fleet resume {name}` puts it into service again")
    return Comparison(drift=tuple(drift), hosts=len(wanted), workers=len(there), notes=tuple(notes))


def mend(api: Api, comparison: Comparison) -> int:
    """Bring what the controller alone holds in line with the inventory; returns on how many workers."""
    changes: dict[str, dict[str, Any]] = {}
    for drift in comparison.drift:
        if drift.worker_id and drift.kind in MENDED_HERE:
            changes.setdefault(drift.worker_id, {})[drift.kind.value] = drift.wanted
    for worker_id, values in changes.items():
        api.patch(f"/workers/{worker_id}", values)
    return len(changes)


def _not_enrolled(host: InventoryHost, worker: FleetWorker | None) -> Drift:
    return Drift(
        host=host.name,
        kind=DriftKind.NOT_ENROLLED,
        mend=f"run `streamswarm fleet provision --limit {host.name}`",
        worker_id=worker.id if worker else None,
    )


def _unexpected(worker: FleetWorker) -> Iterator[Drift]:
    if worker.state != "revoked" and worker.host != LOCAL:
        yield Drift(
            host=worker.host,
            kind=DriftKind.NOT_IN_INVENTORY,
            found=worker.state,
            mend=f"put it into the inventory's group `{WORKERS}`, or take it off its host and revoke it",
            worker_id=worker.id,
        )


def _differences(host: InventoryHost, worker: FleetWorker, releases: Releases) -> Iterator[Drift]:
    def drift(kind: DriftKind, mend: str, *, wanted: Any = "", found: Any = "") -> Drift:
        return Drift(host=host.name, kind=kind, wanted=wanted, found=found, mend=mend, worker_id=worker.id)

    again = f"run `streamswarm fleet provision --limit {host.name}`"
    here = "run `streamswarm fleet drift --mend`, or mend the inventory"
    if worker.state == "revoked":
        yield drift(
            DriftKind.REVOKED,
            f"enrol it anew with streamswarm_worker_enrol_again, or take it out of the group `{WORKERS}`",
        )
    elif worker.state not in ("connected", "drained"):
        seen = f"last seen {worker.last_seen}" if worker.last_seen else "never seen"
        yield drift(
            DriftKind.NOT_CONNECTED,
            "look on the host: `systemctl status streamswarm-worker`, `journalctl -u streamswarm-worker`",
            found=seen,
        )
    if worker.known:
        right = releases.wanted(host, worker)
        if right and not any(_is_version(worker.version, version) for version in right):
            wanted = " or ".join(version.rstrip("+") for version in right)
            yield drift(DriftKind.VERSION, again, wanted=wanted, found=worker.version)
        if host.policy is not None and not same_policy(host.policy, worker.policy):
            intended, kept = comparable(host.policy), comparable(worker.policy)
            yield drift(DriftKind.POLICY, again, wanted=intended, found=kept)
    if host.site != worker.site:
        yield drift(DriftKind.SITE, here, wanted=host.site, found=worker.site)
    if dict(host.labels) != dict(worker.labels):
        yield drift(DriftKind.LABELS, here, wanted=dict(host.labels), found=dict(worker.labels))
    if set(host.groups) != set(worker.groups):
        yield drift(DriftKind.GROUPS, here, wanted=list(host.groups), found=sorted(worker.groups))


def _not_compared(host: InventoryHost, worker: FleetWorker, releases: Releases) -> Iterator[str]:
    if host.policy is None:
        yield f"{host.name}: its policy is a template or vaulted, which only a run of Ansible reads; not compared"
    if worker.known and not releases.wanted(host, worker):
        yield f"{host.name}: {shown(host.bundle, 200)}.json, which would tell the version, cannot be read; not compared"


def _is_version(version: str, wanted: str) -> bool:
    return version.startswith(wanted) or version == wanted[:-1] if wanted.endswith("+") else version == wanted


def _words(value: Any) -> str:
    if isinstance(value, str):
        return shown(value) if value else "unset"
    if not value:
        return "empty"
    if isinstance(value, list):
        return ", ".join(shown(str(item)) for item in value)
    return shown(json.dumps(value, sort_keys=True), 300)
