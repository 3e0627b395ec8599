"""A small world of workers, destinations and tests, and keepers as processes that plan for it."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from controller.settings import Settings
from controller.store.entities import Destination, Job, Test, Worker
from streamswarm import contract


class World:
    """Writes entities as commands do, and reads jobs."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def worker(self, name: str, **values: Any) -> uuid.UUID:
        """Add an enrolled worker."""
        with Session(self.engine) as session, session.begin():
            row = Worker(name=name, host_name=name, enrolled_at=func.now(), **values)
            session.add(row)
            session.flush()
            return row.id

    def destination(self, name: str, address: str) -> int:
        """Add a destination."""
        with Session(self.engine) as session, session.begin():
            row = Destination(name=name, address=address)
            session.add(row)
            session.flush()
            return row.id

    def test(self, name: str, kind: str, destinations: list[int], **values: Any) -> int:
        """Add a test; nothing is deferred."""
        with Session(self.engine) as session, session.begin():
            row = Test(
                name=name,
                kind=kind,
                spec=contract.spec_values(contract.make_spec(kind, {})),
                **{"interval_s": 2.0, **values},
            )
            row.destinations = [session.get_one(Destination, number) for number in destinations]
            session.add(row)
            session.flush()
            return row.id

    def change(self, test_id: int, **values: Any) -> None:
        """Change a test as a command does."""
        with Session(self.engine) as session, session.begin():
            row = session.get_one(Test, test_id)
            for name, value in values.items():
                setattr(row, name, value)
            row.version += 1

    def jobs(self, *, live: bool = True) -> list[Job]:
        """Return jobs in the order of their ids."""
        statement = select(Job).order_by(Job.id)
        if live:
            statement = statement.where(Job.retired_at.is_(None))
        with Session(self.engine) as session:
            return list(session.scalars(statement))

    def revision(self, worker_id: uuid.UUID) -> int:
        """Return a worker's jobs_revision."""
        with Session(self.engine) as session:
            return session.get_one(Worker, worker_id).jobs_revision


class Keepers:
    """Starts keepers as processes and ends them."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self._settings = settings
        self._log = log
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        """Start one."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "controller.keeper"],
                env={**os.environ, **self._settings.environment()},
                stdout=log,
                stderr=log,
            )
        self._running.append(process)
        return process

    def log(self) -> str:
        """Return what all of them said."""
        return self._log.read_text(encoding="utf-8")

    def end(self) -> None:
        """Kill those that still run."""
        for process in self._running:
            if process.poll() is None:
                process.kill()
            process.wait(10)
