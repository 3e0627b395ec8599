"""The program that says what a host's Python runs on, and what of the worker is there."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[3] / "playbooks/roles/worker/files/describe_platform.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An installation with three releases, the last of which is not whole."""
    for release in ("1", "2", "3"):
        (tmp_path / "releases" / release).mkdir(parents=True)
    for release in ("1", "2"):
        (tmp_path / "releases" / release / "release.json").write_text("{}")
    return tmp_path


def _said(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, PROGRAM, "0", folder, "root"], capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout)
    assert isinstance(said, dict)
    return {name: said[name] for name in ("releases", "current", "previous", "cut_off", "switches")}


@pytest.mark.parametrize("ahead_s", [3600, 0, -3600])
def test_how_far_the_clock_is_ahead_is_told(ahead_s: int) -> None:
    """Positive where the host's clock is ahead of the controller's, negative where it is behind."""
    controllers = time.time() - ahead_s
    said = subprocess.run(
        [sys.executable, PROGRAM, str(controllers)], capture_output=True, text=True, check=True
    )
    # The program takes a while to start, and then finds its clock as much further ahead.
    assert 0 <= json.loads(said.stdout)["clock_ahead_s"] - ahead_s <= 1 + time.time() - ahead_s - controllers


def test_without_the_controllers_time_nothing_is_said_of_the_clock() -> None:
    """It could not be told."""
    said = subprocess.run([sys.executable, PROGRAM], capture_output=True, text=True, check=True)
    assert "clock_ahead_s" not in json.loads(said.stdout)


def test_a_host_without_a_worker_has_nothing(tmp_path: Path) -> None:
    """No folder is no fault."""
    nothing = {"releases": [], "current": "", "previous": "", "cut_off": None, "switches": False}
    assert _said(tmp_path / "none") == nothing


def test_releases_and_where_the_links_lead_are_told(folder: Path) -> None:
    """A link to a release that is not whole leads nowhere."""
    (folder / "current").symlink_to("releases/2")
    (folder / "previous").symlink_to("releases/3")
    told = {"releases": ["1", "2"], "current": "2", "previous": "", "cut_off": None, "switches": False}
    assert _said(folder) == told


def test_a_switch_that_was_cut_off_names_the_release_that_it_began_with(folder: Path) -> None:
    """That of one which is gone is empty, and yet it was cut off."""
    (folder / "switching").write_text("1")
    assert _said(folder)["cut_off"] == "1"
    (folder / "switching").write_text("3")
    assert _said(folder)["cut_off"] == ""


def test_a_switch_that_is_under_way_is_told(folder: Path) -> None:
    """By the lock that it holds."""
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert _said(folder)["switches"] is True
    os.close(handle)
    assert _said(folder)["switches"] is False
