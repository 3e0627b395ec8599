"""Ports, clones and machines for tests of the whole road."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.surroundings import free_addresses

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def own_ports() -> dict[str, str]:
    """Settings that keep this installation away from every other on the machine."""
    names = ("WEB_LISTEN", "GATEWAY_LISTEN", "ENROLMENT_LISTEN", "EXAMPLE_RESOLVER_LISTEN")
    return {
        f"STREAMSWARM_{name}": address
        for name, address in zip(names, free_addresses(len(names)), strict=True)
    }


@pytest.fixture(scope="module")
def clone() -> Iterator[Path]:
    """A fresh clone of what is committed, without an environment; not in pytest's folder, which only its user enters."""
    folder = Path(tempfile.mkdtemp(prefix="streamswarm-clone-")) / "streamswarm"
    subprocess.run(["git", "clone", "--quiet", "--no-local", str(ROOT), str(folder)], check=True, timeout=120)
    yield folder
    shutil.rmtree(folder.parent)
