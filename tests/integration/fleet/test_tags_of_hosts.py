"""Parts of provisioning, chosen by tags, on a real host."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab.laboratory import Lab
from support.releases import changed_release

from controller import assets
from controller.fleet import operations
from controller.fleet.ansible import environment, private_folder
from controller.fleet.bundles import Bundle
from controller.fleet.operations import PlaybookRequest

pytestmark = [pytest.mark.hosts, pytest.mark.namespaces, pytest.mark.timeout(300)]

CONNECTED = "SELECT version FROM workers WHERE gateway_id IS NOT NULL"


@pytest.fixture(scope="module")
def lab(lab_hosts: Callable[[int], Lab]) -> Lab:
    """One host."""
    return lab_hosts(1)


def test_release_and_settings_are_changed_one_by_one(
    controller: Any, lab: Lab, host_bundle: Bundle, tmp_path: Path
) -> None:
    """`configure` leaves the release that runs, also where the controller has a newer one; `install` leaves the settings."""
    bundle = {"streamswarm_worker_bundle": str(host_bundle.path)}
    with lab.inside():
        request = PlaybookRequest(inventories=(lab.inventory,), variables=bundle)
        recap = operations.provision(request, grant_for=controller.grant_for, ask_reach=controller.reach)
    assert recap.succeeded, recap.hosts
    controller.wait_for(CONNECTED, [(host_bundle.version,)])
    newer = changed_release(host_bundle, tmp_path, "newer")
    reach = controller.reach()
    variables = tmp_path / "variables.json"
    variables.write_text(
        json.dumps(
            {
                "streamswarm_worker_bundle": str(newer.path),
                "streamswarm_worker_gateways": list(reach.gateways),
                "streamswarm_worker_enrolment": reach.enrolment,
                "streamswarm_worker_ca_pem": reach.ca_pem,
            }
        )
    )

    def play(tag: str, denied: str) -> None:
        policy = json.dumps({"streamswarm_worker_policy": {"deny": [denied]}})
        words = ["--tags", tag, "--extra-vars", f"@{variables}", "--extra-vars", policy]
        with private_folder() as private:
            lab.exec(
                [
                    Path(sys.executable).with_name("ansible-playbook"),
                    *("-i", lab.inventory, assets.playbooks() / "provision.yml", *words),
                ],
                timeout=200,
                extra_environment=environment(private),
            )

    host = lab.hosts[0]
    play("configure", "192.0.2.0/24")
    assert "192.0.2.0/24" in host.ssh("cat", "/etc/streamswarm/policy.yaml")
    controller.wait_for(CONNECTED, [(host_bundle.version,)])
    play("install", "198.51.100.0/24")
    assert "192.0.2.0/24" in host.ssh("cat", "/etc/streamswarm/policy.yaml")
    controller.wait_for(CONNECTED, [(newer.version,)])
    links = host.ssh("cd /opt/streamswarm-worker && readlink current previous").split()
    assert links == [f"releases/{newer.version}", f"releases/{host_bundle.version}"]
