"""The files of a cluster: made by initdb, checked, configured."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from controller.errors import ConfigurationError
from controller.store.embedded.failures import failure
from controller.store.embedded.files import write_private
from controller.store.embedded.programs import MAJOR_VERSION, Programs
from controller.store.embedded.roles import SUPERUSER

_CONFIGURATION = """\
# Written anew at every start; put your own settings into postgresql.local.conf, which is read last.
listen_addresses = ''
port = 5432
unix_socket_directories = '{socket_dir}'
unix_socket_permissions = 0700
password_encryption = 'scram-sha-256'
max_connections = 100
max_locks_per_transaction = 1024
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


class Cluster:
    """The folder that holds the data of a server."""

    def __init__(self, path: Path, programs: Programs, *, password_file: Path, log_file: Path) -> None:
        self.path = path
        self._programs = programs
        self._password_file = password_file
        self._log_file = log_file

    def exists(self) -> bool:
        """Return whether the cluster was made."""
        return (self.path / "PG_VERSION").exists()

    def initialise(self) -> None:
        """Make the cluster aside and move it into place, so that a crash leaves no half of one."""
        if self.path.is_dir() and any(self.path.iterdir()):
            raise ConfigurationError(
                f"the folder {self.path} is neither empty nor a PostgreSQL cluster",
                mend="move it away, or set STREAMSWARM_DATA_DIR to another folder",
            )
        fresh = self.path.with_name("postgres.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        password_copy = fresh.with_name("postgres-superuser-password.new")
        password_copy.unlink(missing_ok=True)
        try:
            write_private(self._password_file, secrets.token_urlsafe(32))
            write_private(password_copy, self._password_file.read_text(encoding="ascii"))
            self._programs.give(fresh)
            self._programs.give(password_copy)
            done = self._programs.run(
                [
                    str(self._programs.folder() / "initdb"),
                    *("-D", str(fresh), "-U", SUPERUSER, "--pwfile", str(password_copy)),
                    *("--auth-local=scram-sha-256", "--auth-host=reject", "--data-checksums"),
                    *("--encoding=UTF8", "--locale=C"),
                    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                    "--no-instructions",
                ]
            )
            if done.returncode != 0:
                raise failure(
                    "the embedded PostgreSQL could not be set up",
                    done.stderr or done.stdout,
                    log_file=self._log_file,
                )
        finally:
            password_copy.unlink(missing_ok=True)
        if self.path.is_dir():
            self.path.rmdir()
        fresh.rename(self.path)

    def check_version(self) -> None:
        """Raise ConfigurationError unless this release can read the data."""
        try:
            found = (self.path / "PG_VERSION").read_text(encoding="ascii").strip()
        except PermissionError as error:
            raise ConfigurationError(
                f"the database in {self.path} belongs to another user",
                mend=f"run this as the owner of {self.path}, or set STREAMSWARM_DATA_DIR",
            ) from error
        if found != str(MAJOR_VERSION):
            raise ConfigurationError(
                f"the database in {self.path} was written by PostgreSQL {found}; this release brings "
                f"PostgreSQL {MAJOR_VERSION}",
                mend="with the release that wrote it: streamswarm backup FILE, streamswarm down; then move "
                f"{self.path.parent} away, and with this release: streamswarm restore FILE (docs/how-to/backup.md). Or set "
                f"STREAMSWARM_DATABASE_URL to a server of version {found}",
            )

    def write_configuration(self, socket_dir: Path) -> None:
        """Write the settings anew; those of postgresql.local.conf stay."""
        path = self.path / "postgresql.conf"
        write_private(path, _CONFIGURATION.format(socket_dir=str(socket_dir).replace("'", "''")))
        self._programs.give(path)
        local = path.with_name("postgresql.local.conf")
        if not local.exists():
            write_private(local, "# Settings of your own; they win over those of postgresql.conf.\n")
            self._programs.give(local)
