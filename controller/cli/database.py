"""What the commands that speak to the database share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from controller.errors import ConfigurationError
from controller.settings import Settings
from controller.store import schema
from controller.store.engine import make_engine, session_factory
from streamswarm.contract import InvalidInputError


@contextmanager
def local_session(settings: Settings) -> Iterator[Session]:
    """One transaction on the database, after the start-up check; bad input becomes an error of the command line."""
    engine = make_engine(settings, application="streamswarm-cli", pool_size=1)
    try:
        schema.check(engine)
        with session_factory(engine).begin() as session:
            yield session
    except InvalidInputError as error:
        raise ConfigurationError(str(error)) from error
    finally:
        engine.dispose()
