"""The revisions of the schema that this release has.

They are known by the names of their files. So whoever only asks, as every process does when it starts, loads neither the
migrations nor Alembic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller import assets

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection


def known() -> tuple[str, ...]:
    """Return all revisions, the newest last."""
    found = (path.name.partition("_")[0] for path in (assets.migrations() / "versions").glob("[0-9]*_*.py"))
    return tuple(sorted(found))


def newest() -> str:
    """Return the revision that this release works with."""
    return known()[-1]


def bring(connection: Connection, revision: str) -> None:
    """Bring the schema up to a revision in the transaction of a connection."""
    from alembic import command

    command.upgrade(_config(connection), revision)


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(assets.migrations()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
