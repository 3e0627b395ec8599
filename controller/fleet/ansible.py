"""How Ansible is started here: always this Python's own, always with host key checking, nothing left behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from controller import assets
from controller.errors import ConfigurationError

#: The environment variable that chooses how playbooks are carried out: `linear`, or `mitogen`.
STRATEGY_VARIABLE = "STREAMSWARM_ANSIBLE_STRATEGY"
#: How the file of an inventory is called that the inventory plug-in `streamswarm` reads.
_CONTROLLERS_OWN = ("streamswarm.yml", "streamswarm.yaml")
_PREFIX = "sw-"
_LOCK = "lock"
_YOUNG_S = 60.0


@contextmanager
def private_folder() -> Iterator[Path]:
    """Make a folder that only this user can enter, for everything that a run of Ansible writes; removed afterwards.

    Its path is short: OpenSSH's control sockets and our own lie in it, and a socket's path has room for 107 bytes. Folders
    of processes that were killed, which hold tokens, are removed first.
    """
    _remove_abandoned()
    with tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with (folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield folder
            finally:
                _close_connections(folder / "cp")


def _remove_abandoned() -> None:
    """Remove this user's private folders whose lock nobody holds; young ones may not have theirs yet."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            found = folder.lstat()
            if found.st_uid != os.geteuid() or time.time() - found.st_mtime < _YOUNG_S:
                continue
            with (folder / _LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _close_connections(folder / "cp")
                shutil.rmtree(folder)
        except OSError:
            # It is held, somebody else was faster, or it is none of ours.
            continue


def environment(private: Path, inventories: Sequence[Path] = ()) -> dict[str, str]:
    """Return the variables under which Ansible runs, on top of this process's own.

    An API token of the environment is not among them: all that Ansible starts would have it, on this machine's list of
    processes too. Where one of the inventories is the controller's own, that finds it in a file of the private folder.
    """
    programs = str(assets.programs())
    plugins = [str(assets.playbooks() / "inventory_plugins"), os.environ.get("ANSIBLE_INVENTORY_PLUGINS", "")]
    return {
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '/usr/bin:/bin')}",
        # Ansible refuses to start under any locale that is not UTF-8.
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_HOME": str(private / "home"),
        "ANSIBLE_LOCAL_TEMP": str(private / "tmp"),
        # Its own place would be a folder in the account's home on each host, which stays there.
        "ANSIBLE_REMOTE_TEMP": "/tmp",  # noqa: S108  what Ansible makes there is for its account alone
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(private / "cp"),
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_PIPELINING": "True",
        # A host that falls silent in the middle is unreachable after three quarters of a minute, instead of never.
        "ANSIBLE_SSH_EXTRA_ARGS": "-o ServerAliveInterval=15 -o ServerAliveCountMax=3",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True",
        "ANSIBLE_INVENTORY_PLUGINS": os.pathsep.join(filter(None, plugins)),
        # No playbook needs the database, and a password may stand in there.
        "STREAMSWARM_DATABASE_URL": "",
        **_token(private, inventories),
        "ANSIBLE_NOCOLOR": "True",
        "ANSIBLE_FORCE_COLOR": "False",
        **_strategy(os.environ.get(STRATEGY_VARIABLE, "linear")),
    }


def _token(private: Path, inventories: Sequence[Path]) -> dict[str, str]:
    token = os.environ.get("STREAMSWARM_TOKEN", "")
    if not token or not any(_asks_controller(inventory) for inventory in inventories):
        return {"STREAMSWARM_TOKEN": ""}
    file = private / "token"
    file.touch(mode=0o600)
    file.write_text(token, encoding="utf-8")
    return {"STREAMSWARM_TOKEN": "", "STREAMSWARM_TOKEN_FILE": str(file)}


def _asks_controller(inventory: Path) -> bool:
    """Whether an inventory, or a file in it, is by its name one that is read from the controller."""
    files = inventory.rglob("*") if inventory.is_dir() else [inventory]
    return any(file.name.endswith(_CONTROLLERS_OWN) for file in files)


def _strategy(name: str) -> dict[str, str]:
    """Return the variables that make Ansible use a strategy; raises ConfigurationError for one that it cannot use."""
    if name == "linear":
        return {}
    if name != "mitogen":
        raise ConfigurationError(
            f"{STRATEGY_VARIABLE} is `{name}`, which is no strategy", mend="set it to `linear` or `mitogen`"
        )
    found = find_spec("ansible_mitogen")
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError(
            f"{STRATEGY_VARIABLE} is `mitogen`, which is not installed beside StreamSwarm",
            mend="pip install 'mitogen>=0.3.54,<0.4' there, or leave the variable out",
        )
    folder = Path(next(iter(found.submodule_search_locations))) / "plugins" / "strategy"
    return {
        "ANSIBLE_STRATEGY": "mitogen_linear",
        "ANSIBLE_STRATEGY_PLUGINS": str(folder),
        # ansible-core warns of every strategy that is not its own.
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
    }


def _close_connections(folder: Path) -> None:
    """End the SSH connections that Ansible keeps open for a while, so that no process outlives the run."""
    for control in folder.glob("*") if folder.is_dir() else ():
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                ["ssh", "-o", f"ControlPath={control}", "-O", "exit", "unused"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=5,
                check=False,
            )
