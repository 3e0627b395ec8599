"""`streamswarm db`: the database's schema."""

from __future__ import annotations

import click

from controller.settings import Settings
from controller.store import schema
from controller.store.engine import libpq_url, make_engine, shown_address


@click.group()
def db() -> None:
    """Look after the database's schema."""


@db.command()
def upgrade() -> None:
    """Bring the schema up to date. Safe to call again, and from several machines at once."""
    settings = Settings.load()
    schema.upgrade(settings)
    click.echo("the schema is up to date")


@db.command()
def url() -> None:
    """Print the database's URL, for psql and the like. The password is in it."""
    click.echo(libpq_url(Settings.load()))


@db.command()
def check() -> None:
    """Say whether the database is reachable, safe and up to date."""
    engine = make_engine(Settings.load(), application="streamswarm-db", pool_size=1)
    try:
        schema.check(engine)
        click.echo(f"fit to run on: {shown_address(engine.url)}")
    finally:
        engine.dispose()
