"""Workers of real hosts in and out of service: restarted, drained, resumed."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from lab.hosts import Host
from lab.laboratory import Lab

from controller.cli.client import Client
from controller.cli.fleet import fleet
from controller.fleet import operations
from controller.fleet.api import workers_of
from controller.fleet.operations import PlaybookRequest
from streamswarm.v1 import probe_pb2
from worker.spool.file import SpoolFile
from worker.spool.records import Entry

pytestmark = [pytest.mark.hosts, pytest.mark.namespaces, pytest.mark.timeout(400)]

UNIT = "streamswarm-worker.service"
CONNECTED = "SELECT count(*) FROM workers WHERE gateway_id IS NOT NULL"
PLAYBOOKS = Path(__file__).parents[3] / "playbooks"


def _request(controller: Any, **variables: Any) -> PlaybookRequest:
    given = {"streamswarm_worker_bundle": str(controller.bundle.path), **variables}
    return PlaybookRequest(inventories=(controller.lab.inventory,), limit="host1", variables=given)


@pytest.fixture(scope="module")
def host(controller: Any, lab: Lab) -> Host:
    """host1 with a worker that is connected; host2 has none."""
    with lab.inside():
        recap = operations.provision(_request(controller), grant_for=controller.grant_for)
    assert recap.succeeded, recap.hosts
    controller.wait_for(CONNECTED, [(1,)], seconds=30)
    return lab.hosts[0]


def _call(controller: Any, web: tuple[str, str], *words: str) -> Result:
    """Call `streamswarm fleet`, in the laboratory's network."""
    url, token = web
    surroundings = {"STREAMSWARM_URL": url, "STREAMSWARM_TOKEN": token, "no_proxy": "*", "COLUMNS": "300"}
    with controller.lab.inside():
        return CliRunner().invoke(fleet, [*words, "-i", str(controller.lab.inventory)], env=surroundings)


def _seen(controller: Any, api: Client) -> tuple[str, str]:
    """Return how the controller sees the worker of host1, and who drained it; asked from the laboratory's network."""
    with controller.lab.inside():
        [worker] = workers_of(api, "host1")
    return worker["state"], worker["drained_by"]


def _service(host: Host) -> list[str]:
    said = host.ssh(f"systemctl show --property=ActiveState,UnitFileState --value {UNIT}")
    return said.split()


def _pid(host: Host) -> str:
    return host.ssh(f"systemctl show --property=MainPID --value {UNIT}").strip()


def test_a_drained_worker_delivers_and_stays_stopped_until_it_is_resumed(
    controller: Any, web: tuple[str, str], api: Client, host: Host
) -> None:
    """Also over a restart; an upgrade and a restart leave it alone and say so; a second drain changes nothing.

    The controller knows that it is drained, and by whom.
    """
    host.ssh("systemctl", "stop", UNIT)
    file = SpoolFile.open(host.root / "var/lib/streamswarm-worker/spool.sqlite")
    result = probe_pb2.Result(
        job_id=987_654, job_version=1, scheduled_at_us=1_700_000_000_000_000, error="a test's"
    )
    file.commit([Entry(body=result.SerializeToString())])
    file.close()
    drained = _call(controller, web, "drain", "host1")
    assert drained.exit_code == 0, drained.output
    assert "drained" in drained.output
    assert controller.rows("SELECT count(*) FROM quarantine") == [(1,)]
    assert _service(host) == ["inactive", "disabled"]
    assert _seen(controller, api) == ("drained", "token:fleet")
    with controller.lab.inside():
        [again] = operations.drain(_request(controller), tell=lambda _: "").hosts
        assert (again.changed, again.failed) == (0, 0)
        [refused] = operations.upgrade(_request(controller)).hosts
    assert "was drained. Resume it" in refused.message
    restarted = _call(controller, web, "restart", "host1")
    assert restarted.exit_code == 1
    assert "not in service, as it was drained" in restarted.output
    rotated = _call(controller, web, "rotate", "--limit", "host1")
    assert rotated.exit_code == 1
    assert "not in service, as it was drained. Resume it (streamswarm fleet resume host1)" in rotated.output
    assert _service(host) == ["inactive", "disabled"]
    resumed = _call(controller, web, "resume", "host1")
    assert resumed.exit_code == 0, resumed.output
    assert _service(host) == ["active", "enabled"]
    controller.wait_for(CONNECTED, [(1,)])
    assert _seen(controller, api) == ("connected", "")
    kinds = "SELECT kind, state FROM operations ORDER BY id"
    told = [("drain", "succeeded"), ("restart", "failed"), ("rotate", "failed"), ("resume", "succeeded")]
    assert controller.rows(kinds) == told


def test_what_cannot_be_delivered_is_kept_and_told(
    controller: Any, web: tuple[str, str], api: Client, host: Host
) -> None:
    """The worker is drained all the same; once resumed it delivers. One that is resumed and does not connect is offline."""
    [(before,)] = controller.rows("SELECT count(*) FROM quarantine")
    host.ssh("systemctl", "stop", UNIT)
    file = SpoolFile.open(host.root / "var/lib/streamswarm-worker/spool.sqlite")
    result = probe_pb2.Result(
        job_id=987_655, job_version=1, scheduled_at_us=1_700_000_000_000_000, error="a test's"
    )
    file.commit([Entry(body=result.SerializeToString())])
    file.close()
    host.ssh("nft add table inet cut; nft add chain inet cut out '{ type filter hook output priority 0; }'")
    host.ssh("nft add rule inet cut out tcp dport 7443 drop")
    drained = _call(controller, web, "drain", "host1", "--wait", "2")
    assert drained.exit_code == 0, drained.output
    assert re.search(r"1 results wait on the host: .*They are kept there", drained.output, re.DOTALL)
    assert _seen(controller, api) == ("drained", "token:fleet")
    lost = _call(controller, web, "resume", "host1", "-e", str(_variables(controller)))
    assert lost.exit_code == 1
    assert "is not connected after 2 s; it goes on trying" in lost.output
    assert _seen(controller, api) == ("offline", "")
    host.ssh("nft delete table inet cut")
    controller.wait_for("SELECT count(*) FROM quarantine", [(before + 1,)], seconds=60)


def _variables(controller: Any) -> Path:
    path = Path(controller.lab.folder) / "patience.yml"
    path.write_text("streamswarm_worker_connection_timeout: 2\n")
    return path


def test_a_restart_is_another_process_in_order_or_by_force(
    controller: Any, web: tuple[str, str], host: Host
) -> None:
    """Both end with a worker that is connected; a host without one is told, and so is a call without hosts."""
    for words in ((), ("--force",)):
        before = _pid(host)
        said = _call(controller, web, "restart", "host1", *words)
        assert said.exit_code == 0, said.output
        assert _pid(host) not in (before, "0")
        controller.wait_for(CONNECTED, [(1,)])
    killed = host.ssh(f"journalctl -u {UNIT} -o cat")
    assert "status=9/KILL" in killed
    none = _call(controller, web, "restart", "host2")
    assert none.exit_code == 1
    assert "The host has no worker. Provision it." in none.output
    assert _call(controller, web, "restart").exit_code == 2


def test_plain_ansible_playbook_does_the_same(
    controller: Any, lab: Lab, web: tuple[str, str], api: Client, host: Host
) -> None:
    """A check run says what would change and changes nothing; then each does what it is for, and tells the controller.

    A controller that does not take its word changes nothing of what was done.
    """
    program = Path(sys.executable).with_name("ansible-playbook")
    surroundings = {"ANSIBLE_SSH_CONTROL_PATH_DIR": str(lab.folder / "cp"), "ANSIBLE_NOCOLOR": "1"}
    surroundings |= {"STREAMSWARM_URL": web[0], "STREAMSWARM_TOKEN": web[1], "no_proxy": "*"}

    def play(name: str, *words: str) -> str:
        command = [program, "-i", lab.inventory, "--limit", "host1", PLAYBOOKS / f"{name}.yml", *words]
        return str(lab.exec(command, extra_environment=surroundings))

    before = _pid(host)
    for name in ("drain", "restart"):
        assert re.search(r"host1 .*changed=[1-9] .*failed=0", play(name, "--check", "--diff")), name
        assert _pid(host) == before
    assert _seen(controller, api) == ("connected", "")
    play("drain")
    assert _service(host) == ["inactive", "disabled"]
    assert _seen(controller, api) == ("drained", "token:fleet")
    surroundings["STREAMSWARM_TOKEN"] = "ssw_wrong"
    said = play("resume")
    assert re.search(r"The controller was not told that the worker is resumed: .*token", said)
    assert _service(host) == ["active", "enabled"]
    assert _seen(controller, api) == ("connected", "")
    before = _pid(host)
    play("restart")
    assert _pid(host) not in (before, "0")
