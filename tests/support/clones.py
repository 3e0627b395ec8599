"""Fresh clones of the repository, and ports that nobody holds."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.surroundings import free_addresses

ROOT = Path(__file__).parents[2]


def own_ports() -> dict[str, str]:
    """Settings that keep an installation away from every other on the machine."""
    names = ("WEB_LISTEN", "GATEWAY_LISTEN", "ENROLMENT_LISTEN", "EXAMPLE_RESOLVER_LISTEN")
    return {
        f"STREAMSWARM_{name}": address
        for name, address in zip(names, free_addresses(len(names)), strict=True)
    }


@contextmanager
def fresh_clone(name: str = "streamswarm") -> Iterator[Path]:
    """A clone of what is committed, without an environment; not in pytest's folder, which only its user enters."""
    folder = Path(tempfile.mkdtemp(prefix="streamswarm-clone-"))
    try:
        subprocess.run(
            ["git", "clone", "--quiet", "--no-local", str(ROOT), str(folder / name)],
            check=True,
            timeout=120,
        )
        yield folder / name
    finally:
        shutil.rmtree(folder)
