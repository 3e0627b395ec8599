"""What the controller knows against what the inventory says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from controller.errors import ConfigurationError
from controller.fleet.bundles import Bundle
from controller.fleet.drift import (
    LOCAL,
    MENDED_HERE,
    Comparison,
    DriftKind,
    FleetWorker,
    Releases,
    compare,
    mend,
)
from controller.fleet.inventory import InventoryHost
from controller.fleet.platforms import Platform
from controller.local.localworker import HOST_NAME

HOST = InventoryHost(
    name="edge-1",
    address="192.0.2.1",
    measured_address="192.0.2.1",
    groups=("berlin", "workers"),
    site="berlin",
    labels={"uplink": "fibre"},
    policy={"deny": ["192.0.2.0/24"], "allow": [], "ports": [443, 80]},
)
WORKER = FleetWorker(
    id="7",
    host="edge-1",
    state="connected",
    known=True,
    last_seen="2030-01-31T08:00:00Z",
    site="berlin",
    labels={"uplink": "fibre"},
    groups=("workers", "berlin"),
    version="1.2.0+abc",
    policy={"deny": ["192.0.2.0/24"], "ports": ["80", "443"], "allow_loopback": False},
    python="3.11.2",
    architecture="x86_64",
)
RELEASES = Releases(distribution="1.2.0")


def _bundle(version: str, *, python: str = "3.11.2") -> Bundle:
    platform = Platform(python=python, architecture="x86_64", libc="glibc-2.36")
    return Bundle(path=Path("/nowhere"), version=version, sha256="", platform=platform)


def _found(
    host: InventoryHost | None = HOST, worker: FleetWorker | None = WORKER, releases: Releases = RELEASES
) -> Comparison:
    other = dataclasses.replace(HOST, name="other")
    there = dataclasses.replace(WORKER, host="other", id="8")
    return compare(
        [other, *([host] if host else [])], [there, *([worker] if worker else [])], releases=releases
    )


def _worker(**changes: Any) -> FleetWorker:
    return dataclasses.replace(WORKER, **changes)


def _host(**changes: Any) -> InventoryHost:
    return dataclasses.replace(HOST, **changes)


def test_what_means_the_same_is_no_drift() -> None:
    """Order, empty lists, what is off anyway and numbers as text make no difference."""
    found = _found()
    assert (found.drift, found.notes, found.hosts, found.workers) == ((), (), 2, 2)


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"site": "oslo"}, DriftKind.SITE, "site is oslo, not berlin; run `streamswarm fleet drift --mend`"),
        ({"site": ""}, DriftKind.SITE, "site is unset, not berlin"),
        ({"labels": {}}, DriftKind.LABELS, 'labels is empty, not {"uplink": "fibre"}'),
        ({"groups": ("workers",)}, DriftKind.GROUPS, "groups is workers, not berlin, workers"),
        ({"state": "offline"}, DriftKind.NOT_CONNECTED, "(last seen 2030-01-31T08:00:00Z); look on the host"),
        ({"state": "revoked"}, DriftKind.REVOKED, "streamswarm_worker_enrol_again"),
        ({"version": "1.1.9+abc"}, DriftKind.VERSION, "version is 1.1.9+abc, not 1.2.0; run"),
        ({"version": "1.2.01"}, DriftKind.VERSION, "version is 1.2.01, not 1.2.0; run"),
        ({"policy": {}}, DriftKind.POLICY, "policy is empty, not {"),
        ({"policy": {"error": "broken"}}, DriftKind.POLICY, 'policy is {"error": "broken"}, not {'),
        ({"state": "pending"}, DriftKind.NOT_ENROLLED, "streamswarm fleet provision --limit edge-1"),
    ],
)
def test_each_sort_of_drift_is_one_line(changes: dict[str, Any], kind: DriftKind, says: str) -> None:
    """A worker that is other in one thing is told once, with both sides and what to do."""
    [drift] = _found(worker=_worker(**changes)).drift
    assert (drift.host, drift.kind, drift.worker_id) == ("edge-1", kind, "7")
    assert says in str(drift)
    assert "\n" not in str(drift)


def test_a_host_without_a_worker_and_a_worker_without_a_host() -> None:
    """Both sides are told; a worker that was removed and kept, and the one beside the controller, are not."""
    [missing] = _found(worker=None).drift
    assert (missing.kind, missing.worker_id) == (DriftKind.NOT_ENROLLED, None)
    [unexpected] = _found(host=None).drift
    assert (unexpected.kind, unexpected.worker_id) == (DriftKind.NOT_IN_INVENTORY, "7")
    assert _found(host=None, worker=_worker(state="revoked")).drift == ()
    assert LOCAL == HOST_NAME
    assert _found(host=None, worker=_worker(host=LOCAL)).drift == ()


def test_a_host_outside_of_the_group_gets_no_worker() -> None:
    """Only the group that the playbooks provision is compared; an inventory without it is an error."""
    assert _found(host=_host(groups=("databases",)), worker=None).drift == ()
    [unexpected] = _found(host=_host(groups=("databases",))).drift
    assert unexpected.kind is DriftKind.NOT_IN_INVENTORY
    with pytest.raises(ConfigurationError, match="no host in the group `workers`"):
        compare([_host(groups=())], [], releases=RELEASES)


def test_what_a_worker_never_told_is_not_compared() -> None:
    """A worker that has never held a session has neither version nor policy."""
    [drift] = _found(worker=_worker(known=False, state="offline", version="", policy={}, last_seen="")).drift
    assert drift.kind is DriftKind.NOT_CONNECTED
    assert "(never seen)" in str(drift)


def test_the_bundle_that_lies_ready_decides_the_version() -> None:
    """For the worker's own Python the whole version counts, for others the distribution's."""
    mine, others = _found(releases=Releases(distribution="1.2.0", ready=[_bundle("1.2.0+new")])).drift
    assert (mine.kind, mine.wanted, mine.found) == (DriftKind.VERSION, "1.2.0+new", "1.2.0+abc")
    assert (others.host, others.kind) == ("other", DriftKind.VERSION)
    other = _bundle("1.2.0+new", python="3.12.1")
    assert _found(releases=Releases(distribution="1.2.0", ready=[other])).drift == ()


def test_a_bundle_that_the_inventory_names_decides_the_version() -> None:
    """Its description tells the version; one that cannot be read is noted, and is no drift."""
    host = _host(bundle="/srv/b.tar.gz")
    [drift] = _found(host, releases=Releases(distribution="1.2.0", of_file=lambda path: "1.0.0+old")).drift
    assert (drift.wanted, drift.found) == ("1.0.0+old", "1.2.0+abc")
    silent = _found(host)
    assert silent.drift == ()
    assert "/srv/b.tar.gz.json" in silent.notes[0]


def test_a_policy_that_only_ansible_reads_is_noted() -> None:
    """A template is no policy to compare with, and that is said."""
    found = _found(_host(policy=None))
    assert found.drift == ()
    assert found.notes == (
        "edge-1: its policy is a template or vaulted, which only a run of Ansible reads; not compared",
    )


def test_mending_changes_what_the_controller_holds_and_nothing_else() -> None:
    """Site, labels and groups of a worker go in one call; version and policy need a run of the playbook."""
    calls: list[tuple[str, Any]] = []

    class Api:
        def items(self, path: str, **query: Any) -> Any:
            raise AssertionError(path)

        def patch(self, path: str, body: Any) -> dict[str, Any]:
            calls.append((path, body))
            return {}

    found = _found(worker=_worker(site="", labels={}, groups=(), version="0.9", policy={}))
    assert {drift.kind for drift in found.drift} == {*MENDED_HERE, DriftKind.VERSION, DriftKind.POLICY}
    assert mend(Api(), found) == 1
    assert calls == [
        (
            "/workers/7",
            {"site": "berlin", "labels": {"uplink": "fibre"}, "groups": ["berlin", "workers"]},
        )
    ]


def test_as_plain_values_everything_has_its_place() -> None:
    """JSON has both sides, what to do, and the counts."""
    plain = _found(worker=_worker(site="")).as_plain()
    assert plain == {
        "drift": [
            {
                "host": "edge-1",
                "kind": "site",
                "wanted": "berlin",
                "found": None,
                "mend": "run `streamswarm fleet drift --mend`, or mend the inventory",
                "worker_id": "7",
            }
        ],
        "notes": [],
        "hosts": 2,
        "workers": 2,
    }


def test_what_a_host_says_cannot_steer_a_terminal() -> None:
    """Control characters in what a worker announces are escaped."""
    [drift] = _found(worker=_worker(version="1\x1b[2J")).drift
    assert "\x1b" not in str(drift)


def test_a_drained_worker_is_noted_and_no_drift() -> None:
    """It was taken out of service on purpose; how it comes back is told."""
    found = _found(worker=_worker(state="drained"))
    assert found.drift == ()
    assert found.notes == (
        f"{HOST.name}: drained; `streamswarm fleet resume {HOST.name}` puts it into service again",
    )
