"""The laboratory: N real hosts on a network of their own, and a place for the controller beside them.

    with Lab.boot(3) as lab:
        lab.exec([sys.executable, "-m", "ansible", "playbook", "-i", lab.inventory, …])
        gateway = lab.python("-m", "controller.gateway")
        with lab.inside():
            httpx.get(f"http://{lab.address}:8080/…")
        lab.hosts[0].ssh("systemctl", "status", "streamswarm-worker")

Every run has a name of its own, in its namespaces and in its state folder. A run whose owner has died is taken
down by the next one that starts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from lab import network
from lab.base import DEPLOY_USER, ensure_base
from lab.cgroups import delete_group, delete_groups
from lab.commands import call, environment
from lab.hosts import Host, forget_machine, make_key, start_host, switch_on
from lab.mounts import remove_tree
from lab.processes import ProcessMark, end_all, init_of_container

#: Begins the name of every run, so that its namespaces can be told from anybody else's.
RUN_PREFIX = "sslab"
#: File in a run's folder that marks the process which answers for it.
OWNER_FILE = "owner.json"
#: Seconds that a process in the controller's namespace gets to end by itself.
PATIENCE = 3.0


def state_folder() -> Path:
    """Return where runs keep their state: STREAMSWARM_LAB_STATE, or /var/lib/streamswarm-lab."""
    return Path(os.environ.get("STREAMSWARM_LAB_STATE", "/var/lib/streamswarm-lab"))


@dataclass(kw_only=True)
class Lab:
    """A booted laboratory. Use it as a context manager, or call `close`."""

    #: Name of this run; begins the name of each of its namespaces.
    run: str
    #: The run's own folder, 0700: keys, inventory, layers of the hosts, consoles.
    folder: Path
    #: The booted hosts, host1 first.
    hosts: tuple[Host, ...] = ()
    #: What watches over each container.
    _containers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @classmethod
    def boot(cls, count: int, *, timeout: float = 60) -> Lab:
        """Boot `count` hosts and wait until each answers by SSH; raises LabError when one does not in time."""
        base = ensure_base()
        sweep()
        run = f"{RUN_PREFIX}{secrets.token_hex(3)}"
        lab = cls(run=run, folder=_claim_folder(run))
        try:
            lab._start(base, count, timeout)
        except BaseException:
            lab.close()
            raise
        return lab

    @property
    def namespace(self) -> str:
        """The controller's network namespace."""
        return f"{self.run}-c"

    @property
    def address(self) -> str:
        """The controller's IPv4 address, which the hosts reach."""
        return network.host_addresses(0)[0]

    @property
    def address6(self) -> str:
        """The controller's IPv6 address."""
        return network.host_addresses(0)[1]

    @property
    def inventory(self) -> Path:
        """An Ansible inventory with all hosts in the group `workers`."""
        return self.folder / "inventory.ini"

    def exec(
        self,
        argv: Sequence[str | Path],
        *,
        timeout: float = 120,
        extra_environment: Mapping[str, str] | None = None,
    ) -> str:
        """Run a program in the controller's namespace and return its output; raises LabError when it fails."""
        return call(
            network.within(self.namespace, argv), timeout=timeout, extra_environment=extra_environment
        )

    def popen(
        self,
        argv: Sequence[str | Path],
        *,
        extra_environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[bytes]:
        """Start a program in the controller's namespace; what still runs at the end is ended by `close`."""
        return subprocess.Popen(
            network.within(self.namespace, argv), env=environment(extra_environment), **options
        )

    def python(
        self, *words: str | Path, extra_environment: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start this Python with the arguments `words` in the controller's namespace."""
        return self.popen([sys.executable, *words], extra_environment=extra_environment, **options)

    def inside(self) -> contextlib.AbstractContextManager[None]:
        """Put the calling thread into the controller's namespace for a `with` block."""
        return network.entered(self.namespace)

    def cut_power(self, host: Host) -> None:
        """Kill the host's init, and with it everything that runs there, without a word of warning."""
        for pid in network.processes_in(host.namespace):
            if mark := init_of_container(pid):
                mark.kill()
        self._containers[self.hosts.index(host)].wait(timeout=20)

    def restore_power(self, host: Host, *, timeout: float = 60) -> None:
        """Boot a host again whose power was cut, and wait until it answers by SSH."""
        delete_group(host.namespace)
        forget_machine(host.namespace)
        self._containers[self.hosts.index(host)] = switch_on(host)
        host.wait_until_booted(time.monotonic() + timeout)

    def replace(self, host: Host, *, timeout: float = 60) -> None:
        """Put a new host in the place of one that is gone: of its name and addresses, with nothing that was on it."""
        self.cut_power(host)
        delete_group(host.namespace)
        forget_machine(host.namespace)
        remove_tree(host.folder)
        number = self.hosts.index(host)
        _, self._containers[number] = start_host(
            number + 1,
            run=self.run,
            base=ensure_base(),
            folder=host.folder,
            public_key=(self.folder / "key.pub").read_text(encoding="ascii"),
            ssh_options=self._ssh_options(),
        )
        self._write_known_hosts()
        host.wait_until_booted(time.monotonic() + timeout)

    def close(self) -> None:
        """Take everything down again; safe to call twice and after a boot that failed half-way."""
        take_down(self.run, self.folder)
        for container in self._containers:
            container.wait()
        self._containers.clear()

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, base: Path, count: int, timeout: float) -> None:
        public_key = make_key(self.folder / "key", comment=self.run)
        network.add_controller_namespace(self.namespace)
        hosts = []
        for number in range(1, count + 1):
            network.add_host_namespace(f"{self.run}-h{number}", number, controller=self.namespace)
            host, container = start_host(
                number,
                run=self.run,
                base=base,
                folder=self.folder / f"h{number}",
                public_key=public_key,
                ssh_options=self._ssh_options(),
            )
            self._containers.append(container)
            hosts.append(host)
        self.hosts = tuple(hosts)
        self._write_known_hosts()
        self._write_inventory()
        deadline = time.monotonic() + timeout
        with ThreadPoolExecutor(max_workers=max(1, count)) as pool:
            for waiting in [pool.submit(host.wait_until_booted, deadline) for host in hosts]:
                waiting.result()

    def _ssh_options(self) -> tuple[str, ...]:
        settings = {
            "IdentityFile": self.folder / "key",
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self.folder / "known_hosts",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": "2",
            "LogLevel": "ERROR",
        }
        return (
            "-F",
            "none",
            *(word for name, value in settings.items() for word in ("-o", f"{name}={value}")),
        )

    def _write_known_hosts(self) -> None:
        lines = []
        for host in self.hosts:
            key = (host.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text(encoding="ascii")
            lines.append(f"{host.address} {' '.join(key.split()[:2])}\n")
        (self.folder / "known_hosts").write_text("".join(lines))

    def _write_inventory(self) -> None:
        lines = ["[workers]"]
        lines += [f"{host.name} ansible_host={host.address}" for host in self.hosts]
        known_hosts = self.folder / "known_hosts"
        lines += [
            "",
            "[workers:vars]",
            f"ansible_user={DEPLOY_USER}",
            "ansible_python_interpreter=/usr/bin/python3",
            f"ansible_ssh_private_key_file={self.folder / 'key'}",
            f"ansible_ssh_common_args=-F none -o UserKnownHostsFile={known_hosts} -o IdentitiesOnly=yes",
        ]
        self.inventory.write_text("\n".join(lines) + "\n")


def take_down(run: str, folder: Path) -> None:
    """Remove whatever exists of a run: processes, namespaces, mounts and, last, its folder."""
    controller = f"{run}-c"
    if controller in network.namespaces_of(run):
        end_all(network.processes_in(controller), patience=PATIENCE)
    _end_containers(run, folder, deadline=time.monotonic() + 10)
    delete_groups(run)
    for name in network.namespaces_of(run):
        network.delete_namespace(name)
        forget_machine(name)
    remove_tree(folder)


def _end_containers(run: str, folder: Path, *, deadline: float) -> None:
    """End what lives in the namespaces, again and again until what watches over the containers has ended too.

    One look is not enough: a container that was just starting enters its namespace only after it.
    """
    while True:
        for name in network.namespaces_of(run):
            end_all(network.processes_in(name), patience=0)
        watchers = [mark for mark in _marks(folder, "h*/nspawn.json") if mark.alive()]
        if not watchers:
            return
        if time.monotonic() > deadline:
            for mark in watchers:
                mark.kill()
        time.sleep(0.02)


def sweep() -> list[str]:
    """Take down the runs whose owner is gone (killed, or the machine restarted); returns their names."""
    swept = []
    state_folder().mkdir(parents=True, exist_ok=True)
    # One at a time: two would take the same run from under each other.
    handle = os.open(state_folder(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for folder in sorted(state_folder().glob(f"{RUN_PREFIX}*")):
            owner = ProcessMark.load(folder / OWNER_FILE)
            if owner is None or not owner.alive():
                take_down(folder.name, folder)
                swept.append(folder.name)
    finally:
        os.close(handle)
    return swept


def _claim_folder(run: str) -> Path:
    """Make the run's folder with its owner's mark in it, so that no sweep sees it without one."""
    state_folder().mkdir(parents=True, exist_ok=True)
    claim = state_folder() / f".{run}"
    claim.mkdir(mode=0o700)
    mark = ProcessMark.of(os.getpid())
    if mark is None:
        raise AssertionError("this process must be alive")
    mark.save(claim / OWNER_FILE)
    return claim.rename(state_folder() / run)


def _marks(folder: Path, pattern: str) -> list[ProcessMark]:
    return [mark for path in folder.glob(pattern) if (mark := ProcessMark.load(path)) is not None]
