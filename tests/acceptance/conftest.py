"""Ports, clones and machines for tests of the whole road."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.surroundings import free_addresses

ROOT = Path(__file__).parents[2]


@pytest.fixture
def own_ports() -> dict[str, str]:
    """Settings that keep this installation away from every other on the machine."""
    names = ("WEB_LISTEN", "GATEWAY_LISTEN", "ENROLMENT_LISTEN", "EXAMPLE_RESOLVER_LISTEN")
    return {
        f"STREAMSWARM_{name}": address
        for name, address in zip(names, free_addresses(len(names)), strict=True)
    }


@pytest.fixture
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fresh clone of what is committed, without an environment."""
    folder = tmp_path_factory.mktemp("clone") / "streamswarm"
    subprocess.run(["git", "clone", "--quiet", "--no-local", str(ROOT), str(folder)], check=True, timeout=120)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
