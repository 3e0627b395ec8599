"""`streamswarm user first`: the administrator of a new installation, made once, by a password that is given or not."""

from __future__ import annotations

import stat

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from controller.cli.main import cli
from controller.settings import Settings
from controller.store.commands import passwords, tokens
from controller.store.entities import User


@pytest.mark.parametrize("given", ["correct horse battery staple", ""])
def test_the_first_administrator_is_made_once(settings: Settings, engine: Engine, given: str) -> None:
    """A given password is taken and never printed; without one it is made and shown. A second call changes nothing."""

    def call(password: str) -> str:
        done = CliRunner().invoke(
            cli,
            ["user", "first", "--password-file", "-"],
            input=password + "\n",
            env=settings.environment(),
        )
        assert done.exit_code == 0, done.output
        return done.output.strip()

    said = call(given)
    with Session(engine) as session:
        [admin] = session.query(User).all()
        assert (admin.name, admin.role) == ("admin", "admin")
        password = given or said.removeprefix("made admin: password ").removesuffix(" (shown only now)")
        assert passwords.verify(admin.password_hash, password)
        assert given or password != said  # what stands around it was there
        token = settings.data_dir / tokens.LOCAL_FILE
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert tokens.authenticate(session, token.read_text().strip()) is not None
    assert not given or said == "made admin"
    assert call("another password of mine") == "there are users already"
    with Session(engine) as session:
        [admin] = session.query(User).all()
        assert passwords.verify(admin.password_hash, password)


def test_a_password_that_is_too_weak_is_refused(settings: Settings, engine: Engine) -> None:
    """Nobody is made then, and the message says what is wrong."""
    done = CliRunner().invoke(
        cli, ["user", "first", "--password-file", "-"], input="short\n", env=settings.environment()
    )
    assert done.exit_code == 2
    assert "password" in done.output
    with Session(engine) as session:
        assert session.query(User).count() == 0
