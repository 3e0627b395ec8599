"""A control group for each host, on machines where no systemd hands them out.

Without one of its own a host's systemd would share its tree with the other hosts': stopping a service on one would
remove the group, and kill the processes, of the same service on another.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from lab.errors import LabError

#: Seconds that the kernel gets to take the last processes out of a group.
PATIENCE = 5.0


def machine_has_systemd() -> bool:
    """Say whether systemd runs this machine; systemd-nspawn then makes a scope for each host by itself."""
    return Path("/run/systemd/system").is_dir()


def add_group(name: str) -> Path:
    """Make the control group of a host."""
    group = _mount_point() / name
    group.mkdir()
    return group


def within_group(group: Path, argv: Sequence[str | Path]) -> list[str]:
    """Return the command that enters a group and then becomes `argv`."""
    enter = 'echo $$ >"$0" && exec "$@"'
    return ["/bin/sh", "-c", enter, str(group / "cgroup.procs"), *(str(word) for word in argv)]


def cpu_s(name: str) -> float:
    """Return the seconds of processors that a host's processes have used, ended ones included."""
    lines = (_mount_point() / name / "cpu.stat").read_text(encoding="ascii").splitlines()
    return int(dict(line.split() for line in lines)["usage_usec"]) / 1e6


def delete_groups(run: str) -> None:
    """End what still runs in the groups of a laboratory, and remove them."""
    if machine_has_systemd():
        return
    for group in _mount_point().glob(f"{run}-*"):
        delete_group(group.name)


def delete_group(name: str) -> None:
    """End what still runs in the group of a host, and remove it; nothing happens when there is none."""
    group = _mount_point() / name
    if not machine_has_systemd() and group.is_dir():
        (group / "cgroup.kill").write_text("1")
        deadline = time.monotonic() + PATIENCE
        while _populated(group):
            if time.monotonic() > deadline:
                raise LabError(f"processes in {group} do not end; see its cgroup.procs, and those below it.")
            time.sleep(0.02)
        for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            folder.rmdir()
        group.rmdir()


def _populated(group: Path) -> bool:
    return "populated 1" in (group / "cgroup.events").read_text(encoding="ascii")


def _mount_point() -> Path:
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, point, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(point)
    raise LabError(
        "no cgroup2 file system is mounted; `mount -t cgroup2 none /sys/fs/cgroup/unified` mounts it."
    )
