"""What the tags of the playbooks narrow a run down to. Needs no laboratory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from controller import assets

UNPACKED = "Check and unpack the bundle"
WRITTEN = "Configuration of the worker and certificates of the controller's CA"
WAITED = "Wait until the worker is connected"
LAID = "Release, service, folders and policy"


def _ansible(playbook: str, inventory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            *("-i", inventory, assets.playbooks() / playbook, *words),
        ],
        env={**os.environ, "LC_ALL": "C.UTF-8", "ANSIBLE_HOME": str(inventory.parent / "home")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """A controller, and a worker's host on which nothing of ours is."""
    said = {
        "python": "3.11.2",
        "architecture": "x86_64",
        "libc": "glibc-2.36",
        "clock_ahead_s": 0,
        "systemd": True,
        "releases": [],
        "account": None,
    }
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{json.dumps(said)}'\n")
    python.chmod(0o755)
    path = tmp_path / "hosts.ini"
    path.write_text(
        "[controller]\nc ansible_connection=local\n[workers]\n"
        f"w ansible_connection=local ansible_become=false streamswarm_worker_python={python}\n"
    )
    return path


def test_the_worker_has_the_tags_of_the_controller(inventory: Path) -> None:
    """`site.yml` narrows both down by the same words."""
    done = _ansible("site.yml", inventory, "--list-tags")
    found = [set(tags.split(", ")) for tags in re.findall(r"TASK TAGS: \[(.*)\]", done.stdout)]
    parts = {"always", "configure", "install"}
    assert found == [parts | {"proxy"}, {"always", "configure"}, parts], done.stdout + done.stderr


@pytest.mark.parametrize(
    ("tag", "run", "left"),
    [
        ("install", (UNPACKED, LAID, WAITED), (WRITTEN,)),
        ("configure", (LAID, WRITTEN, WAITED), (UNPACKED,)),
        ("proxy", (), (UNPACKED, LAID, WRITTEN, WAITED)),
    ],
)
def test_each_tag_has_its_tasks(
    inventory: Path, tag: str, run: tuple[str, ...], left: tuple[str, ...]
) -> None:
    """What runs by a tag, and what does not."""
    listed = _ansible("provision.yml", inventory, "--list-tasks", "--tags", tag).stdout
    assert "Ask the host's Python what it runs on" in listed
    for name in run:
        assert f" {name}\t" in listed, listed
    for name in left:
        assert f" {name}\t" not in listed, listed


@pytest.mark.parametrize("tag", ["install", "configure"])
def test_a_part_of_a_worker_that_is_not_there_is_refused(inventory: Path, tag: str) -> None:
    """Half a worker would be no use: nothing is built or changed."""
    done = _ansible("provision.yml", inventory, "--tags", tag)
    assert done.returncode == 2, done.stdout + done.stderr
    assert (
        f"The host has no worker yet, and --tags {tag} makes a part of one only" in done.stdout + done.stderr
    )


def test_parts_are_chosen_and_not_left_out(inventory: Path) -> None:
    """A task of two parts would be left out with either."""
    done = _ansible("provision.yml", inventory, "--skip-tags", "install")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Name the other part in --tags instead of --skip-tags" in done.stdout + done.stderr
