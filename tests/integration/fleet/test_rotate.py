"""Certificates, the root and a revocation on live hosts that measure: nothing is lost, and what is wrong is said."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from cryptography import x509
from lab.errors import LabError
from lab.hosts import Host
from lab.laboratory import Lab
from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.cli.client import Client
from controller.fleet import operations
from controller.fleet.api import workers_of
from controller.fleet.operations import PlaybookRequest
from controller.fleet.rotating import rotate_root
from controller.gateway import rotation
from controller.store.entities import Job, Test, Worker

pytestmark = [pytest.mark.hosts, pytest.mark.namespaces, pytest.mark.timeout(600)]

UNIT = "streamswarm-worker.service"
IDENTITY = "/var/lib/streamswarm-worker/identity/identity.json"
DOCTOR = "/usr/bin/python3 /opt/streamswarm-worker/current/bin/streamswarm-worker doctor --json"
BOTH = "SELECT count(*) FROM workers WHERE gateway_id IS NOT NULL"


@pytest.fixture(scope="module")
def request_(controller: Any, lab: Lab) -> PlaybookRequest:
    """Both hosts, with the bundle that lies ready."""
    variables = {"streamswarm_worker_bundle": str(controller.bundle.path)}
    return PlaybookRequest(inventories=(lab.inventory,), variables=variables)


@pytest.fixture(scope="module")
def hosts(controller: Any, lab: Lab, request_: PlaybookRequest) -> tuple[Host, ...]:
    """Both hosts with workers that measure five times a second."""
    with lab.inside():
        recap = operations.provision(request_, grant_for=controller.grant_for, ask_reach=controller.reach)
    assert recap.succeeded, recap.hosts
    controller.wait_for(BOTH, [(2,)], seconds=60)
    with Session(controller.engine) as session, session.begin():
        test = Test(name="gateway", kind="tcp", spec={}, interval_s=1)
        session.add(test)
        session.flush()
        for worker in session.scalars(select(Worker)):
            worker.jobs_revision += 1
            job = Job(
                test_id=test.id, worker_id=worker.id, kind="tcp", spec={}, interval_us=200_000, anchor_us=0
            )
            job.target = controller.settings.gateway_listen
            session.add(job)
    controller.wait_for("SELECT count(DISTINCT job_id) FROM result_tcp", [(2,)], seconds=60)
    return lab.hosts


def _serials(hosts: tuple[Host, ...]) -> list[int]:
    chains = [json.loads((host.root / IDENTITY[1:]).read_text())["chain"] for host in hosts]
    return [x509.load_pem_x509_certificates(chain.encode())[0].serial_number for chain in chains]


def _all_is_stored_once(controller: Any) -> None:
    """What the workers have numbered, up to their watermarks, is what the tables hold."""
    [(acked,)] = controller.rows("SELECT sum(acked_seq) FROM workers")
    [(stored,)] = controller.rows("SELECT count(*) FROM result_tcp")
    deadline = time.monotonic() + 20
    while stored != acked:
        assert time.monotonic() < deadline, (stored, acked)
        # One statement, so that both are of the same instant.
        [(stored, acked)] = controller.rows(
            "SELECT (SELECT count(*) FROM result_tcp), (SELECT sum(acked_seq) FROM workers)"
        )
    assert controller.rows("SELECT count(*) FROM quarantine") == [(0,)]


def test_the_root_is_replaced_under_live_hosts(
    controller: Any, lab: Lab, hosts: tuple[Host, ...], request_: PlaybookRequest
) -> None:
    """Three steps and two renewals on every host; no worker restarts, no run is missed, nothing is stored twice."""
    before = _serials(hosts)
    processes = [host.ssh("systemctl", "show", "--property=MainPID", UNIT) for host in hosts]
    first = (controller.settings.data_dir / "ca" / "root.pem").read_bytes()

    def step() -> rotation.Stage:
        with Session(controller.engine) as session:
            return rotation.advance(session, controller.settings)

    with lab.inside():
        recap = rotate_root(
            at=rotation.stage(controller.settings),
            step=step,
            renew=lambda: operations.rotate(request_),
            cancelled=lambda: False,
        )
    assert recap.succeeded, recap.hosts
    assert not set(_serials(hosts)) & set(before)
    assert [host.ssh("systemctl", "show", "--property=MainPID", UNIT) for host in hosts] == processes
    assert (controller.settings.data_dir / "ca" / "root.pem").read_bytes() != first
    assert rotation.stage(controller.settings) is rotation.Stage.SINGLE
    # With the old root gone, new connections still come about.
    for host in hosts:
        host.ssh("systemctl", "restart", UNIT)
    controller.wait_for(f"{BOTH} AND connected_at > now() - interval '60 s'", [(2,)], seconds=60)
    _all_is_stored_once(controller)


def test_a_check_run_renews_nothing(
    controller: Any, lab: Lab, hosts: tuple[Host, ...], request_: PlaybookRequest
) -> None:
    """`--check` passes and leaves key and certificate as they are."""
    before = _serials(hosts)
    with lab.inside():
        recap = operations.rotate(
            PlaybookRequest(inventories=request_.inventories, variables=request_.variables, check=True)
        )
    assert recap.succeeded, recap.hosts
    assert _serials(hosts) == before


def test_a_revoked_worker_says_so_and_the_doctor_names_it(
    controller: Any, lab: Lab, api: Client, hosts: tuple[Host, ...], request_: PlaybookRequest
) -> None:
    """Its stream ends within seconds, its journal and the doctor say why, a renewal is refused; enrolled anew it is well."""
    host = hosts[0]
    with lab.inside():
        [worker] = workers_of(api, "host1")
        api.post(f"/workers/{worker['id']}/revoke")
    query = "SELECT count(*) FROM workers WHERE gateway_id IS NOT NULL AND host_name = 'host1'"
    controller.wait_for(query, [(0,)], seconds=15)
    deadline = time.monotonic() + 15
    while "the controller refuses this worker" not in host.ssh("journalctl", "-u", UNIT, "-o", "cat"):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    named = {each["check"]: each for each in json.loads(host.ssh(f"{DOCTOR}; true"))["findings"]}
    assert named["controller"]["verdict"] == "wrong"
    assert "revoked" in named["controller"]["found"]
    with pytest.raises(LabError):
        host.ssh(DOCTOR)
    again = {**request_.variables, "streamswarm_worker_enrol_again": True}
    with lab.inside():
        recap = operations.provision(
            PlaybookRequest(inventories=request_.inventories, limit="host1", variables=again),
            grant_for=controller.grant_for,
            ask_reach=controller.reach,
        )
    assert recap.succeeded, recap.hosts
    controller.wait_for(query, [(1,)], seconds=30)
    checks = {each["check"] for each in json.loads(host.ssh(f"{DOCTOR}; true"))["findings"]}
    assert "controller" not in checks
