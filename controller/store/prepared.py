"""Statements whose text is made once, asked through the driver itself: for what every call asks.

Through a session such a statement takes ten times the processor time that the driver takes, and that is most of a short call.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

from psycopg2.extensions import connection as Driver  # noqa: N812  it stands for the driver's connection
from sqlalchemy import Select, Update
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.orm import Session

#: Whoever asks: a session, in its transaction, or a connection of the driver.
Asker = Session | Driver


class Prepared:
    """One statement; its parameters are `bindparam`s."""

    def __init__(self, statement: Select[Any] | Update) -> None:
        compiled = statement.compile(dialect=PGDialect_psycopg2())  # type: ignore[no-untyped-call]
        self._text = str(compiled)
        #: What the statement itself names, such as lengths of time.
        self._values = compiled.params
        names = (
            [column.name for column in statement.selected_columns] if isinstance(statement, Select) else []
        )
        self._row: Any = namedtuple("Row", names)  # type: ignore[misc]

    def one(self, asker: Asker, **values: Any) -> Any | None:
        """Return the row that there is, by the names of the statement's columns; None when there is none."""
        with _driver(asker).cursor() as cursor:
            cursor.execute(self._text, {**self._values, **values})
            row = cursor.fetchone()
            return None if row is None else self._row._make(row)

    def run(self, asker: Asker, **values: Any) -> None:
        """Run it."""
        with _driver(asker).cursor() as cursor:
            cursor.execute(self._text, {**self._values, **values})


def _driver(asker: Asker) -> Any:
    return asker.connection().connection if isinstance(asker, Session) else asker
