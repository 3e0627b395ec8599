"""One statement on a database under test, as anybody with a URL could send it."""

from __future__ import annotations

from typing import Any

import psycopg

from controller.settings import Settings
from controller.store.engine import libpq_url


def query(settings: Settings, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run a statement by itself and return its rows, if it has any."""
    with psycopg.connect(libpq_url(settings), autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else []
