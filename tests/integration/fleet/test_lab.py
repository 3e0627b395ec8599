"""The laboratory itself: what the other tests stand on."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lab import network
from lab.errors import LabError
from lab.laboratory import Lab, state_folder, sweep
from lab.mounts import mounts_below

pytestmark = [pytest.mark.hosts, pytest.mark.namespaces, pytest.mark.usefixtures("laboratory_possible")]


@pytest.fixture(scope="module")
def lab(lab_hosts: Callable[[int], Lab]) -> Lab:
    """Three hosts for this module's tests."""
    return lab_hosts(3)


def test_hosts_run_systemd_and_are_reached_by_ssh(lab: Lab) -> None:
    """Each host has its own name, a settled systemd and the deploy user with sudo."""
    for number, host in enumerate(lab.hosts, start=1):
        assert host.ssh("systemctl", "is-system-running") == "running\n"
        assert host.ssh("hostname") == f"host{number}\n"
        assert host.ssh("sudo", "id", "-un", user="deploy") == "root\n"


def test_services_of_one_name_on_two_hosts_are_two_services(lab: Lab) -> None:
    """Killing and stopping a service on one host leaves the other host's service of that name alone."""
    first, second, _ = lab.hosts
    for host in (first, second):
        host.ssh("systemd-run", "--quiet", "--unit=twin", "sleep", "600")
    process = second.ssh("systemctl", "show", "--property=MainPID", "twin")
    first.ssh("systemctl", "kill", "--signal=KILL", "twin")
    first.ssh("systemctl", "reset-failed", "twin")
    assert second.ssh("systemctl", "is-active", "twin") == "active\n"
    assert second.ssh("systemctl", "show", "--property=MainPID", "twin") == process


def test_hosts_and_controller_reach_each_other(lab: Lab) -> None:
    """The hosts reach the controller and one another over IPv4 and IPv6."""
    first, second, _ = lab.hosts
    for address in (lab.address, lab.address6, second.address, second.address6):
        assert "1 received" in first.ssh("ping", "-c1", "-W2", address)


def test_no_address_of_the_laboratory_is_routed_from_the_machine(lab: Lab) -> None:
    """Without entering the namespace, the machine has no address and no interface of the laboratory's network."""
    own = subprocess.run(["ip", "-brief", "addr"], capture_output=True, text=True, check=True).stdout
    assert network.IPV4_PREFIX not in own
    assert network.BRIDGE not in own
    with lab.inside(), socket.create_connection((lab.hosts[0].address, 22), timeout=2) as connection:
        assert connection.recv(4) == b"SSH-"


def test_leaving_the_namespace_brings_the_thread_back(lab: Lab) -> None:
    """After the block the thread sees the machine's own network again, after an error too."""
    home = Path("/proc/thread-self/ns/net").readlink()
    with lab.inside():
        assert Path("/proc/thread-self/ns/net").readlink() != home
    assert Path("/proc/thread-self/ns/net").readlink() == home
    with pytest.raises(ZeroDivisionError), lab.inside():
        1 // 0  # noqa: B018
    assert Path("/proc/thread-self/ns/net").readlink() == home


def test_a_changed_host_key_is_refused(lab: Lab, tmp_path: Path) -> None:
    """SSH connects to the pinned keys only: another host's key in its place ends in an error."""
    host, other, _ = lab.hosts
    known = tmp_path / "known_hosts"
    key = (other.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
    known.write_text(f"{host.address} {key}")
    command = [
        word.replace(str(lab.folder / "known_hosts"), str(known)) for word in host.ssh_command(["true"])
    ]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 255
    assert "Host key verification failed" in refused.stderr


def test_a_failing_command_says_what_it_said(lab: Lab) -> None:
    """The error carries the program's own words."""
    with pytest.raises(LabError, match="No such file or directory"):
        lab.hosts[0].ssh("ls", "/nowhere")


def test_closing_leaves_nothing() -> None:
    """After close there are no processes, namespaces, mounts or files of the run."""
    with Lab.boot(1) as lab:
        child = lab.python("-c", "import time; time.sleep(600)")
    assert child.wait(timeout=5) != 0
    assert network.namespaces_of(lab.run) == []
    assert mounts_below(state_folder() / lab.run) == []
    assert not lab.folder.exists()


def test_a_run_whose_owner_was_killed_is_swept(tmp_path: Path) -> None:
    """A run that its owner left behind by kill -9 is taken down by the next one; a living owner's is not."""
    program = (
        "import os; from lab.laboratory import Lab; lab = Lab.boot(1);"
        "lab.python('-c', 'import time; time.sleep(600)'); print(lab.run, flush=True); os.kill(os.getpid(), 9)"
    )
    # To a file, not a pipe: what the killed owner left running would hold a pipe open.
    output = tmp_path / "output"
    with output.open("wb") as sink:
        killed = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=sink,
            stderr=subprocess.STDOUT,
            check=False,
        )
    run = output.read_text().strip()
    assert killed.returncode == -9, run
    assert len(network.namespaces_of(run)) == 2
    with Lab.boot(0) as living:
        assert network.namespaces_of(run) == []
        assert not (state_folder() / run).exists()
        assert living.run not in sweep()
        assert network.namespaces_of(living.run) == [living.namespace]


def test_a_host_that_cannot_boot_is_named_and_cleared_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A base system without an init ends in an error that names the host, and nothing stays behind."""
    empty = tmp_path / "base"
    for folder in ("etc/ssh", "root", "home/deploy", "usr"):
        (empty / folder).mkdir(parents=True)
    monkeypatch.setattr("lab.laboratory.ensure_base", lambda: empty)
    before = {path.name for path in state_folder().iterdir()}
    with pytest.raises(LabError, match="host1 did not come up"):
        Lab.boot(1, timeout=3)
    assert {path.name for path in state_folder().iterdir()} <= before
    shutil.rmtree(empty)
