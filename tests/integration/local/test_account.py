"""Root's part of `streamswarm up`: it takes over nothing and follows nothing that an account could have laid."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.errors import ConfigurationError
from controller.local import account, runtime
from controller.local.account import Account


@pytest.fixture(autouse=True)
def as_root() -> None:
    """These tests give files away."""
    if os.geteuid() != 0:
        if os.environ.get("CI") == "true":
            pytest.fail("in CI this must run as root")
        pytest.skip("giving files away needs root")


@pytest.fixture
def nobody() -> Account:
    entry = pwd.getpwnam("nobody")
    return Account(name="nobody", uid=entry.pw_uid, gid=entry.pw_gid)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of root's that everybody may enter."""
    folder = Path(tempfile.mkdtemp(prefix="streamswarm-account-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_missing_folder_is_made_and_given(place: Path, nobody: Account) -> None:
    """Private, and the account's; claiming it again changes nothing."""
    for _ in range(2):
        account.claim(place / "data", nobody)
        found = (place / "data").stat()
        assert (found.st_uid, found.st_mode & 0o777) == (nobody.uid, 0o700)


def test_what_lies_in_a_folder_is_never_touched(place: Path, nobody: Account) -> None:
    """A folder of root's with something in it is refused, and stays as it is."""
    (place / "data").mkdir()
    (place / "data" / "file").write_text("root's")
    with pytest.raises(ConfigurationError, match="belongs to user id 0"):
        account.claim(place / "data", nobody)
    assert (place / "data" / "file").stat().st_uid == 0
    assert (place / "data").stat().st_uid == 0


def test_a_link_is_not_followed(place: Path, nobody: Account) -> None:
    """Neither to an empty folder nor to one that is not there."""
    (place / "private").mkdir(mode=0o700)
    (place / "data").symlink_to(place / "private")
    with pytest.raises(ConfigurationError, match="no folder of its own"):
        account.claim(place / "data", nobody)
    assert (place / "private").stat().st_uid == 0


def test_a_folder_that_the_account_cannot_reach_is_named(place: Path, nobody: Account) -> None:
    """Its parent is closed: the message names the folder and another that would do."""
    (place / "closed").mkdir(mode=0o700)
    with pytest.raises(ConfigurationError, match="cannot reach the data folder") as caught:
        account.claim(place / "closed" / "data", nobody)
    assert "/var/lib/streamswarm" in caught.value.mend


def test_a_program_copy_shares_nothing_with_the_original(place: Path, nobody: Account) -> None:
    """True files of root's: what the account could do to them does not reach the original. It runs there."""
    python = runtime.lay(place / "program")
    for path in (place / "program").rglob("*"):
        found = path.lstat()
        assert found.st_uid == 0
        assert path.is_dir() or path.is_symlink() or found.st_nlink == 1, f"{path} is linked with another"
    code = "import controller.cli.main as main; print(main.__file__)"
    said = subprocess.run(
        [python, "-c", code],
        user=nobody.uid,
        group=nobody.gid,
        cwd="/",
        env={},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.startswith(str(place / "program"))
    first = (place / "program" / "bin").stat().st_ino
    runtime.lay(place / "program")
    assert (place / "program" / "bin").stat().st_ino == first, "the same libraries are not copied again"


def test_no_copy_is_laid_where_others_may_write(place: Path) -> None:
    """They could move it away while it is written."""
    (place / "open").mkdir()
    (place / "open").chmod(0o777)
    with pytest.raises(ConfigurationError, match="others may write there"):
        runtime.lay(place / "open" / "program")


def test_children_get_no_foreign_environment(
    monkeypatch: pytest.MonkeyPatch, place: Path, nobody: Account
) -> None:
    """Secrets of root's shell stay there; settings and language go along."""
    from controller.settings import Settings

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    handed = account.environment(Settings(data_dir=place), nobody)
    assert "AWS_SECRET_ACCESS_KEY" not in handed
    assert (handed["LC_ALL"], handed["HOME"], handed["STREAMSWARM_DATA_DIR"]) == (
        "C.UTF-8",
        str(place),
        str(place),
    )


def test_dropping_leaves_no_right_behind(nobody: Account) -> None:
    """Without a wish for raw sockets every capability set is empty."""
    words = account._drop(nobody, raw_sockets=False)
    said = subprocess.run(
        [*words, "grep", "-E", "^(Uid|Cap|NoNewPrivs)", "/proc/self/status"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    values = dict(line.split(":\t", 1) for line in said.splitlines())
    assert set(values["Uid"].split()) == {str(nobody.uid)}
    assert {int(values[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert values["NoNewPrivs"] == "1"
    assert sys.platform == "linux"


def test_a_folder_that_the_account_cannot_reach_is_refused_and_not_left(place: Path, nobody: Account) -> None:
    """What was made for it is gone again; a folder below a file is refused with its name."""
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ConfigurationError, match="cannot reach the data folder"):
        account.claim(closed / "data", nobody)
    assert list(closed.iterdir()) == []
    (place / "file").write_text("")
    for folder in (place / "file" / "data", Path("/proc/data")):
        assert account.owner_of(folder) is None
        with pytest.raises(ConfigurationError, match=f"the data folder {folder} cannot be made"):
            account.claim(folder, nobody)
