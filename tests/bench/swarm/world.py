"""An installation with thousands of workers and the tests that they run, as planning would have made them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import resource
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil
import psycopg
from psycopg.types.json import Jsonb
from sqlalchemy import select
from sqlalchemy.orm import Session
from support.deployment import Deployment, Member, deployed
from support.surroundings import clean_environment, free_addresses, wait_for

from controller.keeper.plan import keep_versions
from controller.planning.jobs import plan
from controller.planning.records import JobValues
from controller.programs import module_command
from controller.settings import split_address
from controller.store.commands import tokens
from controller.store.engine import libpq_url, make_engine
from controller.store.entities import Job
from controller.store.queries import plans
from streamswarm import CONTRACT_VERSION, contract

_PATIENCE_S = 60.0


class World:
    """A deployment with its members; made by `populated`."""

    def __init__(self, deployment: Deployment, members: Sequence[Member]) -> None:
        self.deployment = deployment
        self.members = members
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, module: str, **environment: str) -> psutil.Process:
        """Start another process of the controller beside the gateways."""
        settings = dataclasses.replace(self.deployment.settings, log_level="warning")
        process = subprocess.Popen(
            module_command(module), env=clean_environment(**{**settings.environment(), **environment})
        )
        self._processes.append(process)
        return psutil.Process(process.pid)

    def keeper(self) -> psutil.Process:
        """Start a keeper and wait until it lives."""
        process = self.start("controller.keeper")
        living = "SELECT 1 FROM processes WHERE role = 'keeper' AND pid = %s"
        wait_for("the keeper", lambda: bool(self.deployment.sql(living, process.pid)), _PATIENCE_S)
        return process

    def web(self, **environment: str) -> tuple[psutil.Process, str]:
        """Start dashboard and API and wait until they listen; return the process and its address."""
        (address,) = free_addresses(1)
        process = self.start("web", STREAMSWARM_WEB_LISTEN=address, **environment)
        host, port = split_address(address, what="the address")

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex((host, port)) == 0

        wait_for(f"the dashboard on {address}", listens, _PATIENCE_S)
        return process, address

    def token(self) -> str:
        """Make an administrator's API token."""
        engine = make_engine(self.deployment.settings, application="swarm")
        path = self.deployment.settings.data_dir / tokens.LOCAL_FILE
        with Session(engine) as session, session.begin():
            tokens.ensure_local(session, path)
        engine.dispose()
        return path.read_text(encoding="ascii").strip()

    def database_cpu_s(self) -> float:
        """Return the CPU time that the database's processes have used, ended ones included."""
        server = psutil.Process(self.deployment.server.status().pid)
        times = server.cpu_times()
        used = times.user + times.system + times.children_user + times.children_system
        for child in server.children(recursive=True):
            try:
                used += cpu_s(child)
            except psutil.NoSuchProcess:
                continue  # its time is in its parent's from now on
        return float(used)

    def end(self) -> None:
        """End what was started, and what that has started: a dashboard's server would outlive the one that forked it."""
        for process in self._processes:
            started = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            process.wait()
            for child in started:
                child.kill()


@contextmanager
def populated(workers: int, *, tests: int, interval_s: float = 60.0) -> Iterator[World]:
    """Give workers, and tests of kind `ping` that each of them runs to one destination."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # for all that is started: each session is one
    with ExitStack() as stack:
        deployment = stack.enter_context(deployed())
        world = World(deployment, deployment.make_workers(workers))
        stack.callback(world.end)
        url = libpq_url(deployment.settings)
        kinds = {kind: {"available": True, "reason": "", "mend": ""} for kind in contract.kinds()}
        with psycopg.connect(url) as connection:
            connection.execute(
                "UPDATE workers SET kinds = %s, contract_version = %s", (Jsonb(kinds), CONTRACT_VERSION)
            )
            _add_tests(connection, tests, interval_s)
        engine = make_engine(deployment.settings, application="swarm")
        with Session(engine) as session:
            found = plans.read_tests(session), plans.read_workers(session)
        with psycopg.connect(url) as connection:
            copy_jobs(connection, plan(*found, now=dt.datetime.now(dt.UTC)).jobs)
            connection.execute("UPDATE workers SET jobs_revision = 1")
            connection.execute("UPDATE tests SET planned_version = version")
        with Session(engine) as session, session.begin():
            keep_versions(session, ended=(), begun=session.scalars(select(Job.id)).all())
        engine.dispose()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
        yield world


def established(process: psutil.Process, address: str) -> int:
    """Return how many connections a process holds at an address of its own."""
    _, port = split_address(address, what="the address")
    return sum(
        item.status == psutil.CONN_ESTABLISHED and item.laddr.port == port
        for item in process.net_connections("tcp")
    )


def cpu_s(process: psutil.Process) -> float:
    """Return the CPU time that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def cpu_share(process: psutil.Process, seconds: float) -> float:
    """Return how much of one processor a process uses, per cent, over some seconds."""
    before, started = cpu_s(process), time.monotonic()
    time.sleep(seconds)
    return 100 * (cpu_s(process) - before) / (time.monotonic() - started)


def memory_kib(process: psutil.Process) -> float:
    """Return the memory that a process holds, with its share of what several hold together."""
    return float(process.memory_full_info().pss) / 1024


def _add_tests(connection: psycopg.Connection[Any], tests: int, interval_s: float) -> None:
    spec = Jsonb(contract.spec_values(contract.make_spec("ping", {})))
    for number in range(tests):
        connection.execute(
            "WITH t AS (INSERT INTO tests (name, kind, spec, interval_s) VALUES (%s, 'ping', %s, %s) RETURNING id), "
            "d AS (INSERT INTO destinations (name, address) VALUES (%s, %s) RETURNING id) "
            "INSERT INTO test_destinations (test_id, destination_id) SELECT t.id, d.id FROM t, d",
            (f"Test {number:03}", spec, interval_s, f"target-{number:03}", f"192.0.2.{number % 250 + 1}"),
        )


def copy_jobs(connection: psycopg.Connection[Any], jobs: Sequence[JobValues]) -> None:
    """Add jobs as planning would, in this order."""
    names = [item.name for item in dataclasses.fields(JobValues)]
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY jobs ({', '.join(names)}) FROM STDIN".encode()) as copy,
    ):
        for job in jobs:
            values = (getattr(job, name) for name in names)
            copy.write_row(
                [Jsonb(value) if isinstance(value, dict | list | tuple) else value for value in values]
            )
