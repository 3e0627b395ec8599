"""Transactions of what runs in a keeper for minutes, and outlives a database that is away for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from controller.errors import DatabaseUnavailableError
from controller.logs import reason


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """Commit what the block does; raises DatabaseUnavailableError where the database does not answer."""
    try:
        with Session(engine) as session, session.begin():
            yield session
    except OperationalError as error:
        raise DatabaseUnavailableError(reason(error)) from error
