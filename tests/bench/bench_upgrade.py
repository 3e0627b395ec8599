"""A measured upgrade of eight hosts that measure one another, canary 1, batches of 4 (root).

Real systemd hosts, upgraded by `streamswarm fleet upgrade` over SSH to a release that differs in nothing but its version. Every
result that a worker spooled, by an account in the spool's own file, must be in the database, and once. Silent is
what lies between two runs of one job that follow each other; the peer is a plain `systemctl restart` of all workers, in the
same run. STREAMSWARM_BENCH_HOSTS shortens it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab.hosts import Host
from lab.laboratory import Lab
from sqlalchemy.orm import Session
from support import releases
from support.deployment import Deployment, deployed
from support.spools import Ledger
from support.surroundings import wait_for

from controller.cli.client import Client
from controller.fleet import operations
from controller.fleet.bundles import Bundle, ensure_bundle
from controller.fleet.desk import Grant
from controller.fleet.inventory import InventoryHost
from controller.fleet.operations import PlaybookRequest
from controller.fleet.platforms import Platform
from controller.settings import Settings
from controller.store.commands import tokens
from controller.store.commands.audit import SYSTEM
from controller.store.commands.enrolment import make_enrolment_token
from controller.store.engine import make_engine
from streamswarm.v1.probe_pb2 import STATUS_MISSED

#: Taken out: processes of ours that are started here refuse variables that they do not know.
HOSTS = int(os.environ.pop("STREAMSWARM_BENCH_HOSTS", "8"))
CANARY, BATCH = 1, 4
INTERVAL_S = 2
GOAL_S = 15.0
_DATA = "var/lib/streamswarm-worker"
_DESCRIBE = Path(__file__).parents[2] / "playbooks/roles/worker/files/describe_platform.py"
#: Runs of the same job that follow each other, and the seconds between them; what was told as missed is no run.
_GAPS = f"""
    SELECT extract(epoch FROM scheduled_at - lag(scheduled_at) OVER (PARTITION BY job_id ORDER BY scheduled_at))
    FROM result_ping WHERE status <> {STATUS_MISSED} AND scheduled_at >= %s
"""
#: Jobs that have run twice since.
_RUNNING = f"""
    SELECT count(*) FROM (
        SELECT job_id FROM result_ping WHERE status <> {STATUS_MISSED} AND scheduled_at > %s
        GROUP BY job_id HAVING count(*) >= 2
    ) AS running
"""


def measure() -> dict[str, Any]:
    """Provision, let them measure, restart for the peer's figure, upgrade, and count."""
    with deployed() as deployment, Lab.boot(HOSTS) as lab:
        settings = dataclasses.replace(
            deployment.settings,
            gateway_listen=f"{lab.address}:7443",
            enrolment_listen=f"{lab.address}:7444",
            web_listen=f"{lab.address}:8080",
        )
        bundle = _bundle(deployment.folder)
        with _processes(lab, settings, deployment), _client(settings, lab) as (client, token):
            _provision(lab, settings, bundle)
            ledgers = _keep_accounts(lab)
            _measure_one_another(lab, client)
            wait_for("a baseline", lambda: _rich(deployment), 120)
            peer_s = _restart(lab, deployment)
            new = releases.changed_release(bundle, deployment.folder, "new")
            began, started = dt.datetime.now(dt.UTC), time.monotonic()
            code, said = _upgrade(lab, deployment.folder, new, client.url, token)
            whole_s = time.monotonic() - started
            _wait_for_all_to_measure(deployment)
            silent_s = _longest_gap(deployment, began)
            for test in client.items("/tests"):
                client.post(f"/tests/{test['id']}/pause")
            wait_for("everything to be delivered", lambda: not any(each.waiting() for each in ledgers), 60)
            spooled: Counter[tuple[int, int]] = Counter()
            for ledger in ledgers:
                spooled.update(ledger.spooled())
            stored = Counter(
                {
                    (int(job), int(at)): int(count)
                    for job, at, count in deployment.sql(
                        "SELECT job_id, (extract(epoch FROM scheduled_at) * 1000000)::bigint, count(*) "
                        "FROM result_ping GROUP BY 1, 2"
                    )
                }
            )
            on_new = deployment.sql("SELECT count(*) FROM workers WHERE version = %s", new.version)[0][0]
    lost = len(spooled.keys() - stored.keys())
    # A run that was made twice is spooled twice; the database would keep one of them.
    doubled = sum(spooled.values()) - len(spooled) + sum(stored.values()) - len(stored)
    if code:
        print(said, file=sys.stderr)  # noqa: T201  why it did not go through
    return {
        "value": round(silent_s, 1),
        "unit": "s of silence of a job at the most",
        "peer": "systemctl restart of all workers",
        "peer_value": round(peer_s, 1),
        "ratio": round(silent_s / peer_s, 2),
        "goal": f"<= {GOAL_S:g} s, nothing lost or doubled, all hosts upgraded",
        "ok": code == 0 and on_new == HOSTS and silent_s <= GOAL_S and lost == doubled == 0,
        "whole_s": round(whole_s, 1),
        "hosts": HOSTS,
        "canary": CANARY,
        "batch": BATCH,
        "upgraded": on_new,
        "exit_code": code,
        "interval_s": INTERVAL_S,
        "results": len(spooled),
        "lost": lost,
        "doubled": doubled,
    }


def _bundle(folder: Path) -> Bundle:
    said = subprocess.run(["/usr/bin/python3", _DESCRIBE], capture_output=True, text=True, check=True).stdout
    return ensure_bundle(Platform.parse(**json.loads(said)), folder=folder / "bundles")


@contextlib.contextmanager
def _processes(lab: Lab, settings: Settings, deployment: Deployment) -> Iterator[None]:
    """Run gateway, keeper and web in the laboratory's network."""
    running = [
        lab.python("-m", module, extra_environment=settings.environment())
        for module in ("controller.gateway", "controller.keeper", "web")
    ]
    try:
        wait_for(
            "the controller's processes",
            lambda: (
                deployment.sql("SELECT count(DISTINCT role) FROM processes WHERE stopped_at IS NULL")[0][0]
                == 3
            ),
            60,
        )
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(timeout=30)


@contextlib.contextmanager
def _client(settings: Settings, lab: Lab) -> Iterator[tuple[Client, str]]:
    """Return a client of the API, within the laboratory's network, and its token."""
    engine = make_engine(settings, application="bench")
    with Session(engine) as session, session.begin():
        _, token = tokens.create(
            session, {"name": "bench", "scope": "admin"}, actor=SYSTEM, user_id=None, role="admin"
        )
    engine.dispose()
    client = Client(f"http://{lab.address}:8080", token, through_proxies=False)
    with lab.inside(), contextlib.closing(client):
        yield client, token


def _provision(lab: Lab, settings: Settings, bundle: Bundle) -> None:
    engine = make_engine(settings, application="bench")

    def grant_for(host: InventoryHost) -> Grant:
        with Session(engine) as session, session.begin():
            token = make_enrolment_token(session, host.name, minutes=15, site="", labels={}, groups=[])
        return Grant(
            token=token,
            ca_pem=(settings.data_dir / "ca" / "root.pem").read_text(),
            enrolment=settings.public_enrolment,
            gateways=settings.public_gateways,
        )

    request = PlaybookRequest(
        inventories=(lab.inventory,), variables={"streamswarm_worker_bundle": str(bundle.path)}
    )
    recap = operations.provision(request, grant_for=grant_for)
    engine.dispose()
    assert recap.succeeded, recap.hosts


def _keep_accounts(lab: Lab) -> list[Ledger]:
    """Have every spool keep account of what was ever in it."""

    def keep(host: Host) -> Ledger:
        host.ssh("systemctl", "stop", "streamswarm-worker")
        path = host.root / _DATA / "spool.sqlite"
        owner = path.parent.stat()
        ledger = Ledger.begin(path)
        for file in path.parent.glob("spool.sqlite*"):
            shutil.chown(file, owner.st_uid, owner.st_gid)
        host.ssh("systemctl", "start", "streamswarm-worker")
        return ledger

    return [keep(host) for host in lab.hosts]


def _measure_one_another(lab: Lab, client: Client) -> None:
    """Let every host ping all of them."""
    destinations = [
        client.post("/destinations", {"name": host.name, "address": host.address})["id"] for host in lab.hosts
    ]
    client.post(
        "/tests",
        {
            "name": "ping one another",
            "kind": "ping",
            "spec": {"count": 3, "interval_ms": 100},
            "destinations": destinations,
            "interval_s": INTERVAL_S,
        },
    )


def _rich(deployment: Deployment) -> bool:
    found = deployment.sql(
        "SELECT count(*) FROM (SELECT job_id FROM result_ping GROUP BY job_id HAVING count(*) >= 15) AS rich"
    )
    return bool(found[0][0] == HOSTS * HOSTS)


def _restart(lab: Lab, deployment: Deployment) -> float:
    """Restart all workers at once; returns the longest silence of a job, seconds."""
    began = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=2 * INTERVAL_S)
    with ThreadPoolExecutor(HOSTS) as pool:
        list(pool.map(lambda host: host.ssh("systemctl", "restart", "streamswarm-worker"), lab.hosts))
    _wait_for_all_to_measure(deployment)
    return _longest_gap(deployment, began)


def _wait_for_all_to_measure(deployment: Deployment) -> None:
    """Wait until every job has run, twice, after now."""
    now = dt.datetime.now(dt.UTC)
    wait_for(
        "every job to run again",
        lambda: deployment.sql(_RUNNING, now)[0][0] == HOSTS * HOSTS,
        120,
    )


def _longest_gap(deployment: Deployment, began: dt.datetime) -> float:
    return max(float(row[0]) for row in deployment.sql(_GAPS, began) if row[0] is not None)


def _upgrade(lab: Lab, folder: Path, bundle: Bundle, url: str, token: str) -> tuple[int, str]:
    """Run the command; returns its exit code and what it said."""
    variables = folder / "variables.yml"
    variables.write_text(json.dumps({"streamswarm_worker_bundle": str(bundle.path)}))
    program = Path(sys.executable).with_name("streamswarm")
    command = [program, "fleet", "upgrade", "--yes", "--canary", str(CANARY), "--batch", str(BATCH)]
    command += ["-i", lab.inventory, "-e", str(variables), "--patience", "120"]
    with tempfile.TemporaryFile() as said:
        process = lab.popen(
            command,
            extra_environment={"STREAMSWARM_URL": url, "STREAMSWARM_TOKEN": token, "no_proxy": "*"},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
        code = process.wait(timeout=1200)
        said.seek(0)
        return code, said.read().decode()
