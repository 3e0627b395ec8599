"""A release that is damaged on its host, and a worker that cannot run: named, and mended by provisioning where that can do it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from lab.hosts import Host
from lab.laboratory import Lab

from controller.fleet import operations
from controller.fleet.bundles import Bundle
from controller.fleet.events import HostRecap
from controller.fleet.operations import PlaybookRequest

pytestmark = [pytest.mark.hosts, pytest.mark.namespaces, pytest.mark.timeout(300)]

UNIT = "streamswarm-worker.service"
LOST = "lib/worker/session.py"
CONNECTED = "SELECT count(*) FROM workers WHERE gateway_id IS NOT NULL"


@pytest.fixture(scope="module")
def lab(lab_hosts: Callable[[int], Lab]) -> Lab:
    """One host."""
    return lab_hosts(1)


class Fleet:
    """The operations on that host."""

    def __init__(self, controller: Any) -> None:
        self._controller = controller

    def _request(self, **variables: Any) -> PlaybookRequest:
        bundle = {"streamswarm_worker_bundle": str(self._controller.bundle.path)}
        return PlaybookRequest(inventories=(self._controller.lab.inventory,), variables=bundle | variables)

    def provision(self, **variables: Any) -> HostRecap:
        """Provision it; how it came out of that."""
        with self._controller.lab.inside():
            recap = operations.provision(
                self._request(**variables),
                grant_for=self._controller.grant_for,
                ask_reach=self._controller.reach,
            )
        return recap.hosts[0]

    def verify(self) -> HostRecap:
        """Verify it, without the controller's view of its worker."""
        with self._controller.lab.inside():
            return operations.verify(self._request(), examine=lambda _: "").hosts[0]

    def upgrade(self) -> HostRecap:
        """Upgrade it to the release that it has."""
        with self._controller.lab.inside():
            return operations.upgrade(self._request()).hosts[0]


@pytest.fixture(scope="module")
def fleet(controller: Any) -> Fleet:
    """The host is provisioned."""
    fleet = Fleet(controller)
    host = fleet.provision()
    assert host.succeeded, host.message
    return fleet


@pytest.fixture
def damaged(controller: Any, fleet: Fleet, lab: Lab, host_bundle: Bundle) -> Host:
    """The host without a module of the worker's, which ends over and over."""
    host = lab.hosts[0]
    release = f"/opt/streamswarm-worker/releases/{host_bundle.version}"
    host.ssh(f"cd {release} && rm {LOST}")
    host.ssh("systemctl", "restart", UNIT)
    controller.wait_for(CONNECTED, [(0,)])
    return host


def test_provisioning_mends_a_damaged_release(controller: Any, fleet: Fleet, damaged: Host) -> None:
    """Verification names what is missing, provisioning brings it again, and the next run changes nothing."""
    found = fleet.verify()
    assert not found.succeeded
    assert f"files of the release are missing or changed: {LOST}" in found.message
    assert "Provision the host again" in found.message
    mended = fleet.provision()
    assert mended.succeeded, mended.message
    controller.wait_for(CONNECTED, [(1,)], seconds=5)
    assert fleet.provision().changed == 0
    verified = fleet.verify()
    assert verified.succeeded, verified.message


def test_upgrading_mends_a_damaged_release(controller: Any, fleet: Fleet, damaged: Host) -> None:
    """Also one that is the host's release already."""
    upgraded = fleet.upgrade()
    assert upgraded.succeeded, upgraded.message
    controller.wait_for(CONNECTED, [(1,)])
    assert fleet.provision().changed == 0


def test_a_worker_that_cannot_run_fails_its_provisioning(controller: Any, fleet: Fleet, lab: Lab) -> None:
    """Where the cause is not in what the role brings, the run says what the worker says."""
    host = lab.hosts[0]
    folder = f"/etc/systemd/system/{UNIT}.d"
    host.ssh(
        f"mkdir {folder} && printf '[Service]\\nEnvironment=PYTHONHOME=/nowhere\\n' > {folder}/mine.conf"
    )
    host.ssh("systemctl daemon-reload && systemctl restart", UNIT)
    controller.wait_for(CONNECTED, [(0,)])
    broken = fleet.provision(streamswarm_worker_connection_timeout=4)
    assert not broken.succeeded
    assert "The worker is not connected after 4 s" in broken.message
    assert "No module named 'encodings'" in broken.message
    host.ssh(f"rm -r {folder} && systemctl daemon-reload && systemctl restart", UNIT)
    mended = fleet.provision()
    assert mended.succeeded, mended.message
