"""Upgrades of real hosts by the playbook alone: moved and watched, moved back, never without a release."""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab.errors import LabError
from lab.hosts import Host
from lab.laboratory import Lab
from support import releases

from controller.fleet import operations
from controller.fleet.bundles import Bundle
from controller.fleet.events import TaskEvent, TaskState
from controller.fleet.operations import PlaybookRequest, Recap

pytestmark = [pytest.mark.hosts, pytest.mark.namespaces, pytest.mark.timeout(600)]

FOLDER = "/opt/streamswarm-worker"
PLAYBOOKS = Path(__file__).parents[3] / "playbooks"
TRIAL = {"streamswarm_worker_trial_timeout": 60, "streamswarm_worker_trial_settle": 1}
MakeRelease = Callable[[str], Bundle]


class Upgrade:
    """One upgrade of host1, with all that it told."""

    def __init__(
        self, controller: Any, bundle: Bundle, *, variables: dict[str, Any] | None = None, **options: Any
    ) -> None:
        self.events: list[TaskEvent] = []
        variables = {"streamswarm_worker_bundle": str(bundle.path), **TRIAL, **(variables or {})}
        request = PlaybookRequest(
            inventories=(controller.lab.inventory,), limit="host1", variables=variables, **options
        )
        with controller.lab.inside():
            self.recap: Recap = operations.upgrade(request, on_event=self.events.append)

    @property
    def message(self) -> str:
        """Why it failed."""
        return "\n".join(host.message for host in self.recap.hosts)

    def changed(self) -> list[str]:
        """Return the tasks that changed something."""
        return [event.task for event in self.events if event.state is TaskState.CHANGED]


@pytest.fixture(scope="module")
def lab(lab_hosts: Callable[[int], Lab]) -> Lab:
    """One host for the module's tests."""
    return lab_hosts(1)


@pytest.fixture(scope="module")
def make_release(host_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> MakeRelease:
    """Make another release of the worker, or return the one of that name."""
    folder = tmp_path_factory.mktemp("releases")

    return functools.cache(functools.partial(releases.changed_release, host_bundle, folder))


@pytest.fixture(scope="module")
def host(controller: Any, lab: Lab, host_bundle: Bundle) -> Host:
    """host1 with a worker that is connected."""
    provision(controller, lab, host_bundle)
    return lab.hosts[0]


def provision(controller: Any, lab: Lab, bundle: Bundle) -> None:
    """Provision the host and wait until its worker is connected."""
    request = PlaybookRequest(
        inventories=(lab.inventory,), variables={"streamswarm_worker_bundle": str(bundle.path)}
    )
    with lab.inside():
        recap = operations.provision(request, grant_for=controller.grant_for)
    assert recap.succeeded, recap.hosts
    _wait_connected(controller, bundle)


def _wait_connected(controller: Any, bundle: Bundle) -> None:
    query = "SELECT version FROM workers WHERE gateway_id IS NOT NULL"
    controller.wait_for(query, [(bundle.version,)], seconds=30)


def _current(host: Host) -> str:
    return host.ssh("readlink", f"{FOLDER}/current").strip().removeprefix("releases/")


def test_check_and_upgrade_and_again_and_back(
    controller: Any, lab: Lab, host: Host, host_bundle: Bundle, make_release: MakeRelease
) -> None:
    """A check run says what would be done; the upgrade does it; a second run does nothing; rollback.yml undoes it."""
    good = make_release("1.good")
    announced = Upgrade(controller, good, check=True)
    assert announced.recap.succeeded, announced.message
    assert "Say which release the host goes to" in announced.changed()
    assert f"{host_bundle.version} → {good.version}" in announced.recap.hosts[0].notes
    assert _current(host) == host_bundle.version

    run = Upgrade(controller, good)
    assert run.recap.succeeded, run.message
    assert "Switch to the release" in run.changed()
    assert _current(host) == good.version
    _wait_connected(controller, good)
    again = Upgrade(controller, good)
    assert again.recap.succeeded, again.message
    assert again.changed() == []
    assert again.recap.hosts[0].notes == (f"has {good.version} already",)

    program = Path(sys.executable).with_name("ansible-playbook")
    command = [program, "-i", lab.inventory, PLAYBOOKS / "rollback.yml", "-e", json.dumps(TRIAL)]
    surroundings = {"ANSIBLE_SSH_CONTROL_PATH_DIR": str(lab.folder / "cp"), "ANSIBLE_NOCOLOR": "1"}
    other = [*command, "-e", f"streamswarm_worker_bad_release={host_bundle.version}"]
    assert "changed=0" in lab.exec(other, extra_environment=surroundings)
    assert "changed=0" in lab.exec([*other, "--check"], extra_environment=surroundings)
    said = lab.exec([*command, "--check"], extra_environment=surroundings)
    assert f"{good.version} → {host_bundle.version}" in said
    assert "changed=1" in said
    assert _current(host) == good.version
    assert "changed=1" in lab.exec(command, extra_environment=surroundings)
    assert _current(host) == host_bundle.version
    _wait_connected(controller, host_bundle)
    for again_back in (command, [*command, "--check"]):
        with pytest.raises(LabError, match="no release to go back to"):
            lab.exec(again_back, extra_environment=surroundings)


def test_a_drained_worker_is_returned_and_stays_drained(
    controller: Any, lab: Lab, host: Host, host_bundle: Bundle, make_release: MakeRelease
) -> None:
    """`rollback.yml` says so in one line, as its check run does; resumed, it runs the release before."""
    good = make_release("1.good")
    run = Upgrade(controller, good)
    assert run.recap.succeeded, run.message
    request = PlaybookRequest(inventories=(lab.inventory,), limit="host1", variables=TRIAL)
    with lab.inside():
        assert operations.drain(request, tell=lambda _: "").succeeded
        checked = dataclasses.replace(request, check=True)
        [announced] = operations.roll_back(checked, bad_release=good.version, why=()).hosts
        [back] = operations.roll_back(request, bad_release=good.version, why=()).hosts
    arrow = f"{good.version} → {host_bundle.version}. The worker stays stopped, as it was drained"
    assert announced.notes == (arrow,)
    assert back.notes == (
        f"The worker has its release {host_bundle.version} again and stays stopped, as it was drained",
    )
    state = host.ssh("systemctl show --property=ActiveState,UnitFileState --value streamswarm-worker")
    assert (state.split(), _current(host)) == (["inactive", "disabled"], host_bundle.version)
    with lab.inside():
        assert operations.resume(request, tell=lambda _: "").succeeded
    _wait_connected(controller, host_bundle)


def test_a_host_of_an_older_role_is_provisioned_once(
    controller: Any, lab: Lab, host: Host, host_bundle: Bundle, make_release: MakeRelease
) -> None:
    """Its service tells nothing of its connection, so that nothing could be watched: one line says what to do, and that does."""
    host.ssh("sed -i /NotifyAccess/d /etc/systemd/system/streamswarm-worker.service; systemctl daemon-reload")
    good = make_release("2.good")
    announced = Upgrade(controller, good, check=True)
    assert not announced.recap.succeeded
    assert announced.message.startswith("The host was provisioned by an older release")
    assert "streamswarm fleet provision --limit host1" in announced.message
    assert "\n" not in announced.message
    provision(controller, lab, host_bundle)
    announced = Upgrade(controller, good, check=True)
    assert announced.recap.succeeded, announced.message


def test_a_worker_that_is_not_well_is_not_upgraded(
    controller: Any, host: Host, host_bundle: Bundle, make_release: MakeRelease
) -> None:
    """With the gateway out of reach nothing is changed: a bad release could not be told from the network."""
    host.ssh("nft add table inet cut")
    host.ssh("nft add chain inet cut out '{ type filter hook output priority 0; }'")
    host.ssh("nft add rule inet cut out tcp dport 7443 drop")
    host.ssh("systemctl", "restart", "streamswarm-worker")
    try:
        impatient = {"streamswarm_worker_trial_timeout": 5}
        run = Upgrade(controller, make_release("2.good"), variables=impatient)
    finally:
        host.ssh("nft delete table inet cut")
    assert "nothing was changed: the worker is not well before the upgrade" in run.message
    assert _current(host) == host_bundle.version
    _wait_connected(controller, host_bundle)


@pytest.mark.parametrize(("moment", "word"), [("before", "2.good"), ("after", "1.good")])
def test_a_power_cut_in_the_middle_leaves_a_release(
    controller: Any, lab: Lab, host: Host, make_release: MakeRelease, moment: str, word: str
) -> None:
    """The host comes back on the old or the new release, its worker connects, and the next run completes the upgrade."""
    old = _current(host)
    good = make_release(word)
    installed = host.root / FOLDER[1:]
    run: list[Upgrade] = []
    upgrading = threading.Thread(target=lambda: run.append(Upgrade(controller, good)))
    upgrading.start()
    _wait_until(lambda: (installed / "switching").exists())
    if moment == "after":
        _wait_until(lambda: (installed / "current").readlink().name == good.version)
    lab.cut_power(host)
    upgrading.join()
    assert not run[0].recap.succeeded
    assert (installed / "switching").read_text() == old
    found = (installed / "current").readlink().name
    assert found == {"before": old, "after": good.version}[moment]
    lab.restore_power(host)
    assert _current(host) == found
    query = "SELECT version FROM workers WHERE gateway_id IS NOT NULL"
    controller.wait_for(query, [(found,)], seconds=30)
    completed = Upgrade(controller, good)
    assert completed.recap.succeeded, completed.message
    assert _current(host) == good.version
    assert host.ssh("readlink", f"{FOLDER}/previous") == f"releases/{old}\n"
    assert not (installed / "switching").exists()
    kept = host.ssh("ls", f"{FOLDER}/releases").split()
    assert len(kept) <= 3
    assert {old, good.version} <= set(kept)


def _wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not true():
        assert time.monotonic() < deadline, "the upgrade does not get that far"
        time.sleep(0.002)
