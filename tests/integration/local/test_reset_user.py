"""`streamswarm user reset`: what helps on the controller's machine when somebody cannot get in any more."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from controller.cli.main import cli
from controller.settings import Settings
from controller.store.commands import passwords, users
from controller.store.commands.audit import SYSTEM
from controller.store.entities import User


@pytest.fixture
def made(engine: Engine) -> int:
    """A deactivated user beside the first administrator."""
    with Session(engine) as session, session.begin():
        users.ensure_first_admin(session)
        values = {"name": "Ada", "password": "correct horse battery", "active": False}
        return users.create(session, values, actor=SYSTEM).id


def test_a_user_gets_another_password_and_is_active_again(
    settings: Settings, engine: Engine, made: int
) -> None:
    """By name whatever its case; the password is shown once and is the one that works."""
    done = CliRunner().invoke(cli, ["user", "reset", "ADA"], env=settings.environment())
    assert done.exit_code == 0, done.output
    said = done.output.strip()
    password = said.removeprefix("Ada: password ").removesuffix(" (shown only now)")
    assert password != said
    with Session(engine) as session:
        user = session.get_one(User, made)
        assert user.active
        assert passwords.verify(user.password_hash, password)


def test_a_user_that_is_not_there_is_named(settings: Settings, made: int) -> None:
    """With what to do."""
    done = CliRunner().invoke(cli, ["user", "reset", "eve"], env=settings.environment())
    assert done.exit_code != 0
    assert "there is no user `eve`" in done.output
