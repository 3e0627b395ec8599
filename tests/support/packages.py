"""Builds the distribution as its users get it, and installs it into environments of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.clones import ROOT
from uv import find_uv_bin


def build(folder: Path, source: Path = ROOT, *what: str) -> list[Path]:
    """Build sdist and wheel, or what is named (`--wheel`), from a checkout or an sdist; returns the files."""
    # The time is written into the archives: with the same one, the same sources give the same bytes.
    environment = {**_environment(), "SOURCE_DATE_EPOCH": "1700000000"}
    command = [find_uv_bin(), "build", "--quiet", *what, "--out-dir", str(folder), str(source)]
    _run(command, environment)
    return sorted(path for path in folder.iterdir() if path.suffix in (".whl", ".gz"))


def install(environment: Path, wheel: Path, extra: str = "") -> Path:
    """Make an empty environment with the system's Python, install the wheel alone, and return its `bin`."""
    # Not the interpreter of the tests' own environment: what is in there must not be found.
    base = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    _run([find_uv_bin(), "venv", "--quiet", "--python", str(base), str(environment)], _environment())
    wanted = f"{wheel}[{extra}]" if extra else str(wheel)
    options = ["--quiet", "--compile-bytecode", "--python", str(environment / "bin/python")]
    _run([find_uv_bin(), "pip", "install", *options, wanted], _environment())
    return environment / "bin"


def _environment() -> dict[str, str]:
    from support.surroundings import clean_environment

    return clean_environment()


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
