"""Modules are started as programs from this environment and from nowhere else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from controller.programs import module_command


@pytest.mark.parametrize("name", ["worker", "controller.cli"])
def test_what_lies_in_the_current_folder_is_not_run(name: str, tmp_path: Path) -> None:
    """A package of the same name in the folder where somebody stands stays unread."""
    package = tmp_path / name.partition(".")[0]
    package.mkdir()
    for file in ("__init__.py", "__main__.py"):
        (package / file).write_text("raise SystemExit(77)\n")
    command = module_command(name, "--version")
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, timeout=60)
    assert done.returncode != 77, "a stranger's package was run"
    plain = [word for word in command if word != "-P"]
    other = subprocess.run(plain, cwd=tmp_path, env={}, capture_output=True, text=True, timeout=60)
    assert other.returncode == 77, "without -P it would have been"
