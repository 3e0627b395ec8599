"""Provisioning of real hosts: installed by Ansible over SSH, enrolled at a real gateway, the same again afterwards."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from lab import network
from lab.hosts import Host
from lab.laboratory import Lab
from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.errors import StreamSwarmError
from controller.fleet import archive, distribution
from controller.fleet.bundles import Bundle, ready_bundles
from controller.fleet.desk import Grant
from controller.fleet.drift import DriftKind, FleetWorker, Releases, compare
from controller.fleet.events import TaskEvent, TaskState
from controller.fleet.inventory import InventoryHost, load_inventory
from controller.fleet.operations import OperationError, PlaybookRequest, Recap, provision
from controller.plain import plain
from controller.store.commands import destinations, tests
from controller.store.commands.audit import SYSTEM
from controller.store.entities import Job, Worker
from controller.store.queries.workers import find as find_workers
from streamswarm import contract

pytestmark = [pytest.mark.hosts, pytest.mark.namespaces, pytest.mark.timeout(300)]

RELEASES = "/opt/streamswarm-worker/releases"
CONNECTED = "SELECT host_name, version FROM workers WHERE gateway_id IS NOT NULL ORDER BY host_name"


class Run:
    """One call of `provision`, with all that it told."""

    def __init__(
        self, controller: Any, *, build: bool = False, variables: dict[str, Any] | None = None, **options: Any
    ) -> None:
        self.events: list[TaskEvent] = []
        bundle = {} if build else {"streamswarm_worker_bundle": str(controller.bundle.path)}
        options["variables"] = bundle | (variables or {})
        granted = len(controller.granted)
        request = PlaybookRequest(inventories=(controller.lab.inventory,), **options)
        with pytest.MonkeyPatch.context() as patch, controller.lab.inside():
            # With `build` the role's own command finds the bundle that lies ready there.
            patch.setenv("STREAMSWARM_BUNDLE_DIR", str(controller.bundle.path.parent))
            self.recap: Recap = provision(
                request,
                grant_for=controller.grant_for,
                ask_reach=controller.reach,
                on_event=self.events.append,
            )
        self.granted = [host for host, _ in controller.granted[granted:]]

    def changed(self) -> list[tuple[str, str]]:
        """Return what was changed: host and task."""
        return [(event.host, event.task) for event in self.events if event.state is TaskState.CHANGED]

    def message(self) -> str:
        """Return why the run failed on its hosts."""
        return "\n".join(host.message for host in self.recap.hosts)


@pytest.fixture(scope="module")
def provisioned(controller: Any) -> Run:
    """host1, provisioned for the first time; host2 stays as it is. No file and no process of Ansible's is left."""
    before = network.processes_in(controller.lab.namespace)
    with tempfile.TemporaryDirectory(prefix="own-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", folder)
        run = Run(controller, limit="host1", build=True)
        assert list(Path(folder).iterdir()) == []
    assert run.recap.succeeded, run.message()
    assert network.processes_in(controller.lab.namespace) == before
    return run


@pytest.fixture
def host(lab: Lab, provisioned: Run) -> Host:
    """The provisioned host."""
    return lab.hosts[0]


def test_a_host_is_installed_enrolled_and_connected(
    provisioned: Run, controller: Any, host_bundle: Bundle
) -> None:
    """After one run the worker runs the right version and holds a session; one token was enough for it."""
    controller.wait_for(CONNECTED, [("host1", host_bundle.version)])
    assert [recap.host for recap in provisioned.recap.hosts] == ["host1"]
    assert provisioned.recap.hosts[0].changed > 5
    assert provisioned.granted == ["host1"]
    assert controller.rows("SELECT host_name, used_at IS NOT NULL FROM enrolment_tokens") == [("host1", True)]
    assert controller.rows("SELECT groups FROM workers") == [(["workers"],)]


def test_a_host_as_provisioned_has_no_drift(controller: Any, provisioned: Run, host_bundle: Bundle) -> None:
    """What the worker announces is what the inventory and the bundle that lies ready want; a policy of the inventory is missed."""
    controller.wait_for(CONNECTED, [("host1", host_bundle.version)])
    with Session(controller.engine) as session:
        workers = [FleetWorker.from_answer(plain(record)) for record in find_workers(session).items]
    ready = ready_bundles(host_bundle.path.parent)
    releases = Releases(distribution=distribution.version(), ready=ready)
    hosts = load_inventory([controller.lab.inventory])
    found = compare(hosts, workers, releases=releases)
    assert [drift for drift in found.drift if drift.host == "host1"] == []
    assert releases.wanted(hosts[0], workers[0]) == (host_bundle.version,)

    stricter = [dataclasses.replace(host, policy={"deny": ["192.0.2.0/24"]}) for host in hosts]
    told = compare(stricter, workers, releases=releases).drift
    assert [drift.kind for drift in told if drift.host == "host1"] == [DriftKind.POLICY]


def test_the_second_run_changes_nothing(controller: Any, provisioned: Run) -> None:
    """Provisioning again changes nothing, brings no token, and does not restart the worker."""
    process = controller.lab.hosts[0].ssh("systemctl", "show", "--property=MainPID", "streamswarm-worker")
    again = Run(controller, limit="host1")
    assert again.changed() == []
    assert [recap.changed for recap in again.recap.hosts] == [0]
    assert again.granted == []
    assert (
        controller.lab.hosts[0].ssh("systemctl", "show", "--property=MainPID", "streamswarm-worker")
        == process
    )


def test_what_a_killed_run_left_is_cleared(controller: Any, host: Host) -> None:
    """Its half-written configuration, with a secret in it, is announced by a check run and goes; the worker runs on."""
    process = host.ssh("systemctl", "show", "--property=MainPID", "streamswarm-worker")
    look = "ls -A /etc/streamswarm /etc/systemd/system | grep '^.streamswarm-' || true"
    host.ssh(
        "umask 077; for folder in streamswarm systemd/system; do "
        "echo 'responder_key: s3cret' > /etc/$folder/.streamswarm-abcd_123; done"
    )
    clearing = [("host1", "Clear what a killed provisioning left")]
    assert Run(controller, limit="host1", check=True).changed() == clearing
    assert len(host.ssh(look).split()) == 2
    assert Run(controller, limit="host1").changed() == clearing
    assert host.ssh(look) == ""
    assert host.ssh("systemctl", "show", "--property=MainPID", "streamswarm-worker") == process


def test_a_check_run_of_a_fresh_host_announces_changes_and_makes_none(controller: Any, lab: Lab) -> None:
    """`--check --diff` passes on a host without anything of ours, and leaves it so."""
    run = Run(controller, limit="host2", check=True)
    assert run.recap.succeeded, run.message()
    assert ("host2", "Bring the bundle") in run.changed()
    assert run.granted == []
    paths = ["/opt/streamswarm-worker", "/etc/streamswarm", "/var/lib/streamswarm-worker"]
    assert lab.hosts[1].ssh("ls", "-d", *paths, "2>/dev/null", "||", "true") == ""
    assert "streamswarm" not in lab.hosts[1].ssh("cat", "/etc/passwd")


def test_the_worker_runs_with_least_privilege(host: Host) -> None:
    """Its own user, CAP_NET_RAW and no other capability, no new privileges, and a unit that systemd rates as safe."""
    pid = host.ssh("systemctl", "show", "--property=MainPID", "--value", "streamswarm-worker").strip()
    status = dict(
        line.split(":\t", 1) for line in host.ssh("cat", f"/proc/{pid}/status").splitlines() if ":\t" in line
    )
    user = host.ssh("id", "-u", "streamswarm-worker").strip()
    assert set(status["Uid"].split()) == {user}
    net_raw = 1 << 13
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {net_raw}
    assert status["NoNewPrivs"] == "1"
    host.ssh("systemd-analyze", "security", "--threshold=20", "streamswarm-worker")
    # Whatever systemd does not understand in a unit it leaves out, and says so only there.
    assert host.ssh("systemd-analyze verify streamswarm-worker.service 2>&1") == ""
    assert host.ssh("journalctl -b _PID=1 -o cat | grep -iE 'unknown|failed to parse|ignoring' || true") == ""
    kept = host.ssh(
        "systemctl show -p SystemCallErrorNumber -p SystemCallArchitectures -p MemoryMax -p TasksMax streamswarm-worker"
    )
    assert set(kept.split()) == {
        "SystemCallErrorNumber=1",
        "SystemCallArchitectures=native",
        "MemoryMax=536870912",
        "TasksMax=256",
    }


def test_every_kind_measures_under_the_hardened_unit(
    host: Host, controller: Any, web: tuple[str, str]
) -> None:
    """What the unit denies is needed by none: each kind measures, whatever it finds at the controller's address."""
    address, url = controller.lab.address, web[0]
    aims = {
        "host": address,
        "host_or_network": address,
        "host_port": f"{address}:7444",
        "url": f"{url}/login",
    }
    with Session(controller.engine) as session, session.begin():
        worker = session.scalars(select(Worker).where(Worker.host_name == "host1")).one()
        worker.jobs_revision += 1
        for kind in contract.kinds().values():
            aimed = []
            if kind.target != "none":
                values = {"name": f"at {kind.name}", "address": aims[kind.target]}
                aimed = [destinations.create(session, values, actor=SYSTEM).id]
            values = {"name": kind.name, "kind": kind.name, "interval_s": 20, "destinations": aimed}
            test = tests.create(session, values, actor=SYSTEM)
            session.add(
                Job(
                    test_id=test.id,
                    worker_id=worker.id,
                    destination_id=aimed[0] if aimed else None,
                    kind=kind.name,
                    target=aims.get(kind.target, ""),
                    spec=test.spec,
                    interval_us=20_000_000,
                    anchor_us=0,
                )
            )
    # 1 is ok, 2 failed: both are measured.
    results = " UNION ".join(
        f"SELECT '{kind}' AS kind, status, error FROM result_{kind}" for kind in contract.kinds()
    )
    kinds = [(kind,) for kind in sorted(contract.kinds())]
    measured = f"SELECT DISTINCT kind FROM ({results}) r WHERE status IN (1, 2) ORDER BY kind"
    try:
        controller.wait_for(measured, kinds, seconds=90)
    except AssertionError as error:
        raise AssertionError(controller.rows(results)) from error
    [(unavailable,)] = controller.rows(
        "SELECT count(*) FROM workers, jsonb_each(kinds) AS k WHERE NOT (k.value->>'available')::boolean"
    )
    assert unavailable == 0


def test_the_doctor_finds_a_provisioned_worker_well(host: Host, controller: Any, host_bundle: Bundle) -> None:
    """Called by root on the host: gateway, clock, unit, rights and release; stopped, the unit is what is named."""
    controller.wait_for(CONNECTED, [("host1", host_bundle.version)])
    doctor = "/usr/bin/python3 /opt/streamswarm-worker/current/bin/streamswarm-worker doctor --json; true"
    findings = json.loads(host.ssh(doctor))["findings"]
    others = [finding for finding in findings if not finding["check"].startswith("kind ")]
    # A container has a boot id of its own, which its units under ProtectKernelTunables do not see: what the daemon has
    # kept of the time then looks like that of another boot.
    not_ok = [finding["check"] for finding in others if finding["verdict"] != "ok"]
    assert not_ok in ([], ["clock"]), others
    assert all(finding["verdict"] != "wrong" for finding in others)
    checks = {finding["check"] for finding in others}
    assert checks >= {
        "identity",
        "certificate",
        "clock",
        "data folder",
        "spool",
        "daemon",
        "rights",
        "version",
    }
    assert host.ssh("find", "/var/lib/streamswarm-worker", "!", "-user", "streamswarm-worker") == ""
    host.ssh("systemctl", "stop", "streamswarm-worker")
    try:
        findings = json.loads(host.ssh(doctor))["findings"]
    finally:
        host.ssh("systemctl", "start", "streamswarm-worker")
    wrong = [
        each for each in findings if each["verdict"] == "wrong" and not each["check"].startswith("kind ")
    ]
    assert [each["check"] for each in wrong] == ["daemon"]
    assert "streamswarm-worker.service is inactive" in wrong[0]["found"]
    controller.wait_for(CONNECTED, [("host1", host_bundle.version)], seconds=30)


def test_every_kind_that_needs_no_more_is_available_under_the_unit(controller: Any, provisioned: Run) -> None:
    """The hardening takes no kind away: the worker announces all five, ping by raw or unprivileged ICMP."""
    controller.wait_for(CONNECTED.replace("version", "1"), [("host1", 1)])
    [(kinds,)] = controller.rows("SELECT kinds FROM workers WHERE host_name = 'host1'")
    assert isinstance(kinds, dict)
    assert {name for name, said in kinds.items() if said["available"]} >= {
        "ping",
        "tcp",
        "dns",
        "http",
        "system",
    }


def test_secrets_are_closed_and_used_up(host: Host, controller: Any) -> None:
    """Configuration and identity are closed to others, the token is gone, and no journal has seen it."""
    listed = host.ssh(
        "stat", "-c", "'%a %U %n'", "/etc/streamswarm/*", "/var/lib/streamswarm-worker/identity/*"
    )
    assert listed.splitlines() == [
        "600 streamswarm-worker /etc/streamswarm/ca.pem",
        "640 root /etc/streamswarm/policy.yaml",
        "600 streamswarm-worker /etc/streamswarm/worker.yaml",
        "600 streamswarm-worker /var/lib/streamswarm-worker/identity/identity.json",
    ]
    assert "token" not in host.ssh("ls", "/var/lib/streamswarm-worker")
    journal = host.ssh("journalctl", "--no-pager")
    assert "streamswarm" in journal
    assert not any(token in journal for _, token in controller.granted)


def test_releases_belong_to_root_and_are_compiled(host: Host, host_bundle: Bundle) -> None:
    """The worker cannot change its own code, and Python need not compile it at each start."""
    release = f"{RELEASES}/{host_bundle.version}"
    assert host.ssh("readlink", "/opt/streamswarm-worker/current") == f"releases/{host_bundle.version}\n"
    assert host.ssh("find", RELEASES, "!", "-user", "root", "-o", "-perm", "/022", "!", "-type", "l") == ""
    assert host.ssh("find", f"{release}/lib/worker/__pycache__", "-name", "daemon.*.pyc").strip()


def test_a_killed_worker_comes_back(host: Host, controller: Any, host_bundle: Bundle) -> None:
    """After kill -9 systemd starts the worker again and it connects anew."""
    [(epoch,)] = controller.rows("SELECT session_epoch FROM workers WHERE host_name = 'host1'")
    host.ssh("systemctl", "kill", "--signal=KILL", "streamswarm-worker")
    query = f"SELECT host_name FROM workers WHERE gateway_id IS NOT NULL AND session_epoch > {epoch}"
    controller.wait_for(query, [("host1",)], seconds=30)


def test_another_release_takes_over_and_the_first_one_comes_back(
    host: Host, controller: Any, host_bundle: Bundle, tmp_path: Path
) -> None:
    """A newer bundle is unpacked beside the old one and taken; going back unpacks nothing."""
    newer = _other_bundle(host_bundle, tmp_path, "other")
    there = Run(controller, limit="host1", variables={"streamswarm_worker_bundle": str(newer.path)})
    assert there.recap.succeeded, there.message()
    assert [task for _, task in there.changed()] == [
        "Bring the bundle",
        "Check and unpack the bundle",
        "Remember the release to go back to",
        "Release, service, folders and policy",
        "Restart the worker",
    ]
    links = f"readlink {RELEASES}/../current {RELEASES}/../previous"
    assert host.ssh(links).split() == [f"releases/{newer.version}", f"releases/{host_bundle.version}"]
    assert sorted(host.ssh("ls", RELEASES).split()) == sorted([host_bundle.version, newer.version])
    controller.wait_for(CONNECTED, [("host1", newer.version)], seconds=30)
    back = Run(controller, limit="host1", variables={"streamswarm_worker_bundle": str(host_bundle.path)})
    assert [task for _, task in back.changed()] == [
        "Remember the release to go back to",
        "Release, service, folders and policy",
        "Restart the worker",
    ]
    assert host.ssh(links).split() == [f"releases/{host_bundle.version}", f"releases/{newer.version}"]
    controller.wait_for(CONNECTED, [("host1", host_bundle.version)], seconds=30)


def test_a_changed_bundle_is_refused_and_leaves_the_host_as_it_was(
    host: Host, controller: Any, host_bundle: Bundle, tmp_path: Path
) -> None:
    """A bundle that is not what its description says changes neither the release in use nor the list of releases."""
    broken = _other_bundle(host_bundle, tmp_path, "broken")
    with broken.path.open("ab") as handle:
        handle.write(b"\0")
    before = host.ssh("ls", "-A", RELEASES)
    run = Run(controller, limit="host1", variables={"streamswarm_worker_bundle": str(broken.path)})
    assert not run.recap.succeeded
    assert "SHA-256" in run.message()
    assert host.ssh("ls", "-A", RELEASES) == before
    assert host.ssh("readlink", "/opt/streamswarm-worker/current") == f"releases/{host_bundle.version}\n"


def test_plain_ansible_playbook_delivers_a_policy(
    controller: Any, lab: Lab, host: Host, tmp_path: Path
) -> None:
    """ansible-playbook alone, all variables in a file, changes nothing but the policy, which the worker announces."""
    grant = controller.grant_for(load_inventory([lab.inventory])[0])
    variables = tmp_path / "vars.yml"
    given = {
        "streamswarm_worker_bundle": str(controller.bundle.path),
        "streamswarm_worker_gateways": list(grant.gateways),
        "streamswarm_worker_enrolment": grant.enrolment,
        "streamswarm_worker_ca_pem": grant.ca_pem,
        "streamswarm_worker_token": grant.token,
        "streamswarm_worker_policy": {"deny": ["192.0.2.0/24"]},
    }
    variables.write_text(json.dumps(given))
    program = Path(sys.executable).with_name("ansible-playbook")
    playbook = Path(__file__).parents[3] / "playbooks/provision.yml"
    said = lab.exec(
        [program, "-i", lab.inventory, "-e", f"@{variables}", "--limit", "host1", playbook],
        extra_environment={"ANSIBLE_SSH_CONTROL_PATH_DIR": str(lab.folder / "cp"), "ANSIBLE_NOCOLOR": "1"},
    )
    assert re.findall(r"changed: \[host1\]", said) == ["changed: [host1]"] * 2
    assert "changed=2 " in said
    query = "SELECT policy->'deny' FROM workers WHERE host_name = 'host1'"
    controller.wait_for(query, [(["192.0.2.0/24"],)], seconds=30)


def test_a_lost_identity_is_made_anew_on_request(host: Host, controller: Any) -> None:
    """With streamswarm_worker_enrol_again the old identity goes and the worker enrols with a fresh token."""
    before = host.ssh("sha256sum", "/var/lib/streamswarm-worker/identity/identity.json")
    # The worker owns the folder: a link that it leaves there must not make root write elsewhere.
    host.ssh("mkdir", "/etc/elsewhere")
    host.ssh("chown", "streamswarm-worker", "/etc/elsewhere")
    as_worker = ("runuser", "-u", "streamswarm-worker", "--")
    host.ssh(*as_worker, "ln", "-s", "/etc/elsewhere/token", "/var/lib/streamswarm-worker/token")
    run = Run(controller, limit="host1", variables={"streamswarm_worker_enrol_again": True})
    assert run.recap.succeeded, run.message()
    assert host.ssh("ls", "/etc/elsewhere") == ""
    assert "token" not in host.ssh("ls", "/var/lib/streamswarm-worker")
    assert host.ssh("sha256sum", "/var/lib/streamswarm-worker/identity/identity.json") != before


def test_a_missing_python_is_named_with_the_setting_that_helps(controller: Any) -> None:
    """A host without the named Python ends in a message with the variable's name, before anything is changed."""
    run = Run(controller, limit="host2", variables={"streamswarm_worker_python": "/usr/bin/python9"})
    assert run.changed() == []
    assert "/usr/bin/python9" in run.message()
    assert "streamswarm_worker_python" in run.message()


def test_a_python_that_is_too_old_is_named(controller: Any, lab: Lab) -> None:
    """A host whose Python says it is 3.9 is refused with its version and the setting that helps."""
    old = lab.hosts[1].root / "usr/local/bin/python3.9"
    old.write_text(
        '#!/bin/sh\necho \'{"python": "3.9.2", "architecture": "x86_64", "libc": "glibc-2.31"}\'\n'
    )
    old.chmod(0o755)
    run = Run(controller, limit="host2", variables={"streamswarm_worker_python": "/usr/local/bin/python3.9"})
    assert run.changed() == []
    assert "is Python 3.9.2; a worker needs 3.10 or newer" in run.message()
    assert "streamswarm_worker_python" in run.message()


@pytest.mark.parametrize(
    "said",
    [
        '{"python": "3.11.2; rm -rf /", "architecture": "x86_64", "libc": "glibc-2.36"}',
        '{"python": "3.11.2", "architecture": "x86_64", "libc": "../../etc"}',
    ],
)
def test_a_host_that_lies_about_itself_is_refused(controller: Any, lab: Lab, said: str) -> None:
    """What a host says about itself is checked before it becomes an argument or a file name."""
    liar = lab.hosts[1].root / "usr/local/bin/liar"
    liar.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n")
    liar.chmod(0o755)
    run = Run(controller, limit="host2", variables={"streamswarm_worker_python": "/usr/local/bin/liar"})
    assert run.changed() == []
    assert "describes itself in a way that is not understood" in run.message()


def test_an_unknown_host_key_is_refused(controller: Any, lab: Lab, tmp_path: Path) -> None:
    """A host whose SSH key is not the pinned one is unreachable, and the reason is told."""
    inventory = tmp_path / "hosts.ini"
    nobody = tmp_path / "known_hosts"
    nobody.touch()
    inventory.write_text(lab.inventory.read_text().replace(str(lab.folder / "known_hosts"), str(nobody)))
    with lab.inside():
        recap = provision(
            PlaybookRequest(inventories=(inventory,), limit="host2"), grant_for=controller.grant_for
        )
    assert recap.hosts[0].unreachable
    assert "Host key verification failed" in recap.hosts[0].message


def test_a_refused_token_is_told_with_its_reason(controller: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ansible hides what happens to the token, and with it why there is none."""

    def refuse(_: InventoryHost) -> Grant:
        raise StreamSwarmError("403 the role viewer may not make enrolment tokens")

    monkeypatch.setattr(controller, "grant_for", refuse)
    run = Run(controller, limit="host2")
    assert not run.recap.succeeded
    assert run.message().startswith("No enrolment token for host2: 403 the role viewer may not make"), (
        run.message()
    )


def test_a_worker_that_cannot_enrol_is_told_with_its_own_words(controller: Any) -> None:
    """When the enrolment listener cannot be reached, the run fails and shows the end of the worker's journal."""
    run = Run(
        controller,
        limit="host2",
        variables={
            "streamswarm_worker_enrolment": f"{controller.lab.address}:9",
            "streamswarm_worker_enrolment_timeout": 4,
        },
    )
    assert not run.recap.succeeded
    assert "has no identity after 4 s" in run.message()
    assert f"{controller.lab.address}:9" in run.message()


def test_provisioning_after_that_mends_it(controller: Any, host_bundle: Bundle) -> None:
    """A run after a failed one goes on where it was: the host enrols."""
    run = Run(controller, limit="host2")
    assert run.recap.succeeded, run.message()
    query = CONNECTED.replace("ORDER", "AND host_name = 'host2' ORDER")
    controller.wait_for(query, [("host2", host_bundle.version)], seconds=30)


def test_a_limit_that_fits_no_host_is_an_error(controller: Any) -> None:
    """A host pattern without hosts is told as such and is no success."""
    with pytest.raises(OperationError, match="nowhere"):
        Run(controller, limit="nowhere")


def _other_bundle(bundle: Bundle, folder: Path, suffix: str) -> Bundle:
    """Return a bundle with the same content under another version."""
    release = folder / "release"
    with tarfile.open(bundle.path) as packed:
        packed.extractall(release)  # noqa: S202  built by this very test run
    version = f"{bundle.version}.{suffix}"
    for path in (release / "release.json", *release.glob("lib/streamswarm-*.dist-info/METADATA")):
        path.write_text(path.read_text().replace(bundle.version, version))
    path = folder / f"streamswarm-worker-{version}.tar.gz"
    archive.pack(release, path)
    other = dataclasses.replace(bundle, path=path, version=version, sha256=archive.file_hash(path))
    path.with_name(path.name + ".json").write_text(json.dumps(other.description()))
    return other
