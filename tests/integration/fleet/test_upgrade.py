"""Upgrades of real hosts that measure, by the command and by a keeper: what is wrong with a release stops it at the canary, the network does not."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab.laboratory import Lab
from support import releases
from support.far import FarEnd, far_end

from controller.cli.client import Client
from controller.fleet import operations
from controller.fleet.bundles import Bundle
from controller.fleet.operations import PlaybookRequest
from controller.keeper import operating
from streamswarm.v1.probe_pb2 import STATUS_OK

pytestmark = [pytest.mark.hosts, pytest.mark.namespaces, pytest.mark.timeout(600)]

FOLDER = "/opt/streamswarm-worker"
#: The way to the far end, each way: well above what a busy machine adds.
NEAR_MS, FAR_MS = 10.0, 60.0
INTERVAL_S = 1
ON_RELEASE = (
    "SELECT host_name FROM workers WHERE gateway_id IS NOT NULL AND version = '{}' ORDER BY host_name"
)


@pytest.fixture(scope="module")
def lab(lab_hosts: Callable[[int], Lab]) -> Lab:
    """A canary and a host to compare it with."""
    return lab_hosts(2)


@pytest.fixture(scope="module")
def far(lab: Lab) -> Iterator[FarEnd]:
    """What both hosts measure."""
    with far_end(lab, milliseconds=NEAR_MS) as end:
        yield end


@pytest.fixture(scope="module")
def measuring(
    controller: Any, lab: Lab, web: tuple[str, str], api: Client, far: FarEnd
) -> Iterator[tuple[str, str]]:
    """Two workers that ping the far end once a second; the controller's address and token."""
    variables = {"streamswarm_worker_bundle": str(controller.bundle.path)}
    with tempfile.TemporaryFile() as log:
        keeper = lab.python(
            "-m",
            "controller.keeper",
            extra_environment=controller.settings.environment(),
            stdout=log,
            stderr=log,
        )
        try:
            with lab.inside():
                request = PlaybookRequest(inventories=(lab.inventory,), variables=variables)
                recap = operations.provision(request, grant_for=controller.grant_for)
                assert recap.succeeded, recap.hosts
                office = api.post("/destinations", {"name": "office", "address": far.address})
                api.post(
                    "/tests",
                    {
                        "name": "ping the office",
                        "kind": "ping",
                        "spec": {"count": 2, "interval_ms": 100},
                        "destinations": [office["id"]],
                        "interval_s": INTERVAL_S,
                    },
                )
            yield web
        finally:
            keeper.terminate()
            keeper.wait(timeout=30)


class Upgrade:
    """One call of the command: its exit code and what it said."""

    def __init__(
        self,
        controller: Any,
        web: tuple[str, str],
        bundle: Bundle,
        folder: Path,
        *,
        trial_s: int = 40,
        when: tuple[str, Callable[[], None]] | None = None,
    ) -> None:
        variables = folder / "variables.yml"
        variables.write_text(
            json.dumps(
                {
                    "streamswarm_worker_bundle": str(bundle.path),
                    "streamswarm_worker_trial_timeout": trial_s,
                    "streamswarm_worker_trial_settle": 1,
                }
            )
        )
        command = [Path(sys.executable).with_name("streamswarm"), "fleet", "upgrade", "--yes"]
        command += ["-i", controller.lab.inventory, "-e", str(variables), "--patience", "60"]
        process = controller.lab.popen(
            command,
            extra_environment={
                "STREAMSWARM_URL": web[0],
                "STREAMSWARM_TOKEN": web[1],
                "no_proxy": "*",
                "COLUMNS": "1000",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        lines = []
        with process:
            assert process.stdout is not None
            for raw in process.stdout:
                lines.append(raw.decode().rstrip())
                if when is not None and when[0] in lines[-1]:
                    when[1]()
                    when = None
        self.code = process.returncode
        self.said = "\n".join(lines)


@pytest.mark.parametrize(
    ("word", "patches", "trial_s", "why"),
    [
        ("1.crashes", releases.CRASHES, 40, "was taken back: it ended 2 times"),
        ("2.mute", releases.CANNOT_CONNECT, 12, "was taken back: it is not connected"),
    ],
)
def test_a_release_that_does_not_run_or_connect_is_returned_at_the_canary(
    controller: Any,
    lab: Lab,
    measuring: tuple[str, str],
    host_bundle: Bundle,
    tmp_path: Path,
    word: str,
    patches: releases.Patches,
    trial_s: int,
    why: str,
) -> None:
    """One clear line says what was wrong with it; the canary runs the release that it had, and nobody else was touched."""
    bad = releases.changed_release(host_bundle, tmp_path, word, patches)
    run = Upgrade(controller, measuring, bad, tmp_path, trial_s=trial_s)
    assert run.code == 1, run.said
    [line] = [line for line in run.said.splitlines() if why in line]
    assert line.startswith(f"canary: host1: the release {bad.version} ")
    assert f"The worker runs {host_bundle.version} again" in line
    assert "Rolled back. Hosts that have the release now, of those that were to get it: none." in run.said
    _only_the_canary_had_it(controller, lab, host_bundle, bad)


def test_a_release_that_measures_wrongly_is_returned_at_the_canary(
    controller: Any,
    lab: Lab,
    measuring: tuple[str, str],
    api: Client,
    host_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here a keeper does it. The log says which quantity it is, in numbers; the return is an operation, and says it too."""
    bad = releases.changed_release(host_bundle, tmp_path, "3.slow", releases.SLOW_PING)
    monkeypatch.setenv("STREAMSWARM_BUNDLE_DIR", str(bad.path.parent))
    settings = dataclasses.replace(controller.settings, inventory=(lab.inventory,))
    _wait_for_a_baseline(controller)
    with lab.inside():
        asked = api.post(
            "/operations", {"kind": "upgrade", "options": {"release": bad.version, "patience": 60}}
        )
        assert operating.operate(controller.engine, settings, asked["id"], threading.Event())
        back, judged, there = api.get("/operations", host="host1", limit=3)["items"]
        hosts = api.get(f"/operations/{there['id']}/hosts")["items"]
        log = [
            f"{event['task']} {event['message']}".strip()
            for event in api.items(f"/operations/{there['id']}/events")
            if not event["host"]
        ]
        [event, *_] = api.get(f"/operations/{back['id']}/events")["items"]
    assert (there["id"], there["state"]) == (asked["id"], "failed")
    assert there["error"] == "canary: what its hosts measure is worse with the release"
    assert any(line.startswith("canary: worse: ping, RTT average: ") for line in log), log
    assert "canary: returning host1 to the release before" in log
    assert [(host["host"], host["state"]) for host in hosts] == [("host1", "ok"), ("host2", "waiting")]
    assert (judged["kind"], judged["state"], judged["by_keeper"]) == ("judge", "failed", True)
    assert (back["kind"], back["state"], back["by_keeper"]) == ("rollback", "succeeded", True)
    assert (event["host"], event["task"]) == ("host1", f"Why {bad.version} is taken back")
    assert "worse: ping, RTT average: " in event["message"]
    _only_the_canary_had_it(controller, lab, host_bundle, bad)


def test_a_network_that_changes_does_not_return_a_good_release(
    controller: Any, measuring: tuple[str, str], host_bundle: Bundle, far: FarEnd, tmp_path: Path
) -> None:
    """The way to the far end gets longer for all while the canary has just come back: the upgrade goes through all hosts."""
    # Another try finds hosts that have the release of the one before.
    good = releases.changed_release(host_bundle, tmp_path, f"4.good.{time.time():.0f}")
    _wait_for_a_baseline(controller)
    changing = ("connected again with the release", lambda: far.delay(FAR_MS))
    try:
        run = Upgrade(controller, measuring, good, tmp_path, when=changing)
    finally:
        far.delay(NEAR_MS)
    assert run.code == 0, run.said
    assert "canary: not worse: ping" in run.said
    assert "the network, not the release: ping, RTT average changed by +" in run.said, run.said
    controller.wait_for(ON_RELEASE.format(good.version), [("host1",), ("host2",)], seconds=60)
    assert controller.rows("SELECT count(*) - count(DISTINCT (job_id, scheduled_at)) FROM result_ping") == [
        (0,)
    ]


def _wait_for_a_baseline(controller: Any) -> None:
    """Of the release that a host has now: a try before this one may have left another."""
    rich = (
        f"SELECT r.job_id FROM result_ping r JOIN jobs j ON j.id = r.job_id JOIN workers w ON w.id = j.worker_id "
        f"WHERE r.status = {STATUS_OK} AND r.scheduled_at >= w.connected_at GROUP BY r.job_id HAVING count(*) >= 10"
    )
    controller.wait_for(f"SELECT count(*) FROM ({rich}) AS rich", [(2,)], seconds=60)


def _only_the_canary_had_it(controller: Any, lab: Lab, before: Bundle, bad: Bundle) -> None:
    """Both hosts run the release before, nothing half-done lies about, and the bad one never came to the other host."""
    controller.wait_for(ON_RELEASE.format(before.version), [("host1",), ("host2",)], seconds=60)
    canary, other = lab.hosts
    assert canary.ssh("readlink", f"{FOLDER}/current") == f"releases/{before.version}\n"
    assert canary.ssh("ls", "-A", FOLDER).split() == ["current", "releases"]
    assert bad.version not in other.ssh("ls", f"{FOLDER}/releases")
