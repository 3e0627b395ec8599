"""What root gives to the worker's user, and what it keeps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.errors import ConfigurationError
from worker.privileges import _give

UID = GID = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def _owner(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


def test_what_root_owns_is_given_with_all_that_is_in_it(tmp_path: Path) -> None:
    """A folder that is made, and one that has files of root's in a folder that is the user's already."""
    folder = tmp_path / "new" / "data"
    _give(folder, UID, GID)
    assert _owner(folder) == (UID, GID)
    assert _owner(folder.parent) == (0, 0)
    inner = folder / "identity"
    inner.mkdir()
    os.chown(inner, UID, GID)
    (inner / "key").touch(mode=0o600)
    _give(folder, UID, GID)
    assert _owner(inner / "key") == (UID, GID)


def test_links_lead_nowhere(tmp_path: Path) -> None:
    """Neither the target of a link to a file nor that of one to a folder, nor what lies in there, is given."""
    folder, outside = tmp_path / "data", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "shadow").touch()
    (folder / "file").symlink_to(outside / "shadow")
    (folder / "folder").symlink_to(outside)
    _give(folder, UID, GID)
    assert {_owner(path) for path in (outside, outside / "shadow")} == {(0, 0)}


def test_the_data_folder_must_not_be_a_link(tmp_path: Path) -> None:
    """Whoever can set the link would choose what is given away."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "data").symlink_to(outside)
    with pytest.raises(ConfigurationError, match="is no folder"):
        _give(tmp_path / "data", UID, GID)
    assert _owner(outside) == (0, 0)


def test_a_file_with_another_name_is_refused(tmp_path: Path) -> None:
    """A hard link to a file of root's does not make that file the user's."""
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "shadow").touch()
    os.link(tmp_path / "shadow", folder / "spool.sqlite")
    with pytest.raises(ConfigurationError, match="has 2 names"):
        _give(folder, UID, GID)
    assert _owner(tmp_path / "shadow") == (0, 0)


@pytest.mark.parametrize("name", ["", "file"])
def test_what_belongs_to_others_is_refused(tmp_path: Path, name: str) -> None:
    """A third user's folder or file stays theirs, and the message names it."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "file").touch()
    os.chown(folder / name, 12345, 12345)
    with pytest.raises(ConfigurationError, match="uid 12345"):
        _give(folder, UID, GID)
    assert _owner(folder / name) == (12345, 12345)
