"""`streamswarm user`: people, from the machine that the controller runs on.

The other commands are clients of the REST API; these speak to the database, because they are what helps when nobody
can log in any more.
"""

from __future__ import annotations

from typing import TextIO

import click
from sqlalchemy.orm import Session

from controller.cli.database import local_session
from controller.errors import NotFoundError
from controller.settings import Settings
from controller.store.commands import login_links, passwords, tokens, users
from controller.store.commands.audit import SYSTEM
from controller.store.queries import users as queries


@click.group()
def user() -> None:
    """Look after users."""


@user.command("list")
def list_users() -> None:
    """List users with their roles."""
    with local_session(Settings.load()) as session:
        cursor: str | None = ""
        while cursor is not None:
            page = queries.find(session, cursor=cursor)
            for record in page.items:
                state = "" if record.active else "  (deactivated)"
                click.echo(f"{record.name:20} {record.role}{state}")
            cursor = page.next_cursor


@user.command()
@click.argument("name")
@click.option("--role", type=click.Choice(queries.ROLES), default="viewer", show_default=True)
@click.option("--email", default=None)
def create(name: str, role: str, email: str | None) -> None:
    """Make a user with a generated password, which is shown once."""
    password = passwords.generate()
    with local_session(Settings.load()) as session:
        users.create(
            session, {"name": name, "email": email, "role": role, "password": password}, actor=SYSTEM
        )
    click.echo(f"{name}: password {password} (shown only now)")


@user.command()
@click.option(
    "--password-file",
    type=click.File(encoding="utf-8"),
    help="File with the password, - for standard input; without it, or when it is empty, one is made and shown.",
)
def first(password_file: TextIO | None) -> None:
    """Make the first administrator when there is no user yet, and the token of this machine's command line."""
    settings = Settings.load()
    given = password_file.read().strip() if password_file is not None else ""
    with local_session(settings) as session:
        made = users.ensure_first_admin(session, given or None)
        tokens.ensure_local(session, settings.data_dir / tokens.LOCAL_FILE)
    if made is None:
        click.echo("there are users already")
    else:
        name, password = made
        click.echo(f"made {name}" if given else f"made {name}: password {password} (shown only now)")


@user.command()
@click.argument("name")
def reset(name: str) -> None:
    """Let a user in again: a new generated password, which is shown once, an active account and no lock-out.

    The user's sessions and login links end; API tokens stay.
    """
    fresh = passwords.generate()
    with local_session(Settings.load()) as session:
        found = users.reset(session, _find(session, name).id, fresh, actor=SYSTEM)
    click.echo(f"{found.name}: password {fresh} (shown only now)")


@user.command("login-link")
@click.argument("name")
@click.option("--minutes", type=click.FloatRange(1, 60), default=15.0, show_default=True)
def login_link(name: str, minutes: float) -> None:
    """Make a link that logs a user in once."""
    settings = Settings.load()
    with local_session(settings) as session:
        token = login_links.create_login_link(session, _find(session, name).name, minutes=minutes)
    click.echo(f"{settings.public_web_url}/login/once/{token}")


def _find(session: Session, name: str) -> queries.UserRecord:
    record = queries.by_name(session, name)
    if record is None:
        raise NotFoundError(f"there is no user `{name}`", mend="list them: streamswarm user list")
    return record
