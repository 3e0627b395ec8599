"""What fails for one platform, or for all hosts at once, told of each host that it is about and of no other. Needs no laboratory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from controller import assets
from controller.errors import StreamSwarmError
from controller.fleet import operations
from controller.fleet.desk import Grant, Reach
from controller.fleet.inventory import InventoryHost
from controller.fleet.operations import PlaybookRequest

_BUILDER = """#!/bin/sh
echo "$*" >> {log}
case "$*" in *riscv64*) echo "Error: there are no wheels for riscv64" >&2; exit 1;; esac
echo '{{"path": "{path}", "python": "3.11.2", "architecture": "x86_64", "libc": "glibc-2.36", "version": "1.0", "sha256": "00"}}'
"""


def _program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """Three hosts, all of them this machine; the first says that it is of a platform for which nothing can be built."""
    lines = ["[workers]"]
    for host, architecture in (("a", "riscv64"), ("b", "x86_64"), ("c", "x86_64")):
        said = {
            "python": "3.11.2",
            "architecture": architecture,
            "libc": "glibc-2.36",
            "clock_ahead_s": 0,
            "systemd": True,
            "releases": [],
            "account": None,
        }
        python = _program(tmp_path / f"python-{host}", f"#!/bin/sh\necho '{json.dumps(said)}'\n")
        lines.append(f"{host} ansible_connection=local streamswarm_worker_python={python}")
    text = _BUILDER.format(log=tmp_path / "built", path=tmp_path / "bundle.tar.gz")
    builder = _program(tmp_path / "builder", text)
    lines += [
        "[workers:vars]",
        "ansible_become=false",
        f"ansible_python_interpreter={sys.executable}",
        f"streamswarm_worker_install_dir={tmp_path / 'opt'}",
        f"streamswarm_worker_bundle_command={json.dumps([str(builder)])}",
    ]
    path = tmp_path / "hosts.ini"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_platform_without_a_bundle_fails_its_own_hosts(inventory: Path, tmp_path: Path) -> None:
    """The others come to where they would without it, in a check run as well, after one build of each platform."""
    recap = operations.upgrade(PlaybookRequest(inventories=(inventory,), check=True))
    provision = "The host has no worker that could be upgraded. Provision it."
    assert {host.host: host.message for host in recap.hosts} == {
        "a": "Error: there are no wheels for riscv64",
        "b": provision,
        "c": provision,
    }
    assert not any(host.succeeded for host in recap.hosts)
    assert len((tmp_path / "built").read_text().splitlines()) == 2


def test_a_batch_that_ends_before_its_time_is_no_success(inventory: Path) -> None:
    """An upgrade by the playbook stops where a host fails; the hosts that were well until then have not got it."""
    recap = operations.upgrade(PlaybookRequest(inventories=(inventory,)))
    said = {host.host: (host.succeeded, host.message.split(",")[0]) for host in recap.hosts}
    ended = (False, "it did not come to the end")
    assert said == {"a": (False, "Error: there are no wheels for riscv64"), "b": ended, "c": ended}


def test_a_controller_that_refuses_is_told_of_every_host(inventory: Path, tmp_path: Path) -> None:
    """Ansible hides the task that asks, and its reason with it; the reason holds no secret."""
    (tmp_path / "bundle.tar.gz").touch()

    def refuse() -> Reach:
        raise StreamSwarmError("403 the token may not ask for that")

    def grant_for(host: InventoryHost) -> Grant:
        raise AssertionError(host)

    recap = operations.provision(
        PlaybookRequest(inventories=(inventory,), check=True), grant_for=grant_for, ask_reach=refuse
    )
    said = {host.host: host.message for host in recap.hosts}
    assert not any(host.succeeded for host in recap.hosts)
    for host in "bc":
        assert said[host].startswith("No addresses for ")
        assert "403 the token may not ask for that" in said[host]


@pytest.mark.parametrize(
    ("tasks", "said"),
    [("describe", "The controller was not brought"), ("retire", "The worker is off the host, and")],
)
def test_plain_playbooks_tell_why_the_controller_was_not_told(
    inventory: Path, tmp_path: Path, tasks: str, said: str
) -> None:
    """The request, which holds the API token, stays hidden."""
    role = {"name": str(assets.playbooks() / "roles/worker"), "tasks_from": tasks}
    play = {"hosts": "b", "gather_facts": False, "tasks": [{"ansible.builtin.import_role": role}]}
    done = _refused(tmp_path, inventory, play)
    [line] = [line for line in done.stdout.splitlines() if said in line and "fatal" in line]
    assert "Connection refused" in line
    assert "ssw_secret" not in done.stdout + done.stderr


def test_a_removal_asks_also_where_the_first_host_is_kept_at_the_controller(tmp_path: Path) -> None:
    """Whether the controller is asked first must not hang on the host that happens to be the first."""
    inventory = tmp_path / "hosts.ini"
    inventory.write_text(
        "[workers]\nb ansible_connection=local streamswarm_worker_retire=keep\nc ansible_connection=local\n"
    )
    role = {"name": str(assets.playbooks() / "roles/worker"), "tasks_from": "may_retire"}
    remove = {"name": "Remove", "ansible.builtin.debug": {"msg": "the host loses its worker"}}
    tasks = [{"ansible.builtin.import_role": role}, remove]
    done = _refused(tmp_path, inventory, {"hosts": "workers", "gather_facts": False, "tasks": tasks})
    assert "Nothing was changed" in done.stdout + done.stderr
    assert "loses its worker" not in done.stdout


def _refused(folder: Path, inventory: Path, play: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run a play while nothing listens where the controller should be; it fails, and what it said is returned."""
    playbook = folder / "play.yml"
    playbook.write_text(json.dumps([play]))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", inventory, playbook],
        env={
            **os.environ,
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_HOME": str(folder / "home"),
            "STREAMSWARM_URL": "http://127.0.0.1:9",
            "STREAMSWARM_TOKEN": "ssw_secret",
            "no_proxy": "*",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    return done
