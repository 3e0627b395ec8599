"""Inventory hosts: real systemd systems in containers, reached by SSH like any other."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.base import DEPLOY_USER
from lab.cgroups import add_group, machine_has_systemd, within_group
from lab.commands import call, environment
from lab.errors import LabError
from lab.mounts import mount_overlay
from lab.network import NAMESPACES, host_addresses, within
from lab.processes import ProcessMark

#: States of systemd in which a host is as booted as it will be.
BOOTED = ("running", "degraded")


@dataclass(frozen=True, kw_only=True)
class Host:
    """One booted host."""

    #: Its name, in the inventory and on itself.
    name: str
    #: Its IPv4 address.
    address: str
    #: Its IPv6 address.
    address6: str
    #: Its network namespace, for looking on from outside.
    namespace: str
    #: The namespace from which it is reached.
    controller: str
    #: Folder with its layer, console log and process mark.
    folder: Path
    #: Options of ssh with the key and the pinned host keys.
    ssh_options: tuple[str, ...]

    @property
    def root(self) -> Path:
        """The host's file system, seen from the machine."""
        return self.folder / "root"

    def ssh_command(self, argv: Sequence[str], *, user: str = "root") -> list[str]:
        """Return the command that runs `argv` on the host; the host's shell splits the words."""
        return within(self.controller, ["ssh", *self.ssh_options, f"{user}@{self.address}", "--", *argv])

    def ssh(self, *argv: str, user: str = "root", timeout: float = 30) -> str:
        """Run a command on the host by SSH and return its output; raises LabError when it fails."""
        return call(self.ssh_command(argv, user=user), timeout=timeout)

    def exec(self, *argv: str, timeout: float = 30) -> str:
        """Run a program of this machine inside the host's network and return its output."""
        return call(within(self.namespace, argv), timeout=timeout)

    def wait_until_booted(self, deadline: float) -> None:
        """Wait for sshd to answer and systemd to have settled; raises LabError after `deadline` (monotonic)."""
        said = ""
        while time.monotonic() < deadline:
            try:
                answer = subprocess.run(
                    # As the ordinary user: root may log in before the host has come up.
                    self.ssh_command(["systemctl", "is-system-running"], user=DEPLOY_USER),
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=max(1.0, deadline - time.monotonic()),
                    check=False,
                    env=environment(),
                )
            except subprocess.TimeoutExpired:
                break
            said = (answer.stdout + answer.stderr).strip()
            if answer.stdout.strip() in BOOTED:
                return
            time.sleep(0.1)
        raise LabError(
            f"host {self.name} did not come up in time; it last said: {said or 'nothing'}. "
            f"Its console: {self._console_end() or 'empty'}"
        )

    def _console_end(self) -> str:
        log = self.folder / "console.log"
        return log.read_text(encoding="utf-8", errors="replace")[-1500:] if log.exists() else ""


def start_host(
    number: int, *, run: str, base: Path, folder: Path, public_key: str, ssh_options: tuple[str, ...]
) -> tuple[Host, subprocess.Popen[bytes]]:
    """Lay out host `number` over the base system and start it; its namespace must exist already."""
    name, namespace = f"host{number}", f"{run}-h{number}"
    ipv4, ipv6 = host_addresses(number)
    folder.mkdir()
    root = mount_overlay(base, folder)
    _give_identity(root, name, public_key)
    host = Host(
        name=name,
        address=ipv4,
        address6=ipv6,
        namespace=namespace,
        controller=f"{run}-c",
        folder=folder,
        ssh_options=ssh_options,
    )
    return host, switch_on(host)


def switch_on(host: Host) -> subprocess.Popen[bytes]:
    """Boot a host that is laid out and not running."""
    command: Sequence[str | Path] = [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        f"--directory={host.root}",
        f"--machine={host.namespace}",
        f"--hostname={host.name}",
        f"--network-namespace-path={NAMESPACES / host.namespace}",
        "--capability=CAP_NET_ADMIN,CAP_NET_RAW",
        "--register=no",
        "--settings=no",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=pipe",
    ]
    if not machine_has_systemd():
        command = within_group(add_group(host.namespace), [*command, "--keep-unit"])
    with (host.folder / "console.log").open("wb") as console:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment({"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}),
        )
    if mark := ProcessMark.of(process.pid):
        mark.save(host.folder / "nspawn.json")
    return process


def _give_identity(root: Path, name: str, public_key: str) -> None:
    """Write what makes a host this host: its name, its SSH host key, and who may log in."""
    (root / "etc/hostname").write_text(f"{name}\n")
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost {name}\n::1 localhost {name}\n")
    (root / "etc/machine-id").write_text("")
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/resolv.conf").write_text("# No resolver: the laboratory has no way out.\n")
    make_key(root / "etc/ssh/ssh_host_ed25519_key", comment=name)
    for home in (root / "root", root / "home" / DEPLOY_USER):
        owner = home.stat()
        (home / ".ssh").mkdir(mode=0o700, exist_ok=True)
        keys = home / ".ssh" / "authorized_keys"
        keys.write_text(public_key)
        keys.chmod(0o600)
        for path in (home / ".ssh", keys):
            os.chown(path, owner.st_uid, owner.st_gid)


def make_key(path: Path, *, comment: str) -> str:
    """Make an Ed25519 key pair at `path` and return the public half."""
    call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path])
    return path.with_name(path.name + ".pub").read_text(encoding="ascii")


def forget_machine(namespace: str) -> None:
    """Remove the folder that systemd-nspawn leaves behind for a machine of that name."""
    shutil.rmtree(Path("/run/systemd/nspawn/propagate") / namespace, ignore_errors=True)
