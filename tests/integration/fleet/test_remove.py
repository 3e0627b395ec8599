"""Removal of workers from real hosts: results delivered first, then nothing of ours is left, at the controller either."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from lab.errors import LabError
from lab.hosts import Host
from lab.laboratory import Lab
from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.cli.client import Client, RefusedError
from controller.cli.fleet import fleet
from controller.fleet import operations
from controller.fleet.events import TaskEvent, TaskState
from controller.fleet.operations import PlaybookRequest, Recap
from controller.fleet.retirement import Retirement, retire
from controller.keeper import upkeep
from controller.store.commands import tokens
from controller.store.commands.audit import SYSTEM
from controller.store.entities import Job, Test, Worker
from streamswarm.v1 import probe_pb2
from worker.spool.file import SpoolFile
from worker.spool.records import Entry

pytestmark = [pytest.mark.hosts, pytest.mark.namespaces, pytest.mark.timeout(600)]

UNIT = "streamswarm-worker.service"
DATA = "/var/lib/streamswarm-worker"
#: Copies that the system's own tools leave of what was there before, and logs: neither is ours to change.
OLD_COPIES = ("/etc/passwd-", "/etc/shadow-", "/etc/group-", "/etc/gshadow-")
PLAYBOOK = Path(__file__).parents[3] / "playbooks/remove.yml"


class Removal:
    """One call of `remove`, with all that it told."""

    def __init__(
        self,
        controller: Any,
        api: Client,
        *,
        how: Retirement = Retirement.REVOKE,
        inventory: Path | None = None,
        **options: Any,
    ) -> None:
        self.events: list[TaskEvent] = []
        request = PlaybookRequest(inventories=(inventory or controller.lab.inventory,), **options)
        with controller.lab.inside():
            self.recap: Recap = operations.remove(
                request, retire=lambda host: retire(api, host, how), on_event=self.events.append
            )

    def changed(self) -> list[str]:
        """Return the tasks that changed something."""
        return [event.task for event in self.events if event.state is TaskState.CHANGED]

    def said(self) -> str:
        """Return why it failed and what else it said."""
        return "\n".join(text for host in self.recap.hosts for text in (host.message, *host.notes))


@pytest.fixture
def provisioned(controller: Any, lab: Lab) -> Host:
    """host1 with a worker that is connected; one that the test before has left so is taken as it is."""
    connected = "SELECT count(*) FROM workers WHERE gateway_id IS NOT NULL AND host_name = 'host1'"
    running = lab.hosts[0].ssh("systemctl", "is-active", UNIT, "||", "true").strip() == "active"
    if running and controller.rows(connected) == [(1,)]:
        return lab.hosts[0]
    variables = {
        "streamswarm_worker_bundle": str(controller.bundle.path),
        "streamswarm_worker_enrol_again": True,
    }
    request = PlaybookRequest(inventories=(lab.inventory,), limit="host1", variables=variables)
    with lab.inside():
        recap = operations.provision(request, grant_for=controller.grant_for)
    assert recap.succeeded, recap.hosts
    controller.wait_for(connected, [(1,)], seconds=30)
    return lab.hosts[0]


def _left(host: Host) -> list[str]:
    """Return everything on the host that has our name: files, by name and by content, users, groups, units, processes."""
    pruned = "-path /proc -o -path /sys -o -path /var/log/journal -o -path /run/log/journal"
    found = host.ssh(f"find / \\( {pruned} \\) -prune -o -iname '*streamswarm*' -print").splitlines()
    places = "/etc /opt /root /home /srv /tmp /usr/local /var/lib /var/tmp /run"
    found += [
        path
        for path in host.ssh(
            f"grep -rIl --devices=skip streamswarm {places} 2>/dev/null || true"
        ).splitlines()
        if path not in OLD_COPIES and not path.startswith("/run/log/journal")
    ]
    found += host.ssh("getent passwd | grep streamswarm || true").splitlines()
    found += host.ssh("getent group | grep streamswarm || true").splitlines()
    found += host.ssh(
        "systemctl list-units --all --no-legend --plain | grep streamswarm || true"
    ).splitlines()
    found += host.ssh("systemctl list-unit-files --no-legend | grep streamswarm || true").splitlines()
    found += host.ssh("ps -eo args | grep '[s]treamswarm' || true").splitlines()
    return found


def _states(controller: Any, api: Client) -> list[str]:
    """Return the states of host1's workers as the controller tells them; asked from the laboratory's network."""
    with controller.lab.inside():
        return [worker["state"] for worker in api.items("/workers", search="host1")]


def _spool(host: Host, count: int) -> None:
    """Put results into the spool of a worker that is stopped; of a job that the controller does not know."""
    file = SpoolFile.open(host.root / DATA[1:] / "spool.sqlite")
    file.commit([Entry(body=_result(number).SerializeToString()) for number in range(count)])
    file.close()


def _result(number: int) -> probe_pb2.Result:
    return probe_pb2.Result(
        job_id=987_654, job_version=1, scheduled_at_us=1_700_000_000_000_000 + number, error="a test's"
    )


def _measure(controller: Any) -> None:
    """Have the worker of host1 measure the gateway five times a second, and wait for its first result."""
    with Session(controller.engine) as session, session.begin():
        [worker] = session.scalars(select(Worker).where(Worker.gateway_id.is_not(None)))
        test = Test(name="gateway", kind="tcp", spec={}, interval_s=1)
        session.add(test)
        session.flush()
        worker.jobs_revision += 1
        job = Job(test_id=test.id, worker_id=worker.id, kind="tcp", spec={}, interval_us=200_000, anchor_us=0)
        job.target = controller.settings.gateway_listen
        session.add(job)
    controller.wait_for("SELECT count(*) > 0 FROM result_tcp", [(True,)], seconds=30)


def _call(controller: Any, web: tuple[str, str], *words: str) -> Result:
    """Call `streamswarm fleet remove`, in the laboratory's network."""
    url, token = web
    surroundings = {"STREAMSWARM_URL": url, "STREAMSWARM_TOKEN": token, "no_proxy": "*", "COLUMNS": "200"}
    with controller.lab.inside():
        return CliRunner().invoke(
            fleet, ["remove", "-i", str(controller.lab.inventory), *words], env=surroundings
        )


def test_a_check_run_changes_nothing(controller: Any, api: Client, provisioned: Host) -> None:
    """`--check` says what would go, stops nothing and leaves the controller as it is."""
    before = _left(provisioned)
    run = Removal(controller, api, limit="host1", check=True)
    assert run.recap.succeeded, run.said()
    assert {"Stop the worker", "Remove the unit", "Remove the user", "Remove the files"} <= set(run.changed())
    assert _left(provisioned) == before
    assert provisioned.ssh("systemctl", "is-active", UNIT) == "active\n"
    assert _states(controller, api) == ["connected"]


def test_nothing_is_left_and_a_second_run_changes_nothing(
    controller: Any, api: Client, provisioned: Host
) -> None:
    """No file, user, unit or process of ours is on the host afterwards; the worker is revoked, its record stays."""
    provisioned.ssh(
        f"mkdir -p /etc/systemd/system/{UNIT}.d && echo '[Unit]' > /etc/systemd/system/{UNIT}.d/a.conf"
    )
    provisioned.ssh("mkdir", f"/var/tmp/systemd-private-0123-{UNIT}-abc")
    provisioned.ssh("setsid runuser -u streamswarm-worker -- sleep 600 >/dev/null 2>&1 </dev/null &")
    assert len(_left(provisioned)) > 10
    run = Removal(controller, api, limit="host1")
    assert run.recap.succeeded, run.said()
    assert _left(provisioned) == []
    assert provisioned.ssh("ls -d /root/.ansible /home/*/.ansible 2>/dev/null || true") == ""
    assert "sleep 600" not in provisioned.ssh("ps", "-eo", "args")
    assert "End the processes of the account" in run.changed()
    assert "revoked at the controller" in run.said()
    assert _states(controller, api) == ["revoked"]
    again = Removal(controller, api, limit="host1")
    assert again.recap.succeeded, again.said()
    assert again.changed() == []
    assert [host.changed for host in again.recap.hosts] == [0]


def test_an_account_that_was_there_before_stays_as_it_was(controller: Any, api: Client, lab: Lab) -> None:
    """The worker runs under it; provisioning changes nothing of it and removal leaves it, with its group."""
    host = lab.hosts[1]
    host.ssh("useradd --system --user-group --comment Agents --home-dir / --shell /bin/sh agents")
    before = host.ssh("getent passwd agents; getent group agents")
    variables = {
        "streamswarm_worker_bundle": str(controller.bundle.path),
        "streamswarm_worker_user": "agents",
    }
    request = PlaybookRequest(inventories=(lab.inventory,), limit="host2", variables=variables)
    with lab.inside():
        recap = operations.provision(request, grant_for=controller.grant_for, ask_reach=controller.reach)
    assert recap.succeeded, recap.hosts
    assert host.ssh("systemctl", "show", "--property=User", "--value", UNIT) == "agents\n"
    assert host.ssh("getent passwd agents; getent group agents") == before
    run = Removal(controller, api, limit="host2", variables={"streamswarm_worker_user": "agents"})
    assert run.recap.succeeded, run.said()
    assert "Remove the user" not in run.changed()
    assert host.ssh("getent passwd agents; getent group agents") == before
    assert _left(host) == []
    host.ssh("userdel agents")


def test_a_host_that_never_had_a_worker_is_left_alone(controller: Any, api: Client) -> None:
    """Removal of nothing changes nothing and is a success."""
    run = Removal(controller, api, limit="host2")
    assert run.recap.succeeded, run.said()
    assert run.changed() == []


def test_a_half_provisioned_host_is_cleared(controller: Any, api: Client, lab: Lab) -> None:
    """What a broken-off provisioning left goes, whichever part it is; what somebody else put beside it stays."""
    host = lab.hosts[1]
    host.ssh("mkdir -p /opt/streamswarm-worker/releases/.partial-x /etc/streamswarm")
    host.ssh("echo '{}' > /etc/streamswarm/policy.yaml; echo mine > /etc/streamswarm/mine.txt")
    host.ssh(
        "umask 077; for folder in streamswarm systemd/system; do "
        "echo 'responder_key: s3cret' > /etc/$folder/.streamswarm-abcd_123; done"
    )
    assert Removal(controller, api, limit="host2", check=True).recap.succeeded
    assert host.ssh("ls -A /etc/streamswarm") == ".streamswarm-abcd_123\nmine.txt\npolicy.yaml\n"
    run = Removal(controller, api, limit="host2")
    assert run.recap.succeeded, run.said()
    assert host.ssh("ls -A /opt /etc/streamswarm") == "/etc/streamswarm:\nmine.txt\n\n/opt:\n"
    assert host.ssh("ls -A /etc/systemd/system | grep streamswarm || true") == ""
    host.ssh(
        "rm /etc/streamswarm/mine.txt; echo 'responder_key: s3cret' > /etc/streamswarm/.streamswarm-abcd_124"
    )
    assert set(Removal(controller, api, limit="host2").changed()) == {
        "Clear what a killed provisioning left",
        "Remove the files",
    }
    assert _left(host) == []


def test_results_that_cannot_be_delivered_keep_the_worker(
    controller: Any, web: tuple[str, str], api: Client, provisioned: Host
) -> None:
    """With the gateway out of reach the run says how many results wait and starts the worker again; then it delivers.

    With `--with-data` what it ever measured goes with it, from the controller too.
    """
    host = provisioned
    _measure(controller)
    refused = "SELECT count(*) FROM quarantine"
    [(before,)] = controller.rows(refused)
    host.ssh("systemctl", "stop", UNIT)
    _spool(host, 3)
    host.ssh("nft add table inet cut")
    host.ssh("nft add chain inet cut out '{ type filter hook output priority 0; }'")
    host.ssh("nft add rule inet cut out tcp dport 7443 drop")
    host.ssh("systemctl", "start", UNIT)
    run = Removal(controller, api, limit="host1", variables={"streamswarm_worker_drain_timeout": 2})
    assert not run.recap.succeeded
    assert "3 results wait on the host" in run.said()
    assert "streamswarm_worker_discard" in run.said()
    assert host.ssh("systemctl", "is-active", UNIT) == "active\n"
    assert _states(controller, api) in (["offline"], ["connected"])
    host.ssh("systemctl", "stop", UNIT)
    host.ssh("nft delete table inet cut")
    assert controller.rows(refused) == [(before,)]
    drained = _call(controller, web, "--with-data", "--yes", "--limit", "host1")
    assert drained.exit_code == 0, drained.output
    assert "its results are being removed" in drained.output
    assert controller.rows(refused) == [(before + 3,)]
    assert _left(host) == []
    assert _states(controller, api) == []
    [(measured,)] = controller.rows("SELECT count(*) FROM result_tcp")
    assert measured > 0
    upkeep.purge(controller.settings, threading.Event())
    assert controller.rows("SELECT count(*) FROM result_tcp") == [(0,)]


def test_results_are_thrown_away_or_kept_as_the_variables_say(
    controller: Any, api: Client, provisioned: Host
) -> None:
    """`keep_data` leaves the data with the account that owns them; `discard` goes on and says what was lost."""
    host = provisioned
    host.ssh("systemctl", "stop", UNIT)
    _spool(host, 2)
    host.ssh("rm", "/etc/streamswarm/worker.yaml")
    kept = Removal(controller, api, limit="host1", variables={"streamswarm_worker_keep_data": True})
    assert kept.recap.succeeded, kept.said()
    assert "It is not known how many results wait" in kept.said()
    assert host.ssh("stat", "-c", "%U", f"{DATA}/spool.sqlite") == "streamswarm-worker\n"
    assert host.ssh("ls", "-d", "/opt/streamswarm-worker", "2>/dev/null", "||", "true") == ""
    again = Removal(controller, api, limit="host1", variables={"streamswarm_worker_keep_data": True})
    assert again.changed() == []
    refused = Removal(controller, api, limit="host1")
    assert not refused.recap.succeeded
    gone = Removal(controller, api, limit="host1", variables={"streamswarm_worker_discard": True})
    assert gone.recap.succeeded, gone.said()
    assert "They are thrown away" in gone.said()
    assert _left(host) == []


def test_an_unreachable_host_does_not_stop_the_others(
    controller: Any, api: Client, provisioned: Host, tmp_path: Path
) -> None:
    """A host that does not answer is told as such; the worker of the other one goes, and only that is revoked."""
    inventory = tmp_path / "hosts.ini"
    lines = controller.lab.inventory.read_text().replace(
        "[workers]", "[workers]\nabsent ansible_host=192.0.2.1"
    )
    inventory.write_text(lines.replace("-F none", "-F none -o ConnectTimeout=2"))
    run = Removal(controller, api, inventory=inventory)
    outcomes = {host.host: (host.succeeded, host.unreachable) for host in run.recap.hosts}
    assert outcomes == {"absent": (False, True), "host1": (True, False), "host2": (True, False)}
    assert "192.0.2.1" in run.said()
    assert _left(provisioned) == []


def test_a_token_that_may_not_revoke_removes_nothing(
    controller: Any, lab: Lab, web: tuple[str, str], provisioned: Host
) -> None:
    """It is asked first, by the command and by the playbook alone: the worker goes on, and both say what is missing."""
    url, _ = web
    with Session(controller.engine) as session, session.begin():
        values = {"name": "operators", "scope": "operator"}
        _, operator = tokens.create(session, values, actor=SYSTEM, user_id=None, role="admin")
    before = _left(provisioned)
    refused = _call(controller, (url, operator), "--yes", "--limit", "host1")
    assert isinstance(refused.exception, RefusedError)
    assert "needs the role admin" in str(refused.exception)
    program = Path(sys.executable).with_name("ansible-playbook")
    environment = {
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(lab.folder / "cp"),
        "ANSIBLE_NOCOLOR": "1",
        "STREAMSWARM_URL": url,
        "STREAMSWARM_TOKEN": operator,
        "no_proxy": "*",
    }
    with pytest.raises(LabError, match="needs the role admin, and the token is of the role operator"):
        lab.exec([program, "-i", lab.inventory, "--limit", "host1", PLAYBOOK], extra_environment=environment)
    assert _left(provisioned) == before
    assert provisioned.ssh("systemctl", "is-active", UNIT) == "active\n"


def test_plain_ansible_playbook_revokes_too(
    controller: Any, lab: Lab, web: tuple[str, str], api: Client, provisioned: Host
) -> None:
    """With STREAMSWARM_URL and STREAMSWARM_TOKEN the playbook does the controller's part; the token is not shown."""
    url, token = web
    program = Path(sys.executable).with_name("ansible-playbook")
    environment = {
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(lab.folder / "cp"),
        "ANSIBLE_NOCOLOR": "1",
        "STREAMSWARM_URL": url,
        "STREAMSWARM_TOKEN": token,
        "no_proxy": "*",
    }
    command = [program, "-vvv", "--diff", "-i", lab.inventory, "--limit", "host1", PLAYBOOK]
    said = lab.exec(command, extra_environment=environment)
    assert "failed=0" in said
    assert token not in said
    assert _states(controller, api) == ["revoked"]
    assert _left(provisioned) == []


def test_folders_of_the_system_are_never_removed(controller: Any, api: Client) -> None:
    """A folder that cannot be the worker's own is refused before anything is done."""
    for folder in ("/etc", "/", "/opt/../etc", "relative/path"):
        run = Removal(controller, api, limit="host2", variables={"streamswarm_worker_install_dir": folder})
        assert not run.recap.succeeded
        assert run.changed() == []
        assert f"`{folder}` is removed" in run.said()
