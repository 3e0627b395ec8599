"""Fixtures of the fleet's tests: real hosts from the laboratory, a real gateway beside them."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from lab.fixtures import lab_hosts, laboratory_possible
from lab.laboratory import Lab
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from controller.cli.client import Client
from controller.fleet.bundles import Bundle, ensure_bundle
from controller.fleet.desk import Grant, Reach
from controller.fleet.inventory import InventoryHost
from controller.fleet.platforms import Platform
from controller.settings import Settings
from controller.store.commands import tokens
from controller.store.commands.audit import SYSTEM
from controller.store.commands.enrolment import make_enrolment_token
from controller.store.embedded import EmbeddedPostgres
from controller.store.embedded.roles import ROLE
from controller.store.engine import make_engine

__all__ = ["lab_hosts", "laboratory_possible"]


@pytest.fixture(scope="session")
def host_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle for this machine's own system, which the laboratory's hosts have too, in a folder of this process's own.

    Test processes that run beside one another build it once.
    """
    program = Path(__file__).parents[3] / "playbooks/roles/worker/files/describe_platform.py"
    said = subprocess.run(["/usr/bin/python3", program], capture_output=True, text=True, check=True).stdout
    platform = Platform.parse(**json.loads(said))
    own = tmp_path_factory.mktemp("fleet") / "bundles"
    own.mkdir(mode=0o700)
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    built = ensure_bundle(platform, folder=shared / "bundles")
    bundle = dataclasses.replace(built, path=Path(shutil.copy(built.path, own)))
    described = json.dumps(bundle.description(), indent=2) + "\n"
    bundle.path.with_name(f"{bundle.path.name}.json").write_text(described, encoding="utf-8")
    return bundle


@pytest.fixture(scope="module")
def lab(lab_hosts: Callable[[int], Lab]) -> Lab:
    """Two hosts for the module's tests."""
    return lab_hosts(2)


class Controller:
    """A database and a gateway in the laboratory's network, and the tokens made for its hosts."""

    def __init__(self, settings: Settings, engine: Engine, lab: Lab, bundle: Bundle) -> None:
        self.settings = settings
        self.engine = engine
        self.lab = lab
        self.bundle = bundle
        #: Every grant, in order: host and token.
        self.granted: list[tuple[str, str]] = []

    def grant_for(self, host: InventoryHost) -> Grant:
        """Make a token, as the REST API does."""
        with Session(self.engine) as session, session.begin():
            token = make_enrolment_token(
                session, host.name, minutes=15, site=host.site, labels=host.labels, groups=host.groups
            )
        self.granted.append((host.name, token))
        return Grant(
            token=token,
            ca_pem=(self.settings.data_dir / "ca" / "root.pem").read_text(),
            enrolment=self.settings.public_enrolment,
            gateways=self.settings.public_gateways,
        )

    def reach(self) -> Reach:
        """Tell how workers reach the gateway, as the REST API does."""
        return Reach(
            ca_pem=(self.settings.data_dir / "ca" / "root.pem").read_text(),
            enrolment=self.settings.public_enrolment,
            gateways=self.settings.public_gateways,
        )

    def wait_until_listening(self, port: int, process: subprocess.Popen[bytes]) -> None:
        """Wait until a process of the controller's listens on a port; fails when it ends before."""
        _wait_for_listener(self.lab, port, process)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Return what the database says."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def wait_for(self, query: str, expected: list[tuple[object, ...]], *, seconds: float = 20) -> None:
        """Wait until the database says what is expected; fails with what it said instead."""
        deadline = time.monotonic() + seconds
        while (said := self.rows(query)) != expected:
            assert time.monotonic() < deadline, f"{query}: {said}"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def controller(
    lab: Lab,
    host_bundle: Bundle,
    embedded_postgres: EmbeddedPostgres,
    postgres_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Controller]:
    """A gateway that the hosts reach, with a database of its own."""
    name = f"fleet_{secrets.token_hex(4)}"
    with psycopg.connect(embedded_postgres.superuser_url(), autocommit=True) as connection:
        connection.execute(
            f'CREATE DATABASE "{name}" OWNER "{ROLE}" TEMPLATE "{postgres_template}" STRATEGY file_copy'
        )
    settings = Settings(
        database_url=embedded_postgres.url(name),
        # Here the role finds the bundle that lies ready: inside the laboratory nothing can be downloaded.
        data_dir=host_bundle.path.parent.parent,
        gateway_listen=f"{lab.address}:7443",
        enrolment_listen=f"{lab.address}:7444",
    )
    engine = make_engine(settings, application="test")
    with tempfile.TemporaryFile() as log:
        gateway = lab.python(
            "-m", "controller.gateway", extra_environment=settings.environment(), stdout=log, stderr=log
        )
        try:
            _wait_for_listener(lab, 7444, gateway)
            yield Controller(settings, engine, lab, host_bundle)
        finally:
            gateway.terminate()
            gateway.wait(timeout=30)
            engine.dispose()
            log.seek(0)
            print(log.read().decode())  # noqa: T201  shown beside a failing test


@pytest.fixture(scope="module")
def web(controller: Controller, lab: Lab) -> Iterator[tuple[str, str]]:
    """A web process in the laboratory's network: its address, and an administrator's token."""
    settings = dataclasses.replace(controller.settings, web_listen=f"{lab.address}:8080")
    with Session(controller.engine) as session, session.begin():
        _, token = tokens.create(
            session, {"name": "fleet", "scope": "admin"}, actor=SYSTEM, user_id=None, role="admin"
        )
    with tempfile.TemporaryFile() as log:
        process = lab.python("-m", "web", extra_environment=settings.environment(), stdout=log, stderr=log)
        try:
            controller.wait_until_listening(8080, process)
            yield f"http://{lab.address}:8080", token
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture(scope="module")
def api(web: tuple[str, str]) -> Iterator[Client]:
    """A client of it."""
    client = Client(*web, through_proxies=False)
    yield client
    client.close()


def _wait_for_listener(lab: Lab, port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    with lab.inside():
        while True:
            assert process.poll() is None, "the process ended"
            try:
                socket.create_connection((lab.address, port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, f"nothing listens on port {port}"
                time.sleep(0.1)
