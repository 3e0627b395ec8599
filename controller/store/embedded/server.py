"""The life of the embedded server: made, started, found, stopped."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

import psycopg2

from controller.errors import ConfigurationError, DatabaseUnavailableError
from controller.store.embedded import processes, roles
from controller.store.embedded.cluster import Cluster
from controller.store.embedded.failures import absent, failure
from controller.store.embedded.files import private_folder, socket_dir, tail, write_private
from controller.store.embedded.programs import Programs
from controller.store.embedded.roles import DATABASE, ROLE, SUPERUSER

_START_SECONDS = 120
_STOP_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class EmbeddedStatus:
    """Whether the embedded server runs."""

    running: bool
    #: Process id of the postmaster, when it runs.
    pid: int | None


class EmbeddedPostgres:
    """The embedded server of one data directory.

    `user` names the account that the server runs as; it is needed, and used, only when the caller is root.
    """

    def __init__(self, data_dir: Path, *, user: str | None = None) -> None:
        self._data_dir = data_dir.absolute()
        self._password_file = self._data_dir / "secrets" / "postgres-password"
        self._superuser_password_file = self._password_file.with_name("postgres-superuser-password")
        self._log_file = self._data_dir / "logs" / "postgres.log"
        self._programs = Programs(user)
        self._socket_dir = socket_dir(self._data_dir, self._programs.account.pw_uid)
        self._cluster = Cluster(
            self._data_dir / "postgres",
            self._programs,
            password_file=self._superuser_password_file,
            log_file=self._log_file,
        )

    @classmethod
    def find(cls, data_dir: Path) -> EmbeddedPostgres:
        """Return the embedded server that was set up in a data folder; DatabaseUnavailableError when none was."""
        cluster = data_dir / "postgres"
        try:
            return cls(data_dir, user=cluster.owner())
        except FileNotFoundError as error:
            raise absent(data_dir) from error
        except (KeyError, PermissionError) as error:
            raise ConfigurationError(
                f"the embedded database in {cluster} belongs to somebody else",
                mend=f"run this as the owner of {data_dir}, or set STREAMSWARM_DATA_DIR",
            ) from error

    @property
    def log_file(self) -> Path:
        """The server's log."""
        return self._log_file

    def url(self, database: str = DATABASE) -> str:
        """Return the URL of a database on this server for the application's role, password included."""
        return self._url(ROLE, self._password_file, database)

    def superuser_url(self, database: str = SUPERUSER) -> str:
        """Return the URL of a database on this server for the superuser; for setting up, never for the application."""
        return self._url(SUPERUSER, self._superuser_password_file, database)

    def _url(self, role: str, password_file: Path, database: str) -> str:
        try:
            password = password_file.read_text(encoding="ascii").strip()
        except FileNotFoundError as error:
            if self._cluster.exists():
                raise ConfigurationError(
                    f"the database password in {password_file} is missing",
                    mend=f"put the file back, or move {self._cluster.path} away and start with an empty database",
                ) from error
            raise absent(self._data_dir) from error
        except OSError as error:
            raise ConfigurationError(
                f"the database password in {password_file} cannot be read: {error.strerror}",
                mend=f"run this as the owner of {self._data_dir}",
            ) from error
        return f"postgresql://{role}:{password}@/{database}?host={quote(str(self._socket_dir), safe='')}"

    def status(self) -> EmbeddedStatus:
        """Return whether the server runs."""
        pid = processes.postmaster(self._cluster.path)
        return EmbeddedStatus(running=pid is not None, pid=pid)

    def start(self) -> str:
        """Make the cluster if there is none, start the server if it does not run, and return its URL."""
        try:
            self._make_folders()
            with self._only_one():
                self._make_cluster()
                self._make_ready()
        except OSError as error:
            raise self._unusable(error) from error
        return self.url()

    def become(self) -> NoReturn:
        """Make the cluster if there is none, and replace this process by the server, its log on standard error.

        For a service manager: SIGINT ends the server at once and in order. What is ready to be used is told by
        `await_ready`, which has to be called beside it.
        """
        try:
            self._make_folders()
            with self._only_one():
                pid = self.status().pid
                if pid is not None:
                    raise ConfigurationError(
                        f"the embedded PostgreSQL in {self._cluster.path} runs already (process {pid})",
                        mend="stop it first: streamswarm down",
                    )
                self._make_cluster()
                self._cluster.write_configuration(self._socket_dir)
                processes.forget_stale_locks(self._cluster.path, self._socket_dir)
            self._programs.become("postgres", "-D", str(self._cluster.path))
        except OSError as error:
            raise self._unusable(error) from error

    def await_ready(self) -> None:
        """Wait for a server that `become` starts elsewhere, and make or repair the application's role and database."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                if self._superuser_password_file.exists():
                    self._make_database()
                    return
                said = "it has not been set up yet"
            except psycopg2.OperationalError as error:
                said = str(error)
            if time.monotonic() > deadline:
                raise self._failure("the embedded PostgreSQL cannot be reached", said)
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the server, open transactions rolled back; does nothing when it does not run."""
        pid = self.status().pid
        if pid is None:
            return
        done = self._programs.run(
            [
                str(self._programs.folder() / "pg_ctl"),
                *("-D", str(self._cluster.path), "-m", "fast", "-w", "-t", str(_STOP_SECONDS), "stop"),
            ]
        )
        if done.returncode != 0 and self.status().running:
            raise DatabaseUnavailableError(
                f"the embedded PostgreSQL in {self._cluster.path} did not stop within {_STOP_SECONDS} s",
                mend=f"see {self._log_file}",
            )
        processes.await_end(pid, self._cluster.path)

    def _make_folders(self) -> None:
        mode = 0o711 if self._programs.as_other else 0o700
        self._data_dir.mkdir(parents=True, exist_ok=True, mode=mode)
        for folder in (self._password_file.parent, self._log_file.parent):
            folder.mkdir(exist_ok=True, mode=mode)
        private_folder(self._socket_dir, self._programs.account)
        self._log_file.touch(mode=0o600)
        self._programs.give(self._log_file)

    def _unusable(self, error: OSError) -> ConfigurationError | DatabaseUnavailableError:
        if error.errno == errno.ENOSPC:
            return self._failure("the embedded PostgreSQL did not start", str(error))
        return ConfigurationError(
            f"the data folder {self._data_dir} cannot be used: {error.strerror}: {error.filename}",
            mend="make it writable, or set STREAMSWARM_DATA_DIR to another folder",
        )

    @contextmanager
    def _only_one(self) -> Iterator[None]:
        """Hold off a second `start` of the same data folder."""
        descriptor = os.open(self._data_dir / "postgres.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _launch(self) -> None:
        command = [
            str(self._programs.folder() / "pg_ctl"),
            *("-D", str(self._cluster.path), "-l", str(self._log_file)),
            *("-w", "-t", str(_START_SECONDS), "start"),
        ]
        seen = self._log_file.stat().st_size
        done = self._programs.run(command)
        if done.returncode != 0:
            said = tail(self._log_file, since=seen)
            raise self._failure("the embedded PostgreSQL did not start", said or done.stderr)

    def _make_cluster(self) -> None:
        if not self._cluster.exists():
            self._cluster.initialise()
        self._cluster.check_version()

    def _make_ready(self) -> None:
        """Start the server where it does not run, and make or repair the application's role and database.

        A server that was found running may still recover from a crash, or be about to end: it is waited for.
        """
        deadline = time.monotonic() + _START_SECONDS
        while True:
            if not self.status().running:
                self._cluster.write_configuration(self._socket_dir)
                processes.forget_stale_locks(self._cluster.path, self._socket_dir)
                self._launch()
            try:
                self._make_database()
            except psycopg2.OperationalError as error:
                passing = "the database system is" in str(error) or not self.status().running
                if not passing or time.monotonic() > deadline:
                    raise self._failure("the embedded PostgreSQL cannot be reached", str(error)) from error
                time.sleep(0.1)
            else:
                return

    def _make_database(self) -> None:
        if not self._password_file.exists():
            write_private(self._password_file, secrets.token_urlsafe(32))
        if not roles.is_right(self.url(), cluster=str(self._cluster.path)):
            password = self._password_file.read_text(encoding="ascii").strip()
            roles.repair(self.superuser_url(), password=password)

    def _failure(self, what: str, said: str) -> DatabaseUnavailableError:
        return failure(what, said, log_file=self._log_file)
