"""A copy of the program for an account that cannot read the original.

A checkout or an environment below `/root` is closed to every other account. Root then lays a copy of the environment,
and of a checkout's sources, beside the data folder, in a folder of root's own, and the account runs from there. It is
a true copy: a hard link would share its owner and mode with the original.
"""

from __future__ import annotations

import compileall
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from controller import assets
from controller.errors import ConfigurationError

SOURCES = ("controller", "worker", "web", "proto", "migrations", "playbooks", "inventory")
_PACKAGES = ("controller", "worker", "web", "proto")
#: Names the libraries that a copy was made of; the same ones are not copied again.
_STAMP = "libraries.sha256"


def compile_sources() -> None:
    """Write bytecode beside the sources of a checkout, where that is missing or old.

    An account that cannot write there would compile them anew in each process.
    """
    checkout = assets.checkout()
    if checkout is not None:
        for name in _PACKAGES:
            compileall.compile_dir(checkout / name, quiet=2, workers=1)


def lay(folder: Path) -> Path:
    """Bring the copy in `folder` up to date and return its interpreter. Needs root, in a folder of root's."""
    parent = folder.parent.lstat()
    if parent.st_uid != os.geteuid() or parent.st_mode & 0o022:
        raise ConfigurationError(
            f"a copy of the program cannot be laid into {folder.parent}: others may write there",
            mend="name a data folder below one that only root may write: STREAMSWARM_DATA_DIR=/var/lib/streamswarm",
        )
    stamp = _libraries_stamp()
    kept = folder / _STAMP
    if folder.is_symlink() or not kept.is_file() or kept.read_text(encoding="ascii") != stamp:
        _lay_environment(folder, stamp)
    libraries = folder / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    checkout = assets.checkout()
    if checkout is not None:
        for old in (*libraries.glob("*streamswarm*.pth"), *libraries.glob("*streamswarm*.py")):
            old.unlink()
        shutil.rmtree(folder / "src", ignore_errors=True)
        for name in SOURCES:
            shutil.copytree(checkout / name, folder / "src" / name)
        shutil.copy2(checkout / "pyproject.toml", folder / "src")
        paths = f"{folder / 'src'}\n{folder / 'src' / 'proto'}\n"
        (libraries / "streamswarm-sources.pth").write_text(paths, encoding="utf-8")
    _open(folder)
    return folder / "bin" / "python"


def _lay_environment(folder: Path, stamp: str) -> None:
    base = Path(os.path.realpath(sys._base_executable))  # type: ignore[attr-defined]
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    made = subprocess.run(
        [base, "-m", "venv", "--without-pip", "--symlinks", fresh],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise ConfigurationError(
            f"no environment could be made in {fresh}: {made.stderr.strip() or made.stdout.strip()}",
            mend="make room there, or start as an ordinary user",
        )
    libraries = fresh / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    shutil.copytree(sysconfig.get_path("purelib"), libraries, dirs_exist_ok=True)
    # Some installers leave that to the first start, and the account that starts here cannot write.
    compileall.compile_dir(libraries, quiet=2, workers=1)
    (fresh / _STAMP).write_text(stamp, encoding="ascii")
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def _libraries_stamp() -> str:
    """Return a digest of what is installed: names, versions and when."""
    records = sorted(Path(sysconfig.get_path("purelib")).glob("*.dist-info/RECORD"))
    listed = "\n".join(f"{record.parent.name} {record.stat().st_mtime_ns}" for record in records)
    return hashlib.sha256(listed.encode()).hexdigest()


def _open(folder: Path) -> None:
    """Let everyone read what a strict umask has closed."""
    folder.chmod(0o755)
    for directory, names, files in os.walk(folder):
        for name in (*names, *files):
            path = Path(directory, name)
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | (0o055 if path.is_dir() or mode & 0o100 else 0o044))
