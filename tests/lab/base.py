"""The base system that all hosts of the laboratory share, made once by debootstrap.

It is kept outside the checkout, in a folder named after everything that went into it, so that a change of the
package list or of the recipe makes a new one and never mends an old one in place.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.commands import call
from lab.errors import LabError
from lab.mounts import remove_tree

#: What an inventory host has: systemd, sshd, python3 and sudo; a controller's proxy; the rest is for looking at it.
PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "iputils-ping",
    "kmod",
    "nftables",
    "nginx-light",
    "openssh-server",
    "procps",
    "python3",
    "sudo",
    "systemd",
    "systemd-sysv",
)

#: Units that have nothing to do, or must not run, in a container that shares the machine's kernel and clock.
MASKED_UNITS = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dev-hugepages.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "nginx.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-modules-load.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-udevd.service",
)

#: The account that Ansible logs in with: ordinary, with sudo, as on real hosts.
DEPLOY_USER = "deploy"

#: Goes up when `_furnish` changes, so that images of the old recipe are not used any more.
RECIPE = 1


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """The Debian archive that this machine's own apt uses."""

    #: Where the archive is, as apt would fetch from it.
    url: str
    #: The suite that is installed here, for example bookworm.
    suite: str
    #: The proxy that apt is told to use, or None.
    proxy: str | None


def cache_folder() -> Path:
    """Return where base systems are kept: STREAMSWARM_LAB_CACHE, or /var/cache/streamswarm-lab."""
    return Path(os.environ.get("STREAMSWARM_LAB_CACHE", "/var/cache/streamswarm-lab"))


def apt_mirror() -> Mirror:
    """Read from apt's configuration which archive serves the suite of this machine."""
    suite = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    listed = call(
        ["apt-get", "indextargets", "--format", "$(SITE)|$(CODENAME)|$(COMPONENT)", "Created-By: Packages"]
    )
    for line in listed.splitlines():
        url, codename, component = line.split("|")
        if codename == suite and component == "main":
            proxy = call(["apt-config", "shell", "PROXY", "Acquire::http::Proxy"]).strip()
            return Mirror(url=url, suite=suite, proxy=proxy.removeprefix("PROXY=").strip("'") or None)
    raise LabError(
        f"apt knows no archive with the component main of {suite or 'this system'}; "
        "the laboratory needs a Debian or Ubuntu machine with its archive in /etc/apt/sources.list.d."
    )


def base_key(suite: str) -> str:
    """Return the name of the base system: a hash over all that decides what is in it."""
    parts = (str(RECIPE), suite, platform.machine(), DEPLOY_USER, *PACKAGES, "-", *MASKED_UNITS)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def ensure_base() -> Path:
    """Return the base system's folder, building it first where it is missing (about a minute).

    A folder that has its final name is complete: it is made under another name and renamed at the end. Builders
    that meet wait for one another.
    """
    mirror = apt_mirror()
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True, mode=0o755)
    base = cache / f"base-{base_key(mirror.suite)}"
    if base.is_dir():
        return base
    with _exclusively(cache / ".lock"):
        if base.is_dir():
            return base
        for abandoned in cache.glob("*.partial"):
            remove_tree(abandoned)
        partial = base.with_suffix(".partial")
        _debootstrap(partial, mirror)
        _furnish(partial)
        partial.rename(base)
    return base


@contextmanager
def _exclusively(lock: Path) -> Iterator[None]:
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _debootstrap(target: Path, mirror: Mirror) -> None:
    proxy = {"http_proxy": mirror.proxy} if mirror.proxy else {}
    call(
        [
            "debootstrap",
            "--variant=minbase",
            f"--include={','.join(PACKAGES)}",
            mirror.suite,
            target,
            mirror.url,
        ],
        timeout=900,
        extra_environment=proxy,
    )


def _furnish(root: Path) -> None:
    """Make the fresh system fit for a container: an account, no clashing units, no identity of its own."""
    units = root / "etc/systemd/system"
    for unit in MASKED_UNITS:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    (units / "default.target").unlink(missing_ok=True)
    (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    subprocess.run(
        ["chroot", root, "useradd", "--create-home", "--shell", "/bin/bash", DEPLOY_USER], check=True
    )
    sudoers = root / "etc/sudoers.d/deploy"
    sudoers.write_text(f"{DEPLOY_USER} ALL=(ALL) NOPASSWD:ALL\n")
    sudoers.chmod(0o440)
    (root / "etc/ssh/sshd_config.d/lab.conf").write_text("PermitRootLogin prohibit-password\nUseDNS no\n")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (root / "etc/machine-id").write_text("")
    for archive in (root / "var/cache/apt/archives").glob("*.deb"):
        archive.unlink()
