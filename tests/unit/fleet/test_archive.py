"""Packing gives the same bytes for the same files, whatever the folder went through before."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from controller.fleet import archive


def _fill(folder: Path, names: list[str]) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    return folder


def test_order_times_and_owners_do_not_show(tmp_path: Path) -> None:
    """Files written in another order, at another time, with other modes of group and others, pack to the same bytes."""
    names = ["b/2", "a", "b/1", "ä"]
    first = _fill(tmp_path / "first", names)
    second = _fill(tmp_path / "second", names[::-1])
    for path in second.rglob("*"):
        os.utime(path, (1, 1))
        if path.is_file():
            path.chmod(0o600)
    for folder in (first, second):
        archive.pack(folder, tmp_path / f"{folder.name}.tar.gz")
    assert (tmp_path / "first.tar.gz").read_bytes() == (tmp_path / "second.tar.gz").read_bytes()
    assert archive.content_hash(first) == archive.content_hash(second)


def test_content_names_and_the_executable_bit_do_show(tmp_path: Path) -> None:
    """The hash changes with a file's content, name, or whether it can be run."""
    seen = set()
    for number in range(4):
        folder = _fill(tmp_path / str(number), ["a", "b"])
        match number:
            case 1:
                (folder / "a").write_text("other")
            case 2:
                (folder / "a").rename(folder / "c")
            case 3:
                (folder / "a").chmod(0o755)
        seen.add(archive.content_hash(folder))
    assert len(seen) == 4


def test_members_are_plain(tmp_path: Path) -> None:
    """Members are regular files with relative names, no owner, no time and one of two modes."""
    folder = _fill(tmp_path / "tree", ["bin/run", "lib/" + "long/" * 30 + "name.py"])
    (folder / "bin/run").chmod(0o775)
    archive.pack(folder, tmp_path / "tree.tar.gz")
    with tarfile.open(tmp_path / "tree.tar.gz") as packed:
        members = packed.getmembers()
    assert [(member.name[:8], member.mode) for member in members] == [("bin/run", 0o755), ("lib/long", 0o644)]
    assert all(
        member.isfile() and member.mtime == 0 and member.uid == 0 and not member.uname for member in members
    )
