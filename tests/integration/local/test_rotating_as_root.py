"""Root replaces the root certificate: what that makes in the data folder is the gateway's account's, which reads it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, text

from controller.cli.ca import take_step_as_owner
from controller.cli.main import cli
from controller.fleet import operations, rotating
from controller.fleet.operations import Recap
from controller.gateway import rotation
from controller.local import account
from controller.local.account import Account
from controller.settings import Settings

_USED = """
WITH w AS (INSERT INTO workers (name, host_name, enrolled_at) VALUES ('edge', 'edge', now()) RETURNING id)
INSERT INTO certificates (serial, worker_id, not_before, issued_at, not_after, first_used_at)
SELECT '1f', w.id, now(), now() - interval '1 day', now() + interval '1 day', now() FROM w
"""


@pytest.fixture
def owned(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """An installation whose data folder, with an authority in it, is the account `nobody`'s; root calls."""
    if os.geteuid() != 0:
        if os.environ.get("CI") == "true":
            pytest.fail("in CI this must run as root")
        pytest.skip("becoming another account needs root")
    entry = pwd.getpwnam("nobody")
    folder = Path(tempfile.mkdtemp(prefix="streamswarm-rotating-"))
    folder.chmod(0o755)
    made = dataclasses.replace(settings, data_dir=folder / "data")
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    account.claim(made.data_dir, Account(name="nobody", uid=entry.pw_uid, gid=entry.pw_gid))
    done = account.run_as_owner(made, ["ca", "init"])
    assert done is not None
    assert done.returncode == 0, done.stderr
    yield made
    shutil.rmtree(folder)


def test_all_in_one_go_leaves_nothing_of_roots(owned: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each step every file of the authority is the account's, and its gateway sees the roots of that step."""
    seen = []

    def renew(*_: Any, **__: Any) -> Recap:
        shown = account.run_as_owner(owned, ["ca", "show"])
        assert shown is not None
        owners = {path.stat().st_uid for path in (owned.data_dir / "ca").iterdir()}
        seen.append((rotation.stage(owned), owners, shown.returncode))
        return Recap(hosts=())

    monkeypatch.setattr(operations, "rotate", renew)
    monkeypatch.setattr(rotating, "NOTICED", dt.timedelta(seconds=-1))
    inventory = owned.data_dir.parent / "hosts.ini"
    inventory.write_text("[workers]\nedge\n")
    done = CliRunner().invoke(cli, ["fleet", "rotate", "--ca", "--inventory", str(inventory)])
    assert done.exit_code == 0, done.output
    owner = {owned.data_dir.stat().st_uid}
    assert seen == [(rotation.Stage.TRUSTED, owner, 0), (rotation.Stage.SWITCHED, owner, 0)]
    assert rotation.stage(owned) is rotation.Stage.SINGLE


def test_who_has_not_come_along_is_told_as_under_any_account(owned: Settings, engine: Engine) -> None:
    """The one error that is waited for is known as such, in its own words, with what to do."""
    assert take_step_as_owner(owned) is rotation.Stage.TRUSTED
    with engine.begin() as connection:
        connection.execute(text(_USED))
    with pytest.raises(
        rotation.NotYetError, match=r"1 workers have no certificate yet.*edge\n.*renew them now"
    ):
        take_step_as_owner(owned)
    assert rotation.stage(owned) is rotation.Stage.TRUSTED


def test_another_error_is_told_too(owned: Settings) -> None:
    """Without the key nothing is replaced."""
    (owned.data_dir / "ca" / "root.key").unlink()
    with pytest.raises(Exception, match=r"root.key is not here(.|\n)*bring root.key back"):
        take_step_as_owner(owned)
