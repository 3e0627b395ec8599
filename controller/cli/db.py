"""`streamswarm db`: the database's schema."""

from __future__ import annotations

import click

from controller.errors import ConfigurationError
from controller.settings import Settings
from controller.store import schema
from controller.store.embedded import EmbeddedPostgres
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
def serve() -> None:
    """Run the embedded PostgreSQL in the foreground, for a service manager; SIGINT ends it in order."""
    _embedded().become()


@db.command("await")
def await_ready() -> None:
    """Wait until the embedded PostgreSQL that `serve` runs can be used."""
    _embedded().await_ready()
    click.echo("the database is ready")


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


def _embedded() -> EmbeddedPostgres:
    settings = Settings.load()
    if settings.database_url:
        raise ConfigurationError(
            "STREAMSWARM_DATABASE_URL names a server, so the embedded PostgreSQL is not used",
            mend="leave the setting out to use it",
        )
    return EmbeddedPostgres(settings.data_dir)
