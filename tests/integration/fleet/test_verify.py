"""Verification of real hosts: each sort of difference is named in the host's one line, and nothing is changed."""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from lab.errors import LabError
from lab.hosts import Host
from lab.laboratory import Lab

from controller.cli.client import Client
from controller.fleet import operations
from controller.fleet.api import workers_of
from controller.fleet.bundles import Bundle
from controller.fleet.operations import PlaybookRequest, Recap
from controller.fleet.verification import faults

pytestmark = [pytest.mark.hosts, pytest.mark.namespaces, pytest.mark.timeout(300)]

UNIT = "streamswarm-worker.service"
INSTALLED = "/opt/streamswarm-worker"
POLICY = {"deny": ["192.0.2.0/24"]}


def _request(controller: Any, **options: Any) -> PlaybookRequest:
    variables = {
        "streamswarm_worker_bundle": str(controller.bundle.path),
        "streamswarm_worker_policy": POLICY,
        **options.pop("variables", {}),
    }
    return PlaybookRequest(inventories=(controller.lab.inventory,), variables=variables, **options)


def _verify(controller: Any, api: Client, **options: Any) -> Recap:
    request = _request(controller, **options)
    hosts = operations.hosts_of(request)

    def examine(host: str) -> str:
        now = dt.datetime.now(dt.UTC)
        return "; ".join(faults(workers_of(api, host), now=now, policy=hosts[host].policy))

    with controller.lab.inside():
        return operations.verify(request, examine=examine)


def _provision(controller: Any, **variables: Any) -> Recap:
    with controller.lab.inside():
        request = _request(controller, limit="host1", variables=variables)
        return operations.provision(request, grant_for=controller.grant_for)


@pytest.fixture(scope="module")
def host(controller: Any, lab: Lab) -> Host:
    """host1 with a worker that is connected; host2 stays as it is."""
    with lab.inside():
        recap = operations.provision(_request(controller, limit="host1"), grant_for=controller.grant_for)
    assert recap.succeeded, recap.hosts
    connected = "SELECT count(*) FROM workers WHERE gateway_id IS NOT NULL AND host_name = 'host1'"
    controller.wait_for(connected, [(1,)], seconds=30)
    return lab.hosts[0]


def test_a_host_as_provisioned_is_right_and_a_bare_one_is_not(
    controller: Any, api: Client, host: Host
) -> None:
    """The first run after provisioning finds nothing and changes nothing; a host without a worker fails with one line."""
    listed = (
        "find /opt /etc/streamswarm /var/lib/streamswarm-worker -printf '%p %m %u %T@ %C@\\n' | grep -v spool"
    )
    before = host.ssh(listed)
    recap = _verify(controller, api)
    by_name = {each.host: each for each in recap.hosts}
    assert by_name["host1"].succeeded, by_name["host1"].message
    assert [each.changed for each in recap.hosts] == [0, 0]
    assert host.ssh(listed) == before
    message = by_name["host2"].message
    assert not recap.succeeded
    assert "\n" not in message
    for fault in (
        "the controller does not know it",
        "service is inactive",
        "release is missing",
        "not enrolled",
    ):
        assert fault in message
    assert controller.rows("SELECT count(*) FROM enrolment_tokens WHERE host_name = 'host2'") == [(0,)]


def test_each_difference_is_named(controller: Any, api: Client, host: Host, host_bundle: Bundle) -> None:
    """Service, start, unit, policy, configuration, rights, identity, CA, release and connection: all in one line."""
    host.ssh("cp -a /etc/streamswarm /root/kept-config")
    host.ssh("echo 'log_level: debug' >> /etc/streamswarm/worker.yaml")
    host.ssh(
        "echo 'allow_loopback: true' >> /etc/streamswarm/policy.yaml; chmod 666 /etc/streamswarm/policy.yaml"
    )
    host.ssh("rm /etc/streamswarm/ca.pem")
    host.ssh(f"echo '# mine' >> /etc/systemd/system/{UNIT}")
    host.ssh("systemctl", "disable", "--now", UNIT)
    host.ssh("mv /var/lib/streamswarm-worker/identity /root/kept-identity")
    host.ssh(f"ln -sfn releases/9.9 {INSTALLED}/current")
    controller.wait_for("SELECT count(*) FROM workers WHERE gateway_id IS NOT NULL", [(0,)])
    host.ssh(f"echo '# mine too' >> /etc/systemd/system/{UNIT}")
    [recap] = _verify(controller, api, limit="host1").hosts
    assert not recap.succeeded
    assert recap.changed == 0
    for fault in (
        "its worker is not connected",
        "the service is inactive",
        "the service does not start with the host",
        f"the release is 9.9 instead of {host_bundle.version}",
        "the worker is not enrolled",
        "missing: /etc/streamswarm/ca.pem",
        f"changed: /etc/systemd/system/{UNIT}, /etc/streamswarm/policy.yaml, /etc/streamswarm/worker.yaml",
        "owner or mode: /etc/streamswarm/policy.yaml",
    ):
        assert fault in recap.message
    host.ssh("rm -r /etc/streamswarm; mv /root/kept-config /etc/streamswarm")
    host.ssh("mv /root/kept-identity /var/lib/streamswarm-worker/identity")
    with controller.lab.inside():
        mended = operations.provision(_request(controller, limit="host1"), grant_for=controller.grant_for)
    assert mended.succeeded, mended.hosts
    controller.wait_for("SELECT count(*) FROM workers WHERE gateway_id IS NOT NULL", [(1,)])
    [recap] = _verify(controller, api, limit="host1").hosts
    assert recap.succeeded, recap.message


def test_another_release_that_still_runs_is_named(
    controller: Any, api: Client, host: Host, host_bundle: Bundle
) -> None:
    """`current` is right again, but the process was started from the release before."""
    version = host_bundle.version
    host.ssh(f"cp -a {INSTALLED}/releases/{version} {INSTALLED}/releases/{version}.old")
    host.ssh(f"ln -sfn releases/{version}.old {INSTALLED}/current; systemctl restart {UNIT}")
    host.ssh(f"ln -sfn releases/{version} {INSTALLED}/current")
    controller.wait_for("SELECT count(*) FROM workers WHERE gateway_id IS NOT NULL", [(1,)])
    host.ssh(f"touch -d tomorrow /etc/systemd/system/{UNIT}")
    [recap] = _verify(controller, api, limit="host1").hosts
    assert not recap.succeeded
    assert f"another release runs than {version}" in recap.message
    assert "systemd has not read the changed unit" in recap.message


def test_a_policy_of_a_run_that_broke_off_is_told_and_mended(
    controller: Any, api: Client, host: Host
) -> None:
    """It was written and is not in force: verification says so by host and by controller, and provisioning restarts the worker."""
    other = {"streamswarm_worker_policy": {"deny": ["198.51.100.0/24"]}}
    host.ssh("cd /etc/streamswarm && mv ca.pem kept && mkdir ca.pem")
    broken = _provision(controller, **other)
    host.ssh("cd /etc/streamswarm && rmdir ca.pem && mv kept ca.pem")
    assert not broken.succeeded
    assert "/etc/streamswarm/ca.pem is a folder and shall be a file" in broken.hosts[0].message
    assert "198.51.100.0/24" in host.ssh("cat /etc/streamswarm/policy.yaml")
    [recap] = _verify(controller, api, limit="host1", variables=other).hosts
    assert "not in force: /etc/streamswarm/policy.yaml" in recap.message
    kept = 'the policy that it keeps to is {"deny": ["192.0.2.0/24"]}, not {"deny": ["198.51.100.0/24"]}'
    assert kept in recap.message
    assert _provision(controller, **other).succeeded
    announced = "SELECT policy->>'deny' FROM workers WHERE host_name = 'host1' AND gateway_id IS NOT NULL"
    controller.wait_for(announced, [('["198.51.100.0/24"]',)])
    [recap] = _verify(controller, api, limit="host1", variables=other).hosts
    assert recap.succeeded, recap.message
    assert [each.changed for each in _provision(controller, **other).hosts] == [0]
    assert _provision(controller).succeeded
    controller.wait_for(announced, [('["192.0.2.0/24"]',)])


def test_a_host_that_was_left_in_the_middle_of_an_upgrade_is_taken_up(
    controller: Any, host: Host, host_bundle: Bundle
) -> None:
    """Provisioning decides for the controller's release, keeps the way back to where the upgrade began, and forgets the upgrade."""
    version = host_bundle.version
    host.ssh(f"cp -a {INSTALLED}/releases/{version} {INSTALLED}/releases/{version}.trial")
    host.ssh(f"cp -a {INSTALLED}/releases/{version} {INSTALLED}/releases/{version}.before")
    host.ssh(f"ln -sfn releases/{version}.trial {INSTALLED}/current; systemctl restart {UNIT}")
    host.ssh(f"printf %s {version}.before > {INSTALLED}/switching")
    [recap] = _provision(controller).hosts
    assert recap.succeeded, recap.message
    _is_taken_up(host, version)
    assert [each.changed for each in _provision(controller).hosts] == [0]
    host.ssh(
        f"printf %s {version} > {INSTALLED}/switching; ln -sfn releases/{version}.trial {INSTALLED}/current"
    )
    handle = os.open(host.root / INSTALLED[1:], os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    [busy] = _provision(controller).hosts
    os.close(handle)
    assert "An upgrade of this host is under way" in busy.message
    [recap] = _provision(controller).hosts
    assert recap.succeeded, recap.message
    _is_taken_up(host, version)


def _is_taken_up(host: Host, version: str) -> None:
    """It runs the controller's release, has the way back, and nothing of the upgrade is left."""
    links = host.ssh(f"readlink {INSTALLED}/current {INSTALLED}/previous; ls {INSTALLED}")
    assert links.split() == [
        f"releases/{version}",
        f"releases/{version}.before",
        "current",
        "previous",
        "releases",
    ]


def test_plain_ansible_playbook_asks_the_controller_too(
    controller: Any, lab: Lab, host: Host, web: tuple[str, str]
) -> None:
    """With address and token in the environment a worker that is not connected is named; provisioning mends site and groups."""
    url, token = web
    playbooks = Path(__file__).parents[3] / "playbooks"
    environment = {
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(lab.folder / "cp"),
        "ANSIBLE_NOCOLOR": "1",
        "STREAMSWARM_URL": url,
        "STREAMSWARM_TOKEN": token,
        "no_proxy": "*",
    }
    given = json.dumps(
        {"streamswarm_worker_bundle": str(controller.bundle.path), "streamswarm_worker_policy": POLICY}
    )
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [program, "-i", lab.inventory, "--limit", "host1", "-e", given]
    with controller.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE workers SET site = 'elsewhere', groups = '[]'::jsonb")
    said = lab.exec([*command, playbooks / "provision.yml"], extra_environment=environment)
    assert "Bring site, labels and groups" in said
    assert token not in said
    controller.wait_for("SELECT site, groups FROM workers WHERE host_name = 'host1'", [("", ["workers"])])
    host.ssh("systemctl", "stop", UNIT)
    controller.wait_for("SELECT count(*) FROM workers WHERE gateway_id IS NOT NULL", [(0,)])
    with pytest.raises(LabError, match="the controller sees it as offline"):
        lab.exec([*command, playbooks / "verify.yml"], extra_environment=environment)
    host.ssh("systemctl", "start", UNIT)
    controller.wait_for("SELECT count(*) FROM workers WHERE gateway_id IS NOT NULL", [(1,)])


def test_the_policy_that_the_inventory_intends_counts(controller: Any, api: Client, host: Host) -> None:
    """A policy that was changed in the inventory and not yet delivered is a difference."""
    other = {"streamswarm_worker_policy": {"deny": []}}
    [recap] = _verify(controller, api, limit="host1", variables=other).hosts
    assert "changed: /etc/streamswarm/policy.yaml" in recap.message


def test_what_cannot_be_compared_says_why_and_tells_no_secret(
    controller: Any, api: Client, host: Host
) -> None:
    """A variable that nobody has set is named; of a configuration that is no YAML any more no line is shown."""
    options = {"responder_key": "{{ vault_of_nobody }}", "log_level": "a-secret"}
    [recap] = _verify(controller, api, limit="host1", variables={"streamswarm_worker_options": options}).hosts
    assert "The host cannot be compared with the inventory: 'vault_of_nobody' is undefined" in recap.message
    assert "a-secret" not in recap.message
    host.ssh("cp -a /etc/streamswarm/worker.yaml /root/kept.yaml")
    host.ssh("echo 'responder_key: \"another-secret' >> /etc/streamswarm/worker.yaml")
    [recap] = _verify(controller, api, limit="host1").hosts
    host.ssh("mv /root/kept.yaml /etc/streamswarm/worker.yaml")
    assert "/etc/streamswarm/worker.yaml on the host is no mapping in YAML. Provision" in recap.message
    assert "another-secret" not in recap.message
