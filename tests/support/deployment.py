"""A database and gateways as processes of their own, and workers made by the thousand: for benchmarks and soaks.

Workers do not enrol over the wire here: the certificates are issued by the installation's own authority and listed
in the database, which is what enrolment does as well.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from support.database import query
from support.surroundings import clean_environment, free_addresses, wait_for

from controller.gateway.authority import Authority
from controller.settings import Settings
from controller.store import partitions, schema
from controller.store.embedded import EmbeddedPostgres
from controller.store.engine import libpq_url, make_engine
from worker.identity import new_key, signing_request


@dataclass(frozen=True, kw_only=True)
class Member:
    """A worker as the gateways know it."""

    worker_id: uuid.UUID
    key_pem: bytes
    chain_pem: bytes
    ca_pem: bytes


class Deployment:
    """An installation in a folder of its own; made by `deployed`."""

    def __init__(self, folder: Path, server: EmbeddedPostgres) -> None:
        self.folder = folder
        self.server = server
        self.settings = Settings(
            database_url=server.url(), data_dir=folder / "data", gateway_name="gateway-1", log_level="warning"
        )
        self._gateways: list[subprocess.Popen[bytes]] = []

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows, if it has any."""
        return query(self.settings, statement, *values)

    def start_gateway(
        self, name: str = "gateway-1", *, address: str = ""
    ) -> tuple[subprocess.Popen[bytes], str]:
        """Start a gateway and wait until it listens; return the process and the address of its sessions."""
        sessions, enrolment = free_addresses(2)
        address = address or sessions
        settings = dataclasses.replace(
            self.settings, gateway_name=name, gateway_listen=address, enrolment_listen=enrolment
        )
        environment = clean_environment(**settings.environment())
        process = subprocess.Popen([sys.executable, "-m", "controller.gateway"], env=environment)
        self._gateways.append(process)

        def listens() -> bool:
            assert process.poll() is None, f"{name} ended with {process.returncode}"
            return bool(
                self.sql(
                    "SELECT 1 FROM processes WHERE role = 'gateway' AND pid = %s AND stopped_at IS NULL",
                    process.pid,
                )
            ) and _accepts(address)

        wait_for(f"{name} on {address}", listens, 30)
        return process, address

    def make_workers(self, count: int) -> list[Member]:
        """Make enrolled workers, each with a key and a listed certificate."""
        authority = Authority(self.settings)
        members, workers, certificates = [], [], []
        for number in range(count):
            worker_id = uuid.uuid4()
            key_pem = new_key()
            issued = authority.issue(signing_request(key_pem), worker_id)
            members.append(
                Member(
                    worker_id=worker_id,
                    key_pem=key_pem,
                    chain_pem=issued.chain_pem,
                    ca_pem=authority.bundle_pem,
                )
            )
            name = f"host-{number:05}-{worker_id.hex[:6]}"
            workers.append((worker_id, name, name, dt.datetime.now(dt.UTC)))
            certificates.append((issued.serial, worker_id, issued.not_before, issued.not_after))
        with psycopg.connect(libpq_url(self.settings)) as connection:
            _copy(connection, "workers (id, name, host_name, enrolled_at)", workers)
            _copy(connection, "certificates (serial, worker_id, not_before, not_after)", certificates)
        return members

    def make_jobs(
        self,
        workers: Sequence[uuid.UUID],
        *,
        tests: int,
        interval_s: float = 60.0,
        kind: str = "ping",
        spec: Mapping[str, Any] | None = None,
    ) -> dict[uuid.UUID, list[int]]:
        """Give each worker one job of each of so many new tests; return the job ids by worker."""
        with psycopg.connect(libpq_url(self.settings)) as connection:
            test_ids = [
                row[0]
                for row in connection.execute(
                    "INSERT INTO tests (name, kind, spec, interval_s) "
                    "SELECT 'test ' || gen_random_uuid(), %s, %s::jsonb, %s FROM generate_series(1, %s) RETURNING id",
                    (kind, json.dumps(spec or {}), interval_s, tests),
                )
            ]
            rows = connection.execute(
                "INSERT INTO jobs (test_id, worker_id, kind, target, spec, interval_us, anchor_us) "
                "SELECT t, w, %s, '127.0.0.1', %s::jsonb, %s, 0 "
                "FROM unnest(%s::uuid[]) AS w, unnest(%s::bigint[]) AS t RETURNING worker_id, id",
                (kind, json.dumps(spec or {}), int(interval_s * 1e6), list(workers), test_ids),
            ).fetchall()
            connection.execute(
                "UPDATE workers SET jobs_revision = jobs_revision + 1 WHERE id = ANY(%s)", (list(workers),)
            )
        jobs: dict[uuid.UUID, list[int]] = {worker_id: [] for worker_id in workers}
        for worker_id, job_id in rows:
            jobs[worker_id].append(job_id)
        return jobs

    def stop(self) -> None:
        """End the gateways that were started and live."""
        for process in self._gateways:
            if process.poll() is None:
                process.terminate()
        for process in self._gateways:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            if process.poll() is None:
                process.kill()
                process.wait()


@contextlib.contextmanager
def deployed() -> Iterator[Deployment]:
    """A fresh installation with a migrated database and partitions around today; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="streamswarm-deployment-"))
    folder.chmod(0o711)
    # PostgreSQL does not run as root; `nobody` has nothing that it could spoil.
    server = EmbeddedPostgres(folder / "postgres", user="nobody" if os.geteuid() == 0 else None)
    (folder / "postgres").mkdir(mode=0o711)
    try:
        server.start()
        deployment = Deployment(folder, server)
        try:
            engine = make_engine(deployment.settings, application="deployment")
            schema.upgrade_engine(engine)
            partitions.ensure_all(engine, partitions.days_around(dt.datetime.now(dt.UTC), ahead=2))
            engine.dispose()
            yield deployment
        finally:
            deployment.stop()
    finally:
        server.stop()
        shutil.rmtree(folder)


def _copy(connection: psycopg.Connection[Any], target: str, rows: Sequence[tuple[Any, ...]]) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY {target} FROM STDIN".encode()) as copy:
        for row in rows:
            copy.write_row(row)


def _accepts(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            return True
    except OSError:
        return False
