"""Overlay mounts over the base system, and removal of folders that may have mounts below them."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from lab.commands import call
from lab.errors import LabError


def mount_overlay(base: Path, folder: Path) -> Path:
    """Mount a writable layer in `folder` over `base`; returns the root of the joined tree."""
    upper, work, root = folder / "upper", folder / "work", folder / "root"
    for part in (upper, work, root):
        part.mkdir(parents=True)
    options = f"lowerdir={base},upperdir={upper},workdir={work}"
    call(["mount", "-t", "overlay", "streamswarm-lab", "-o", options, root])
    return root


def mounts_below(folder: Path) -> list[Path]:
    """Return the mount points at and below a folder, the innermost first."""
    prefix = str(folder.resolve())
    found = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if point == prefix or point.startswith(prefix + "/"):
            found.append(Path(point))
    return sorted(found, key=lambda point: len(point.parts), reverse=True)


def remove_tree(folder: Path) -> None:
    """Unmount what is mounted below `folder`, then remove it.

    Nothing is removed while a mount remains: removing files through one would destroy what it shows.
    """
    if not folder.exists():
        return
    for point in mounts_below(folder):
        call(["umount", point])
    if left := mounts_below(folder):
        raise LabError(f"{left[0]} is still mounted; unmount it, then remove {folder}.")
    # Who sweeps and who closes may meet at one laboratory: what the other has removed meanwhile is gone.
    while folder.exists():
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
