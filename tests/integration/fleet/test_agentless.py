"""`streamswarm run --on`: suites on real hosts that have no worker, and that have nothing of ours afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from lab import network
from lab.errors import LabError
from lab.hosts import Host
from lab.laboratory import Lab
from support.surroundings import clean_environment, wait_for

from controller import assets
from controller.fleet.agentless import run_once
from controller.fleet.bundles import Bundle
from controller.fleet.events import TaskEvent, TaskState
from controller.fleet.operations import PlaybookRequest
from controller.suites import suite as suites
from controller.suites.execution import Judge, as_lines

pytestmark = [pytest.mark.hosts, pytest.mark.namespaces, pytest.mark.timeout(300)]

PLAYBOOK = Path(__file__).parents[3] / "playbooks/run.yml"
#: Nobody listens there, and nobody is there.
NOBODY = "198.18.77.99"
SECRET = "Bearer ssw-of-the-suite"
SUITE = """\
suite: From outside
tests:
  - {{name: Door, kind: tcp, destinations: "{door}", assert: connect_ms < 5000}}
  - {{name: Host, kind: system, spec: {{window_ms: 100}}, assert: cpu_count >= 1}}
"""
PING = """\
tests:
  - {{name: Controller, kind: ping, destinations: "{address}", spec: {{count: 2, interval_ms: 50}}, assert: loss_pct == 0}}
"""
ENDLESS = """\
tests:
  - name: Silent
    kind: http
    destinations: "http://{door}/"
    spec: {{timeout_ms: 60000, headers: "Authorization: {secret}"}}
"""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Two hosts, the bundle for them, and a port in the laboratory that takes connections and never says a word."""

    lab: Lab
    bundle: Bundle
    door: str
    #: For what the command writes on this side: nothing is to be left there. Short, for the sockets in it.
    own: Path

    def command(self, suite: Path, *words: str) -> list[str]:
        """The command that runs a suite on all hosts."""
        inventory = () if "-i" in words else ("-i", str(self.lab.inventory))
        return ["-m", "controller.cli", "run", str(suite), "--on", "workers", *inventory, *words]

    def environment(self) -> dict[str, str]:
        """Where it finds its bundles, and where it writes."""
        return {"STREAMSWARM_BUNDLE_DIR": str(self.bundle.path.parent), "TMPDIR": str(self.own)}

    def run(
        self, folder: Path, text: str, *words: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a suite of this text; checks that neither file nor process is left on this side."""
        suite = folder / "suite.yaml"
        suite.write_text(text.format(door=self.door, address=self.lab.address, secret=SECRET))
        before = network.processes_in(self.lab.namespace)
        done = subprocess.run(
            network.within(self.lab.namespace, [sys.executable, *self.command(suite, *words)]),
            env=clean_environment(**self.environment(), **environment),
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert network.processes_in(self.lab.namespace) == before
        assert list(self.own.iterdir()) == []
        return done


@pytest.fixture(scope="module")
def ground(lab: Lab, host_bundle: Bundle) -> Iterator[Ground]:
    """The hosts. host1 lets everybody ping, host2 does not."""
    for host, groups in zip(lab.hosts, ("0 2147483647", "1 0"), strict=True):
        host.exec("sysctl", "-q", "-w", f"net.ipv4.ping_group_range={groups}")
    with lab.inside():
        door = socket.create_server((lab.address, 0))
    with door, tempfile.TemporaryDirectory(prefix="own-") as own:
        address = f"{lab.address}:{door.getsockname()[1]}"
        yield Ground(lab=lab, bundle=host_bundle, door=address, own=Path(own))


def _state(host: Host) -> set[str]:
    """Return every file and folder of the host and every program that runs there, beside logs and what the system moves."""
    pruned = "-path /proc -o -path /sys -o -path /run -o -path /var/log -o -path /dev"
    found = host.ssh(f"find / \\( {pruned} \\) -prune -o -print").splitlines()
    found += host.ssh("find /run /dev -iname '*streamswarm*'").splitlines()
    found += host.ssh("ps -eo args | grep '[s]treamswarm' || true").splitlines()
    return set(found)


@pytest.fixture
def untouched(ground: Ground) -> Iterator[None]:
    """Both hosts are after the test as they were before it."""
    before = [_state(host) for host in ground.lab.hosts]
    yield
    for host, was in zip(ground.lab.hosts, before, strict=True):
        assert _state(host) ^ was == set()


@pytest.mark.usefixtures("untouched")
def test_two_hosts_measure_and_one_that_is_not_there_is_told(ground: Ground, tmp_path: Path) -> None:
    """Each host's verdicts in every form, one line for the host that is unreachable, and an exit code that says so."""
    inventory = tmp_path / "hosts.ini"
    inventory.write_text(
        ground.lab.inventory.read_text().replace("[workers]\n", f"[workers]\nhost3 ansible_host={NOBODY}\n")
    )
    xml = tmp_path / "run.xml"
    done = ground.run(tmp_path, SUITE, "-i", str(inventory), "--json", "-", "--junit", str(xml))
    assert done.returncode == 2, done.stderr
    runs = {run["host"]: run for run in json.loads(done.stdout)["suites"]}
    assert {host: (run["passed"], run["not_run"]) for host, run in runs.items()} == {
        "host1": (2, 0),
        "host2": (2, 0),
        "host3": (0, 2),
    }, done.stderr
    assert all(runs[host]["duration_s"] > 0.1 for host in ("host1", "host2"))
    told = [line for line in done.stderr.splitlines() if line.startswith("host3: ")]
    assert any(
        line.startswith("host3: nothing was measured: unreachable: ") and NOBODY in line for line in told
    )
    assert runs["host3"]["outcomes"][0]["metrics"]["connect_ms"] is None
    root = ElementTree.parse(xml).getroot()  # noqa: S314  our own text
    assert {each.get("hostname"): each.get("errors") for each in root} == {
        "host1": "0",
        "host2": "0",
        "host3": "2",
    }
    names = {(case.get("classname"), case.get("name")) for case in root.iter("testcase")}
    assert len(names) == 6
    for line in ("From outside on host1", "From outside on host2"):
        assert line in done.stderr


@pytest.mark.usefixtures("untouched")
def test_without_root_a_ping_depends_on_the_host_and_with_it_on_nothing(
    ground: Ground, tmp_path: Path
) -> None:
    """Where datagram sockets for ICMP are allowed it measures, elsewhere it says what mends it; --become needs neither."""
    plain = ground.run(tmp_path, PING)
    assert plain.returncode == 2
    assert "suite on host1  1 passed" in plain.stdout
    [told] = [line for line in plain.stderr.splitlines() if "could not be run" in line]
    assert "on host2: " in told
    assert "ping_group_range" in told
    rooted = ground.run(tmp_path, PING, "--become")
    assert rooted.returncode == 0, rooted.stdout + rooted.stderr


def test_mitogen_does_the_same(ground: Ground, tmp_path: Path) -> None:
    """Where it is installed and asked for; of it nothing is left but the empty folder that it always makes."""
    before = [_state(host) for host in ground.lab.hosts]
    done = ground.run(tmp_path, SUITE, STREAMSWARM_ANSIBLE_STRATEGY="mitogen")
    assert done.returncode == 0, done.stdout + done.stderr
    for host in ground.lab.hosts:
        assert f"From outside on {host.name}  2 passed" in done.stdout
        # It ends when its connection does, a moment later.
        wait_for(
            "the end of Mitogen", lambda host=host: "mitogen" not in host.ssh("ls /tmp; ps -eo args"), 10
        )
    for host, was in zip(ground.lab.hosts, before, strict=True):
        assert _state(host) ^ was <= {"/home/deploy/.ansible", "/home/deploy/.ansible/tmp"}


def _run_once(ground: Ground, text: str, **options: Any) -> tuple[Any, list[TaskEvent]]:
    """Call what the command calls, for its events."""
    events: list[TaskEvent] = []
    request = PlaybookRequest(
        inventories=(ground.lab.inventory,), limit="host2", variables=options.pop("variables", {})
    )
    path = Path(options.pop("folder")) / "suite.yaml"
    path.write_text(text.format(door=ground.door, address=ground.lab.address, secret=SECRET))
    with pytest.MonkeyPatch.context() as patch, ground.lab.inside():
        patch.setenv("STREAMSWARM_BUNDLE_DIR", str(ground.bundle.path.parent))
        jobs = Judge([suites.load(path)]).jobs
        return run_once(request, jobs, on="workers", on_event=events.append, **options), events


def test_an_installed_release_is_used_and_the_policy_of_the_inventory_holds(
    ground: Ground, tmp_path: Path
) -> None:
    """Nothing is brought to a host that has the release; what its host_vars forbid is not measured, and it gets its options."""
    host = ground.lab.hosts[1]
    releases = host.root / "opt/streamswarm-worker/releases"
    releases.parent.mkdir(parents=True)
    unpack = assets.playbooks() / "roles/worker/files/unpack_release.py"
    archive = shutil.copy(ground.bundle.path, tmp_path)
    words = ["--sha256", ground.bundle.sha256, "--version", ground.bundle.version, "--keep", "0"]
    subprocess.run(
        ["/usr/bin/python3", unpack, "--archive", archive, "--releases", releases, *words], check=True
    )
    before = _state(host)
    try:
        options = {
            "databases_dir": "/usr/share/GeoIP",
            "responder_key": f"{SECRET} and long enough to be a key",
            "responder_key_previous": f"{SECRET} as it was, and long enough",
        }
        variables = {"streamswarm_worker_policy": {"ports": ["1-2"]}, "streamswarm_worker_options": options}
        answers, events = _run_once(ground, SUITE, folder=tmp_path, variables=variables)
        assert SECRET not in repr(events)
        skipped = {event.task for event in events if event.state is TaskState.SKIPPED}
        assert {"Bring the bundle", "Check and unpack the bundle"} <= skipped
        [answer] = answers.hosts
        assert (answer.problem, answer.remark) == ("", "")
        [result] = answer.results
        assert "policy" in result.error
        for name, value, said in (
            ("databases_dir", "/etc/passwd", "'/etc/passwd' is a file"),
            ("responder_key", "short", "32 characters or more"),
            ("responder_key_previous", "a previous key without another one", "32 characters or more"),
        ):
            variables["streamswarm_worker_options"] = {name: value}
            [wrong] = _run_once(ground, SUITE, folder=tmp_path, variables=variables)[0].hosts
            assert said in wrong.problem
        assert _state(host) == before
    finally:
        host.ssh("rm", "-rf", "/opt/streamswarm-worker")


def test_a_host_that_cannot_run_it_says_why_in_one_line(ground: Ground, tmp_path: Path) -> None:
    """A folder that may not be written, and a bundle that was changed."""
    refused, _ = _run_once(
        ground, SUITE, folder=tmp_path, variables={"streamswarm_worker_once_dir": "/nowhere"}
    )
    assert "/nowhere" in refused.hosts[0].problem
    broken = tmp_path / ground.bundle.path.name
    broken.write_bytes(ground.bundle.path.read_bytes() + b"\0")
    description = ground.bundle.description() | {"path": str(broken)}
    broken.with_name(broken.name + ".json").write_text(json.dumps(description))
    before = _state(ground.lab.hosts[1])
    changed, _ = _run_once(
        ground, SUITE, folder=tmp_path, variables={"streamswarm_worker_bundle": str(broken)}
    )
    assert "SHA-256" in changed.hosts[0].problem
    assert "\n" not in changed.hosts[0].problem
    assert _state(ground.lab.hosts[1]) == before


def _measuring(host: Host) -> bool:
    return "--all-or-none" in host.ssh("ps", "-eo", "args")


@pytest.mark.usefixtures("untouched")
def test_stopping_clears_the_hosts_and_no_secret_is_left(ground: Ground, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a measurement: processes are ended, files removed, and no journal knows the suite's secret."""
    suite = tmp_path / "suite.yaml"
    suite.write_text(ENDLESS.format(door=ground.door, secret=SECRET))
    before = network.processes_in(ground.lab.namespace)
    began = int(time.time())
    process = ground.lab.python(
        *ground.command(suite),
        extra_environment=ground.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    for host in ground.lab.hosts:
        wait_for(f"measuring on {host.name}", lambda host=host: _measuring(host), 120)
    assert SECRET not in ground.lab.hosts[0].ssh("ps", "-eo", "args")
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 130, said
    assert "Stopped; there is no verdict." in said
    assert SECRET not in said
    assert not any(_measuring(host) for host in ground.lab.hosts)
    wait_for("the end of all processes", lambda: network.processes_in(ground.lab.namespace) == before, 10)
    assert list(ground.own.iterdir()) == []
    for host in ground.lab.hosts:
        # Of this run alone: sudo writes down what a run with --become does.
        journal = host.ssh("journalctl", "--no-pager", "--since", f"@{began}")
        assert "sshd" in journal
        assert SECRET not in journal
        assert "streamswarm" not in journal


@pytest.mark.usefixtures("untouched")
def test_a_host_clears_itself_when_nobody_is_there_any_more(ground: Ground, tmp_path: Path) -> None:
    """The machine that runs Ansible is gone in the middle: the jobs end in their time, and then nothing is left."""
    suite = tmp_path / "suite.yaml"
    suite.write_text(ENDLESS.format(door=ground.door, secret=SECRET).replace("60000", "4000"))
    process = ground.lab.python(
        *ground.command(suite, "--limit", "host1"),
        extra_environment=ground.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    host = ground.lab.hosts[0]
    wait_for("measuring", lambda: _measuring(host), 120)

    def killed() -> bool:
        """End all there is; whether there was nothing. Some end by themselves, and some start others, meanwhile."""
        ours = set(network.processes_in(ground.lab.namespace)) - {os.getpid()}
        for number in ours:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        return not ours

    wait_for("the end of all processes", killed, 10)
    process.wait(timeout=10)
    shutil.rmtree(ground.own)
    ground.own.mkdir()
    wait_for("an empty host", lambda: host.ssh("ls /tmp | grep streamswarm || true") == "", 20)


@pytest.mark.usefixtures("untouched")
def test_plain_ansible_playbook_takes_jobs_and_leaves_results(ground: Ground, tmp_path: Path) -> None:
    """The playbook alone: lines of JSON in, a file of them for each host out. Where that cannot be written, it is said why."""
    (tmp_path / "suite.yaml").write_text(SUITE.format(door=ground.door))
    (tmp_path / "jobs.jsonl").write_text(as_lines(Judge([suites.load(tmp_path / "suite.yaml")]).jobs))
    (tmp_path / "results").mkdir()
    variables = tmp_path / "run.json"
    given = {
        "streamswarm_worker_bundle": str(ground.bundle.path),
        "streamswarm_worker_once_jobs": str(tmp_path / "jobs.jsonl"),
        "streamswarm_worker_once_results": str(tmp_path / "results"),
    }
    variables.write_text(json.dumps(given))
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [program, "-i", ground.lab.inventory, "-e", f"@{variables}", PLAYBOOK]
    surroundings = {
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(ground.lab.folder / "cp"),
        "ANSIBLE_NOCOLOR": "1",
    }
    said = ground.lab.exec(command, extra_environment=surroundings)
    assert said.count("changed=0 ") == 2
    for host in ground.lab.hosts:
        lines = (tmp_path / "results" / f"{host.name}.jsonl").read_text().splitlines()
        assert {json.loads(line)["status"] for line in lines} == {"STATUS_OK"}
        assert len(lines) == 2
    shutil.rmtree(tmp_path / "results")
    with pytest.raises(LabError) as failed:
        ground.lab.exec(command, extra_environment=surroundings)
    said = str(failed.value)
    assert re.search(rf"could not be written to {tmp_path}/results on this machine: \S.*results", said)
    assert "STATUS_OK" not in said
