"""The wheels of a worker for the machine's own Python, as pip would fetch them, at the versions of the bundle."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from pathlib import Path

from uv import find_uv_bin

from controller.fleet import distribution
from controller.fleet.platforms import Platform

ROOT = Path(__file__).parents[3]
PYTHON = "/usr/bin/python3"


def gather(platform: Platform, target: Path) -> str:
    """Pack the wheels of the distribution and of pip into a tar.gz; returns the name of pip's wheel."""
    uv = find_uv_bin()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheels = folder / "wheels"
        _call(uv, "build", "--quiet", "--wheel", "--out-dir", wheels, ROOT)
        wanted = folder / "wanted.txt"
        wanted.write_text("\n".join([*distribution.base_requirements(), "pip"]) + "\n")
        pinned = folder / "pinned.txt"
        _call(
            *(uv, "pip", "compile", "--quiet", "--no-annotate", "--no-header"),
            *("--python-version", platform.python, "--python-platform", platform.resolver_name()),
            *("--only-binary", ":all:", "--output-file", pinned, wanted),
        )
        _call(uv, "venv", "--quiet", "--seed", "--python", PYTHON, folder / "venv")
        _call(
            *(folder / "venv/bin/python", "-m", "pip", "download", "--quiet", "--no-deps"),
            *(
                "--disable-pip-version-check",
                "--only-binary",
                ":all:",
                "--dest",
                wheels,
                "--requirement",
                pinned,
            ),
        )
        (wheels / ".gitignore").unlink(missing_ok=True)
        with tarfile.open(target, "w:gz", compresslevel=6) as packed:
            packed.add(wheels, "wheels")
        [pip] = wheels.glob("pip-*.whl")
        return pip.name


def _call(*words: str | Path) -> None:
    command = [str(word) for word in words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        raise RuntimeError(f"{command[:3]} failed: {done.stderr}")
