"""A copy of the program for an account that cannot read the original.

A checkout below `/root` is closed to every other account. Root then lays a copy of the environment and the
sources into the data folder, as hard links where it can, and the account runs from there.
"""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from controller import assets
from controller.errors import ConfigurationError

SOURCES = ("controller", "worker", "web", "proto", "migrations", "playbooks", "inventory")


def compile_sources() -> None:
    """Write bytecode beside the sources of a checkout, where that is missing or old."""
    checkout = assets.checkout()
    if checkout is not None:
        for name in ("controller", "worker", "web", "proto"):
            compileall.compile_dir(checkout / name, quiet=2, workers=1)


def lay(folder: Path) -> Path:
    """Lay the program into `folder`, replacing an older copy, and return the copy's interpreter."""
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
    shutil.copytree(sysconfig.get_path("purelib"), libraries, copy_function=_link_or_copy, dirs_exist_ok=True)
    checkout = assets.checkout()
    if checkout is not None:
        for old in (*libraries.glob("*streamswarm*.pth"), *libraries.glob("*streamswarm*.py")):
            old.unlink()
        for name in SOURCES:
            shutil.copytree(
                checkout / name, fresh / "src" / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        shutil.copy2(checkout / "pyproject.toml", fresh / "src")
        (libraries / "streamswarm-sources.pth").write_text(
            f"{folder / 'src'}\n{folder / 'src' / 'proto'}\n", encoding="utf-8"
        )
    _open(fresh)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return folder / "bin" / "python"


def _link_or_copy(source: str, target: str) -> None:
    if Path(source).stat().st_mode & 0o004:
        try:
            os.link(source, target)
        except OSError:  # another file system, or links are forbidden there
            shutil.copy2(source, target)
        return
    shutil.copy2(source, target)


def _open(folder: Path) -> None:
    """Let everyone read what a strict umask has closed; hard links are open already."""
    folder.chmod(0o755)
    for directory, names, files in os.walk(folder):
        for name in names:
            path = Path(directory, name)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o055)
        for name in files:
            path = Path(directory, name)
            if not path.is_symlink() and not path.stat().st_mode & 0o004:
                path.chmod(path.stat().st_mode | 0o044)
