"""`streamswarm db`: what needs no database."""

from __future__ import annotations

from click.testing import CliRunner

from controller.cli.db import db


def test_the_url_is_printed_as_psql_reads_it() -> None:
    """With the password, and in libpq's own form."""
    url = "postgresql+psycopg2://u:secret@/swarm?host=%2Fa+b"
    done = CliRunner().invoke(db, ["url"], env={"STREAMSWARM_DATABASE_URL": url})
    assert (done.exit_code, done.output) == (0, "postgresql://u:secret@/swarm?host=%2Fa%20b\n")
