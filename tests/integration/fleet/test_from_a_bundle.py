"""The roles' own commands where the controller runs from its bundle: its Python is the system's, in whose folder nothing of ours lies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller import assets
from controller.fleet import distribution
from controller.fleet.bundles import Bundle
from controller.fleet.parts import CONTROLLER

PYTHON = "/usr/bin/python3"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of the controller as its bundle unpacks to, with this environment's libraries."""
    folder = tmp_path_factory.mktemp("controller") / "release"
    library = folder / "lib"
    for relative, file in distribution.own_files(CONTROLLER):
        target = library / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    for found in Path(sysconfig.get_path("purelib")).iterdir():
        if not found.name.startswith(("_streamswarm", "streamswarm-")):
            (library / found.name).symlink_to(found)
    source = distribution.installed(CONTROLLER)
    metadata = library / f"streamswarm-{source.version}+0123456789.dist-info" / "METADATA"
    metadata.parent.mkdir()
    lines = ["Metadata-Version: 2.1", "Name: streamswarm", f"Version: {source.version}+0123456789"]
    metadata.write_text("\n".join([*lines, *(f"Requires-Dist: {each}" for each in source.declared)]) + "\n")
    (folder / "bin").mkdir()
    for program in CONTROLLER.programs:
        shutil.copyfile(Path(distribution.__file__).with_name("launcher.py"), folder / "bin" / program)
    (folder / "release.json").write_text(json.dumps({"version": f"{source.version}+0123456789"}))
    return folder


def _upgrade(release: Path, bundles: Path, tmp_path: Path, variables: dict[str, Any]) -> str:
    """Try an upgrade of a host that is no more than a platform; returns what Ansible said as it failed."""
    described = {"python": "", "architecture": "", "libc": ""}
    described |= {"clock_ahead_s": 0, "systemd": True, "releases": [], "account": None}
    described |= variables.pop("platform")
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{json.dumps(described)}'\n")
    python.chmod(0o755)
    inventory = tmp_path / "hosts.yml"
    host = {
        "ansible_connection": "local",
        "ansible_become": False,
        "streamswarm_worker_python": str(python),
        "streamswarm_worker_install_dir": str(tmp_path / "opt"),
        **variables,
    }
    inventory.write_text(json.dumps({"workers": {"hosts": {"a": host}}}))
    playbook = release / "lib/controller/_assets/playbooks/upgrade.yml"
    kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(
        [PYTHON, release / "bin/ansible-playbook", "-i", inventory, playbook, "--check"],
        env={
            **kept,
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_HOME": str(tmp_path / "home"),
            "STREAMSWARM_BUNDLE_DIR": str(bundles),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stdout + done.stderr


def _platform(bundle: Bundle) -> dict[str, str]:
    described = bundle.description()
    return {name: described[name] for name in ("python", "architecture", "libc")}


def test_the_role_gets_the_bundle_of_a_worker(release: Path, host_bundle: Bundle, tmp_path: Path) -> None:
    """It gets as far as to ask for the host's worker, which is not there."""
    said = _upgrade(release, host_bundle.path.parent, tmp_path, {"platform": _platform(host_bundle)})
    assert "The host has no worker that could be upgraded. Provision it." in said


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["/nowhere/streamswarm", "fleet", "bundle"], "it is not there, or may not be executed"),
        ([PYTHON, "-I", "-m", "controller.cli", "fleet", "bundle"], "No module named 'controller'"),
    ],
)
def test_a_command_that_cannot_run_is_named(
    release: Path, host_bundle: Bundle, tmp_path: Path, command: list[str], why: str
) -> None:
    """Its failure says which command it was, what stood in its way, and what to do."""
    variables = {"platform": _platform(host_bundle), "streamswarm_worker_bundle_command": command}
    said = _upgrade(release, host_bundle.path.parent, tmp_path, variables)
    assert f"`{' '.join(command)}`" in said
    assert why in said
    assert "streamswarm_worker_bundle_command" in said


def test_both_roles_build_bundles_by_one_command() -> None:
    """What starts for one of them starts for the other."""
    commands = []
    for role in ("worker", "controller"):
        text = (assets.playbooks() / f"roles/{role}/defaults/main.yml").read_text(encoding="utf-8")
        commands.append(yaml.safe_load(text)[f"streamswarm_{role}_bundle_command"])
    assert [*commands[0], "--part", "controller"] == commands[1]
