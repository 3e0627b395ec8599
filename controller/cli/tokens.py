"""`streamswarm token`: API tokens, from the machine that the controller runs on."""

from __future__ import annotations

import datetime as dt

import click

from controller.cli.database import local_session
from controller.settings import Settings
from controller.store.commands import tokens
from controller.store.commands.audit import SYSTEM
from controller.store.queries import tokens as queries
from controller.store.queries.paging import MAX_LIMIT
from controller.store.queries.users import ROLES


@click.group()
def token() -> None:
    """Look after API tokens."""


@token.command("list")
def list_tokens() -> None:
    """List tokens; the tokens themselves are kept nowhere."""
    with local_session(Settings.load()) as session:
        for record in queries.find(session, limit=MAX_LIMIT).items:
            state = (
                "revoked"
                if record.revoked_at
                else f"until {record.expires_at:%Y-%m-%d}"
                if record.expires_at
                else "no end"
            )
            click.echo(f"{record.id:5} {record.prefix}…  {record.scope:9} {state:18} {record.name}")


@token.command()
@click.argument("name")
@click.option("--scope", type=click.Choice(ROLES), default="viewer", show_default=True)
@click.option(
    "--days", type=click.FloatRange(0.01, 3660), default=None, help="Life of the token; without it, no end."
)
def create(name: str, scope: str, days: float | None) -> None:
    """Make a token and print it, this once."""
    expires_at = None if days is None else (dt.datetime.now(dt.UTC) + dt.timedelta(days=days)).isoformat()
    with local_session(Settings.load()) as session:
        _, text = tokens.create(
            session,
            {"name": name, "scope": scope, "expires_at": expires_at},
            actor=SYSTEM,
            user_id=None,
            role="admin",
        )
    click.echo(text)


@token.command()
@click.argument("token_id", type=int)
def revoke(token_id: int) -> None:
    """End the token with that number, at once and for good."""
    with local_session(Settings.load()) as session:
        record = tokens.revoke(session, token_id, actor=SYSTEM)
    click.echo(f"revoked: {record.name}")
