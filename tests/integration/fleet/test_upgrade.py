"""`streamswarm fleet upgrade` on real hosts that measure: what is wrong with a release stops it at the canary, the network does not."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
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

pytestmark = [pytest.mark.hosts, pytest.mark.namespaces, pytest.mark.timeout(900)]

#: The way to the far end, each way: well above what a busy machine adds.
NEAR_MS, FAR_MS = 10.0, 50.0
INTERVAL_S = 1
ON_NEW = "SELECT host_name FROM workers WHERE gateway_id IS NOT NULL AND version = '{}' ORDER BY host_name"


@pytest.fixture(scope="module")
def lab(lab_hosts: Callable[[int], Lab]) -> Lab:
    """A canary and two hosts to compare it with."""
    return lab_hosts(3)


@pytest.fixture(scope="module")
def far(lab: Lab) -> Iterator[FarEnd]:
    """What all hosts measure."""
    with far_end(lab, milliseconds=NEAR_MS) as end:
        yield end


@pytest.fixture(scope="module")
def measuring(
    controller: Any, lab: Lab, web: tuple[str, str], api: Client, far: FarEnd
) -> Iterator[tuple[str, str]]:
    """Three workers that ping the far end once a second, and have done so for a while; the controller's address and token."""
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
                        "spec": {"count": 2, "interval_ms": 200},
                        "destinations": [office["id"]],
                        "interval_s": INTERVAL_S,
                    },
                )
            # Every host has a baseline.
            controller.wait_for(
                "SELECT count(*) FROM (SELECT job_id FROM result_ping GROUP BY job_id HAVING count(*) >= 15) AS rich",
                [(3,)],
                seconds=120,
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
        *words: str,
        when: tuple[str, Callable[[], None]] | None = None,
    ) -> None:
        variables = folder / "variables.yml"
        variables.write_text(
            json.dumps(
                {
                    "streamswarm_worker_bundle": str(bundle.path),
                    "streamswarm_worker_trial_timeout": 30,
                    "streamswarm_worker_trial_settle": 1,
                }
            )
        )
        command = [Path(sys.executable).with_name("streamswarm"), "fleet", "upgrade", "--yes"]
        command += ["-i", controller.lab.inventory, "-e", str(variables), "--patience", "120", *words]
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
    ("word", "patches", "why"),
    [
        ("1.crashes", releases.CRASHES, "was taken back: it ended 2 times"),
        ("2.mute", releases.CANNOT_CONNECT, "was taken back: it is not connected"),
        ("3.slow", releases.SLOW_PING, "worse: ping, RTT average: "),
    ],
)
def test_a_bad_release_is_returned_at_the_canary(
    controller: Any,
    measuring: tuple[str, str],
    host_bundle: Bundle,
    tmp_path: Path,
    word: str,
    patches: releases.Patches,
    why: str,
) -> None:
    """It crashes, cannot connect, or measures too much: the report says which, and every host runs the release before."""
    bad = releases.changed_release(host_bundle, tmp_path, word, patches)
    run = Upgrade(controller, measuring, bad, tmp_path)
    assert run.code == 1, run.said
    assert why in run.said, run.said
    assert "Rolled back. Hosts that have the release now, of those that were to get it: none." in run.said
    assert "batch" not in run.said.partition("Rolled back")[0].partition("canary: host1\n")[2]
    everyone = [("host1",), ("host2",), ("host3",)]
    controller.wait_for(ON_NEW.format(host_bundle.version), everyone, seconds=60)


def test_a_network_that_changes_does_not_return_a_good_release(
    controller: Any, measuring: tuple[str, str], host_bundle: Bundle, far: FarEnd, tmp_path: Path
) -> None:
    """The way to the far end gets longer for all while the canary has just come back: the upgrade goes through all hosts."""
    good = releases.changed_release(host_bundle, tmp_path, "4.good")
    changing = ("connected again with the release", lambda: far.delay(FAR_MS))
    run = Upgrade(controller, measuring, good, tmp_path, "--batch", "2", when=changing)
    assert run.code == 0, run.said
    assert "canary: not worse: ping" in run.said
    assert "the network, not the release: ping, RTT average changed by +" in run.said, run.said
    controller.wait_for(ON_NEW.format(good.version), [("host1",), ("host2",), ("host3",)], seconds=60)
    [(doubled,)] = controller.rows(
        "SELECT count(*) - count(DISTINCT (job_id, scheduled_at)) FROM result_ping"
    )
    assert doubled == 0
    again = Upgrade(controller, measuring, good, tmp_path)
    assert again.code == 0
    assert "has the release already: host1, host2, host3" in again.said
