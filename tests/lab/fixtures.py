"""What tests take from the laboratory: a folder's conftest.py imports the fixtures that it wants from here."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from lab.commands import environment
from lab.laboratory import Lab

#: Program, and the Debian package that it comes with.
PROGRAMS = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "ssh": "openssh-client",
    "ip": "iproute2",
    "nsenter": "util-linux",
}


def missing() -> str | None:
    """Return why this machine cannot boot a laboratory and what would help, or None when it can."""
    if not sys.platform.startswith("linux"):
        return "booting hosts in namespaces needs Linux"
    if os.geteuid() != 0:
        return "booting hosts in namespaces needs root; run the tests as root to include it"
    path = environment()["PATH"]
    packages = sorted(
        {package for name, package in PROGRAMS.items() if shutil.which(name, path=path) is None}
    )
    if packages:
        return f"the laboratory lacks programs; apt-get install {' '.join(packages)}"
    if "overlay" not in Path("/proc/filesystems").read_text(encoding="ascii").split():
        return "the kernel has no overlay file system; load it with `modprobe overlay`"
    return None


@pytest.fixture(scope="session")
def laboratory_possible() -> None:
    """Skip where hosts cannot be booted, with the reason; on CI (CI=true) that is a failure instead."""
    if reason := missing():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason} (CI runs everything: a skip would hide it)")
        pytest.skip(reason)


@pytest.fixture(scope="module")
def lab_hosts(laboratory_possible: None) -> Iterator[Callable[[int], Lab]]:
    """Return a function that boots a laboratory of N hosts; all are taken down after the module's tests."""
    with ExitStack() as stack:
        yield lambda count: stack.enter_context(Lab.boot(count))
