"""Opens the certificate authority of this installation, and no other: the database knows its roots."""

from __future__ import annotations

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from controller.gateway.authority import Authority, open_root
from controller.settings import Settings
from controller.store import schema
from controller.store.commands import roots


def open_authority(settings: Settings, engine: Engine, *, replace: bool = False) -> Authority:
    """Return this gateway's authority, made where the installation has none yet.

    Raises ForeignRootError where the installation has another root than the data folder, DatabaseUnavailableError while that
    cannot be known; with `replace` the folder's takes the place of those that it had.
    """
    try:
        with Session(engine) as session, session.begin():
            if replace:
                open_root(settings)
                roots.keep(session, settings.data_dir)
            else:
                settle(session, settings)
    except OperationalError as error:
        raise schema.unavailable(engine, error) from error
    return Authority(settings)


def settle(session: Session, settings: Settings) -> None:
    """Raise ForeignRootError unless the data folder's root is this installation's; an installation without one gets it here."""
    if not roots.check_before_use(session, settings.data_dir):
        open_root(settings)
        roots.keep(session, settings.data_dir)
