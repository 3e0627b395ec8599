"""A whole installation as processes that can be killed: PostgreSQL, gateways, a keeper, the dashboard, workers.

Everything listens on loopback and keeps its files in one folder. A part that was killed is started again by whoever
killed it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import yaml
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session
from support.database import query
from support.spools import Ledger
from support.surroundings import clean_environment, free_addresses

from controller.gateway.authority import Authority
from controller.settings import Settings
from controller.store import partitions, schema
from controller.store.commands import destinations, tests
from controller.store.commands.audit import SYSTEM
from controller.store.commands.enrolment import make_enrolment_token
from controller.store.embedded import EmbeddedPostgres
from controller.store.engine import make_engine
from controller.store.entities import Test
from worker.identity import Identity, make_identity, new_key, signing_request

_END_S = 30.0
_RESTART_S = 0.5


class Part:
    """One process of the installation. Once started it is started again whenever it has ended, as systemd does."""

    def __init__(self, name: str, command: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        #: How often it has ended by itself.
        self.failures = 0
        self._command = [sys.executable, *command]
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        #: Held by whoever starts or ends it.
        self._held = threading.Lock()
        self._wanted = False

    @property
    def process(self) -> psutil.Process:
        """The process as it runs now."""
        assert self._process is not None, f"{self.name} was never started"
        return psutil.Process(self._process.pid)

    def start(self) -> None:
        """Start it; it says what it says into its log."""
        with self._held:
            self._wanted = True
            self._launch()

    def kill(self) -> None:
        """End it as the kernel does, until it is started again."""
        with self._held:
            self._wanted = False
            if self._process is not None:
                self._process.kill()
                self._process.wait(_END_S)

    def stop(self) -> None:
        """Ask it to end, and insist."""
        with self._held:
            self._wanted = False
            if self._process is None or self._process.poll() is not None:
                return
            self._process.terminate()
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(_END_S)

    def look_after(self) -> None:
        """Start it again if it has ended by itself: one that finds no database at its start does."""
        with self._held:
            if self._wanted and self._process is not None and self._process.poll() is not None:
                self.failures += 1
                self._launch()

    def said(self) -> str:
        """Everything that it has said, in all its lives."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def _launch(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )


class WorkerPart(Part):
    """One worker's daemon, with the account of what it has spooled."""

    def __init__(self, name: str, folder: Path, log: Path) -> None:
        self.folder = folder
        self.ledger = Ledger.begin(folder / "data" / "spool.sqlite")
        super().__init__(
            name, ["-m", "worker", "run", "--config", str(folder / "worker.yaml")], clean_environment(), log
        )


class Installation:
    """The parts, and ways to look at what they have done. Made by `installation`."""

    def __init__(self, folder: Path, *, gateways: int) -> None:
        self.folder = folder
        self.postgres = EmbeddedPostgres(folder / "database", user="nobody" if os.geteuid() == 0 else None)
        url = self.postgres.start()
        addresses = free_addresses(2 * gateways + 1)
        self.settings = Settings(
            database_url=url,
            data_dir=folder / "controller",
            gateway_name="gateway-0",
            gateway_addresses=tuple(addresses[:gateways]),
            enrolment_address=addresses[gateways],
            web_listen=addresses[-1],
        )
        self.authority = Authority(self.settings)
        self.engine: Engine = make_engine(self.settings, application="test")
        schema.upgrade_engine(self.engine)
        partitions.ensure_all(self.engine, partitions.days_around(dt.datetime.now(dt.UTC), ahead=1))
        self.gateways = [
            self._part(
                f"gateway-{number}",
                "controller.gateway",
                gateway_name=f"gateway-{number}",
                gateway_listen=addresses[number],
                enrolment_listen=addresses[gateways + number],
            )
            for number in range(gateways)
        ]
        self.keeper = self._part("keeper", "controller.keeper")
        self.web = self._part("web", "web")
        self.workers: list[WorkerPart] = []
        self._over = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor")
        self._supervisor.start()

    def _part(self, name: str, module: str, **settings: Any) -> Part:
        environment = clean_environment(**dataclasses.replace(self.settings, **settings).environment())
        return Part(name, ["-m", module], environment, self.folder / f"{name}.log")

    def worker(self, name: str, **configuration: Any) -> WorkerPart:
        """Make a worker that enrols itself when it is started."""
        folder = self.folder / name
        part = WorkerPart(name, folder, self.folder / f"{name}.log")
        (folder / "ca.pem").write_bytes(self.authority.bundle_pem)
        with Session(self.engine) as session, session.begin():
            (folder / "token").write_text(make_enrolment_token(session, name, minutes=15))
        (folder / "policy.yaml").write_text("allow_loopback: true\n")
        values = {
            "enrolment": self.settings.enrolment_address,
            "host_name": name,
            "ca_file": str(folder / "ca.pem"),
            "token_file": str(folder / "token"),
            "data_dir": str(folder / "data"),
            "policy_file": str(folder / "policy.yaml"),
            **({"user": "nobody"} if os.geteuid() == 0 else {}),
            **configuration,
        }
        (folder / "worker.yaml").write_text(yaml.safe_dump(values))
        self.workers.append(part)
        return part

    def enrolled(self, name: str) -> Identity:
        """Make a worker that is enrolled already, as enrolment would; returns its identity."""
        key_pem = new_key()
        ((worker_id,),) = self.sql(
            "INSERT INTO workers (name, host_name, enrolled_at) VALUES (%s, %s, now()) RETURNING id",
            name,
            name,
        )
        issued = self.authority.issue(signing_request(key_pem), worker_id)
        self.sql(
            "INSERT INTO certificates (serial, worker_id, not_before, not_after) VALUES (%s, %s, %s, %s)",
            issued.serial,
            worker_id,
            issued.not_before,
            issued.not_after,
        )
        return make_identity(
            key_pem=key_pem,
            chain_pem=issued.chain_pem,
            ca_pem=self.authority.bundle_pem,
            gateways=self.settings.gateway_addresses,
        )

    def make_test(self, *, destinations_count: int, interval_s: float, address: str = "") -> None:
        """Make a TCP test to so many destinations on all workers, as the API does; all are the port of a gateway or `address`."""
        address = address or self.settings.gateway_addresses[0]
        with Session(self.engine) as session, session.begin():
            aims = [
                destinations.create(
                    session, {"name": f"Gateway {number}", "address": address}, actor=SYSTEM
                ).id
                for number in range(destinations_count)
            ]
            values = {
                "name": "Load",
                "kind": "tcp",
                "spec": {"timeout_ms": 500},
                "interval_s": interval_s,
                "destinations": aims,
            }
            tests.create(session, values, actor=SYSTEM)

    def delete_tests(self) -> None:
        """Delete every test, as the API does; what is stored stays."""
        with Session(self.engine) as session, session.begin():
            for test_id in session.scalars(select(Test.id).where(Test.deleted_at.is_(None))).all():
                tests.delete(session, test_id, actor=SYSTEM)

    def worker_id(self, worker: WorkerPart) -> uuid.UUID:
        """The worker's id in the database."""
        ((found,),) = self.sql("SELECT id FROM workers WHERE host_name = %s", worker.name)
        return uuid.UUID(str(found))

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement by itself and return its rows, if it has any."""
        return query(self.settings, statement, *values)

    def kill_postgres(self) -> None:
        """End the server's first process as the kernel does; the others end when they notice."""
        pid = self.postgres.status().pid
        assert pid is not None, f"PostgreSQL had ended by itself: {self.postgres.log_file}"
        os.kill(pid, signal.SIGKILL)
        self.engine.dispose()

    def kill_backend(self) -> None:
        """End one of the gateways' or the keeper's sessions in the database as the kernel does.

        PostgreSQL then ends all the others and recovers as after a crash.
        """
        found = self.sql(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'streamswarm-%' ORDER BY random() LIMIT 1"
        )
        if found:
            os.kill(found[0][0], signal.SIGKILL)
        self.engine.dispose()

    def all_parts(self) -> list[Part]:
        """Every process but PostgreSQL."""
        return [*self.workers, *self.gateways, self.keeper, self.web]

    def close(self) -> None:
        """End everything; the files stay."""
        self._over.set()
        self._supervisor.join()
        for part in self.all_parts():
            part.stop()
        self.engine.dispose()
        self.postgres.stop()

    def _supervise(self) -> None:
        while not self._over.wait(_RESTART_S):
            for part in self.all_parts():
                part.look_after()


@contextmanager
def installation(*, gateways: int = 2) -> Iterator[Installation]:
    """An installation whose database runs and is migrated; nothing else is started. Its logs are kept when it fails."""
    # Not below pytest's own folder: that is closed to the account that PostgreSQL and workers run under.
    folder = Path(tempfile.mkdtemp(prefix="streamswarm-test-"))
    folder.chmod(0o711)
    made = Installation(folder, gateways=gateways)
    try:
        yield made
    except BaseException:
        made.close()
        sys.stderr.write(f"what the processes said is kept in {folder}\n")
        raise
    made.close()
    shutil.rmtree(folder)


def patiently(work: Callable[[], Any], *, within_s: float = 60.0) -> Any:
    """Do something in the database, however often it takes while that is away."""
    end = time.monotonic() + within_s
    while True:
        with contextlib.suppress(psycopg.OperationalError):
            return work()
        assert time.monotonic() < end, "the database did not come back"
        time.sleep(0.1)
