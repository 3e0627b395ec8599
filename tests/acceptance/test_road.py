"""The whole road with real parts: inventory → SSH → workers → a test made by REST → SQL → the page in a browser.

Three systemd hosts in network namespaces, provisioned by Ansible over SSH. Then a gateway and a worker are killed
under load, and what arrived is counted against what each worker had spooled.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from lab.fixtures import laboratory_possible
from lab.laboratory import Lab
from support.bundles import make_bundle
from support.newcomers import connect_embedded
from support.surroundings import clean_environment, wait_for

from streamswarm import contract

__all__ = ["laboratory_possible"]

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(600)]

HOSTS = 3


@dataclass
class Road:
    """A running installation with its hosts. Everything happens in the laboratory's controller namespace."""

    lab: Lab
    #: `streamswarm` of the checkout or of the wheel.
    program: Path
    environment: dict[str, str]
    data_dir: Path
    web: str
    token: str

    def streamswarm(self, *words: str, timeout: float = 300) -> str:
        """Run the command line; fails the test with what it printed when it fails."""
        done = subprocess.run(
            [self.program, *words], env=self.environment, capture_output=True, text=True, timeout=timeout
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout or done.stderr

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Call the REST API with the administrator's token."""
        reply = httpx.request(
            method,
            f"{self.web}/api/v1{path}",
            json=body,
            headers={"Authorization": f"Bearer {self.token}"},
            trust_env=False,
            timeout=30,
        )
        assert reply.is_success, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json() if reply.content else None

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database as anybody with the password does."""
        connection = connect_embedded(Path(sys.executable), self.data_dir)
        try:
            with connection.cursor() as cursor:
                cursor.execute(query, values)
                return cursor.fetchall()
        finally:
            connection.close()

    def workers(self) -> dict[str, dict[str, Any]]:
        """Workers by the name of their host."""
        return {worker["host_name"]: worker for worker in self.api("GET", "/workers")["items"]}

    def process(self, part: str) -> psutil.Process:
        """The controller's process whose command line has that part."""
        for process in psutil.process_iter():
            try:
                if part in " ".join(process.cmdline()) and process.environ().get(
                    "STREAMSWARM_DATA_DIR"
                ) == str(self.data_dir):
                    return process
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        raise AssertionError(f"no process `{part}` runs")


@pytest.fixture(scope="module", params=["checkout", "wheel"])
def program(request: pytest.FixtureRequest, laboratory_possible: None) -> Path:
    """The command line: of this checkout, and of the wheel in an environment of its own."""
    if request.param == "checkout":
        return Path(sys.prefix) / "bin" / "streamswarm"
    return Path(request.getfixturevalue("controller")) / "streamswarm"


@pytest.fixture(scope="module")
def lab(program: Path) -> Iterator[Lab]:
    """Three hosts for each of the two: the second would find what the first has left on them."""
    with Lab.boot(HOSTS) as booted:
        yield booted


@pytest.fixture(scope="module")
def road(program: Path, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """An installation that workers on three real hosts can reach, with nobody enrolled but its own worker."""
    home = tmp_path_factory.mktemp("road")
    data_dir = Path("/var/lib") / f"streamswarm-{lab.run}"
    environment = clean_environment(
        STREAMSWARM_DATA_DIR=str(data_dir),
        STREAMSWARM_GATEWAY_LISTEN="0.0.0.0:7443",
        STREAMSWARM_ENROLMENT_LISTEN="0.0.0.0:7444",
        STREAMSWARM_GATEWAY_ADDRESSES=f"{lab.address}:7443",
        STREAMSWARM_ENROLMENT_ADDRESS=f"{lab.address}:7444",
        STREAMSWARM_WEB_LISTEN="127.0.0.1:8080",
        STREAMSWARM_BUNDLE_DIR=str(home / "bundles"),
        HOME=str(home),
    )
    web = "http://127.0.0.1:8080"
    environment["STREAMSWARM_URL"] = web
    make_bundle(program, lab.hosts[0], environment)
    with lab.inside():
        made = Road(lab=lab, program=program, environment=environment, data_dir=data_dir, web=web, token="")
        try:
            made.streamswarm("up", "--detach")
            made.token = made.streamswarm("token", "create", "acceptance", "--scope", "admin").strip()
            environment["STREAMSWARM_TOKEN"] = made.token
            yield made
        finally:
            subprocess.run([program, "down"], env=environment, check=False, timeout=120)
            subprocess.run(["rm", "-rf", str(data_dir)], check=True)


@pytest.fixture(scope="module")
def provisioned(road: Road) -> str:
    """What the first provisioning printed."""
    return road.streamswarm("fleet", "provision", "--inventory", str(road.lab.inventory))


@pytest.fixture(scope="module")
def measured(road: Road, provisioned: str) -> int:
    """Id of a ping test from every host to the controller's address, made by REST."""
    destination = road.api("POST", "/destinations", {"name": "Controller", "address": road.lab.address})
    test = road.api(
        "POST", "/tests",
        {"name": "Road", "kind": "ping", "spec": {"count": 2, "interval_ms": 50}, "destinations": [destination["id"]], "interval_s": 2,
         "selection": {"groups": ["workers"]}},
    )  # fmt: skip
    return int(test["id"])


def test_provisioned_hosts_enrol_and_connect(road: Road, provisioned: str) -> None:
    """Each host of the inventory shows as a connected worker, of this version, with its groups."""
    names = {host.name for host in road.lab.hosts}
    wait_for(
        "all workers connected",
        lambda: all(road.workers().get(name, {}).get("state") == "connected" for name in names),
        30,
    )
    for name in names:
        assert road.workers()[name]["kinds"]["ping"]["available"], "CAP_NET_RAW must reach the daemon"


def test_the_worker_runs_without_rights(road: Road, provisioned: str) -> None:
    """Own account, one capability, files closed to others, no token left behind."""
    host = road.lab.hosts[0]
    pid = host.ssh("systemctl", "show", "-p", "MainPID", "--value", "streamswarm-worker").strip()
    status = host.ssh("cat", f"/proc/{pid}/status")
    uid = re.search(r"Uid:\s+(\d+)", status)
    capabilities = re.search(r"CapEff:\s+(\w+)", status)
    bounding = re.search(r"CapBnd:\s+(\w+)", status)
    assert uid is not None
    assert uid[1] != "0"
    assert capabilities is not None
    assert int(capabilities[1], 16) == 1 << 13, "CAP_NET_RAW and nothing else"
    assert bounding is not None
    assert int(bounding[1], 16) == 1 << 13
    assert "NoNewPrivs:\t1" in status


def test_the_second_provisioning_changes_nothing(road: Road, provisioned: str) -> None:
    """Nothing changed on any host, and no worker was restarted."""
    host = road.lab.hosts[0]
    before = host.ssh("systemctl", "show", "-p", "MainPID", "--value", "streamswarm-worker")
    again = road.streamswarm("fleet", "provision", "--inventory", str(road.lab.inventory))
    for name in (host.name for host in road.lab.hosts):
        assert re.search(rf"^\s*{name} +ready +0 +0\s*$", again, re.MULTILINE), again
    assert host.ssh("systemctl", "show", "-p", "MainPID", "--value", "streamswarm-worker") == before


def test_results_of_every_host_arrive(road: Road, measured: int) -> None:
    """Seen by SQL: rows of three workers, times as they must be on this network, on the schedule's grid."""
    query = (
        "SELECT w.host_name, count(*), min(r.rtt_min_ms), max(r.loss_pct), avg(r.kernel_timestamps::int), "
        "count(DISTINCT mod((extract(epoch FROM r.scheduled_at) * 1000000)::bigint - j.anchor_us, j.interval_us)) "
        "FROM result_ping r JOIN jobs j ON j.id = r.job_id JOIN workers w ON w.id = j.worker_id WHERE j.test_id = %s GROUP BY 1"
    )
    wait_for(
        "results of three workers", lambda: sum(row[1] >= 3 for row in road.sql(query, measured)) == HOSTS, 30
    )
    for _, runs, rtt_min_ms, loss_pct, kernel, phases in road.sql(query, measured):
        assert 0 < rtt_min_ms < 20
        assert loss_pct == 0
        # Each run says whether every stamp was the kernel's; a host that is held up for a moment may miss one.
        assert round(kernel * runs) >= runs - 1
        assert phases == 1, "every instant lies on its job's grid"


def test_rest_and_sql_agree(road: Road, measured: int) -> None:
    """The newest row by REST is the newest by SQL, number by number."""
    latest = road.api("GET", f"/tests/{measured}/results?limit=5")["items"]
    assert latest
    for item in latest:
        rows = road.sql(
            "SELECT rtt_avg_ms, status FROM result_ping WHERE job_id = %s AND scheduled_at = %s",
            item["job_id"],
            item["scheduled_at"],
        )
        assert rows == [(pytest.approx(item["metrics"]["rtt_avg_ms"]), 1)]


@pytest.mark.browser
def test_the_page_shows_results_arriving(road: Road, measured: int) -> None:
    """A real browser, logged in by the one-time link, sees the chart of this test grow without a reload."""
    link = road.streamswarm("user", "login-link", "admin").strip()
    script = Path(__file__).with_name("watch_page.py")
    done = subprocess.run(
        [sys.executable, str(script), link, f"{road.web}/tests/{measured}"],
        env=road.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout)
    assert len(set(seen["newest"])) == 3, seen["newest"]
    assert seen["reloads"] == 0
    assert seen["console_errors"] == []
    for host in road.lab.hosts:
        assert host.name in seen["text"]


LOAD_TESTS = 10
LOAD_INTERVAL_S = 1


# What is killed here is the same code in both, so once is enough; and in the checkout it is the code that is changed.
@pytest.mark.parametrize("program", ["checkout"], indirect=True, scope="module")
def test_kills_under_load_lose_and_duplicate_nothing(road: Road, measured: int) -> None:
    """Kill -9 of the gateway, a worker and both at once, again and again; then every spooled record is accounted for."""
    destination = road.api("GET", "/destinations")["items"][0]["id"]
    tests = [
        road.api(
            "POST", "/tests",
            {"name": f"Load {number}", "kind": "tcp", "spec": {"port": 22, "timeout_ms": 500}, "interval_s": LOAD_INTERVAL_S,
             "destinations": [destination], "selection": {"groups": ["workers"]}},
        )["id"]
        for number in range(LOAD_TESTS)
    ]  # fmt: skip
    wait_for("load under way", lambda: rows_of(road, tests) > 3 * LOAD_TESTS, 30)
    victims = road.lab.hosts[:2]
    for number in range(int(os.environ.get("ACCEPTANCE_KILLS", "6"))):
        if number % 3 != 1:
            road.process("controller.gateway").kill()
        if number % 3 != 0:
            victims[number % 2].ssh("systemctl", "kill", "-s", "KILL", "streamswarm-worker")
        time.sleep(3)
    for test in road.api("GET", "/tests")["items"]:
        road.api("POST", f"/tests/{test['id']}/pause")
    names = {host.name for host in road.lab.hosts}
    wait_for(
        "all workers back and paused",
        lambda: all(settled(road.workers().get(name, {})) for name in names),
        60,
    )
    wait_for("spools drained", lambda: all(spool(host)[1] == 0 for host in road.lab.hosts), 30)

    for host in road.lab.hosts:
        worker = road.workers()[host.name]["id"]
        spooled, waiting = spool(host)
        stored = sum(
            road.sql(
                f"SELECT count(*) FROM result_{kind} r JOIN jobs j ON j.id = r.job_id WHERE j.worker_id = %s",
                worker,
            )[0][0]
            for kind in contract.kinds()
        )
        assert waiting == 0
        assert road.sql("SELECT count(*), min(reason) FROM quarantine WHERE worker_id = %s", worker)[0] == (
            0,
            None,
        )
        assert stored == spooled > 5 * LOAD_TESTS, f"{host.name}: {spooled} spooled, {stored} stored"
    twice = road.sql("SELECT count(*) - count(DISTINCT (job_id, scheduled_at)) FROM result_tcp")
    assert twice == [(0,)]


def rows_of(road: Road, tests: list[int]) -> int:
    return int(
        road.sql(
            "SELECT count(*) FROM result_tcp r JOIN jobs j ON j.id = r.job_id WHERE j.test_id = ANY(%s)",
            tests,
        )[0][0]
    )


def settled(worker: dict[str, Any]) -> bool:
    return worker.get("state") == "connected" and worker["jobs_current"]


def spool(host: Any) -> tuple[int, int]:
    """Records that the worker has ever spooled, and those that wait: from the file itself, on the host."""
    code = (
        "import sqlite3; c = sqlite3.connect('file:/var/lib/streamswarm-worker/spool.sqlite?mode=ro', uri=True); "
        "print(*c.execute(\"SELECT seq FROM sqlite_sequence WHERE name = 'record'\").fetchone(), *c.execute('SELECT count(*) FROM record').fetchone())"
    )
    ever, waiting = host.ssh("python3", "-c", shlex.quote(code)).split()
    return int(ever), int(waiting)
