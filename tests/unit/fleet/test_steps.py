"""The tasks that a host goes through in each playbook are those that Ansible names."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from controller import assets
from controller.fleet import steps

PLAYBOOKS = sorted(path.name for path in assets.playbooks().glob("*.yml"))
#: Ansible lists what has handlers run now, which is no task of a host, and of a block not what follows it in any case.
_HANDLERS = {"Restart what has changed", "Restart the proxy where it has changed"}
_ALWAYS = {"Whose folder it is", "Leave nothing"}


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Names of the tasks of each playbook as Ansible lists them, without the roles' names."""
    home = str(tmp_path_factory.mktemp("ansible"))
    said = subprocess.run(
        [assets.programs() / "ansible-playbook", "-i", "a,", "--list-tasks", *PLAYBOOKS],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=assets.playbooks(),
        env={"HOME": home, "ANSIBLE_HOME": home, "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    ).stdout
    found: dict[str, list[str]] = {}
    for line in said.splitlines():
        words = line.strip()
        if line.startswith("playbook: "):
            of_playbook = found[Path(line.removeprefix("playbook: ")).name] = []
        elif line.startswith("      "):
            of_playbook.append(words.split("\t")[0].split(" : ")[-1].split(" - ")[0])
    return found


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_as_ansible_lists_them(name: str, listed: dict[str, list[str]]) -> None:
    """Each playbook's, in its order."""
    playbook = assets.playbooks() / name
    ours = list(steps.names(playbook))
    told = [each for each in listed[name] if each not in _HANDLERS]
    assert [each for each in ours if each != steps.FACTS and each not in _ALWAYS] == told
    assert _ALWAYS.isdisjoint(ours) or name == "run.yml"
    assert steps.count(playbook) == len(ours) > 1


def test_what_follows_a_block_in_any_case_counts() -> None:
    """A run of jobs ends with two tasks that Ansible does not list."""
    assert list(steps.names(assets.playbooks() / "run.yml"))[-2:] == ["Whose folder it is", "Leave nothing"]
