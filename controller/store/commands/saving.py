"""Writes entities: optimistic concurrency and names that are taken, each with a message of its own."""

from __future__ import annotations

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from controller.errors import ConflictError
from controller.store.entities import Destination, Test
from streamswarm.targets import shown


def check_version(entity: Destination | Test, seen: int, what: str) -> None:
    """Raise ConflictError unless the caller has seen the version that the locked row has."""
    if entity.version != seen:
        raise ConflictError(
            f"{what} `{shown(entity.name)}` has changed meanwhile: it is at version {entity.version}, not {seen}",
            mend="read it again, look at what has changed, and repeat the change",
        )


def flush_unique(session: Session, what: str, name: str, constraint: str) -> None:
    """Write what is pending; a taken name becomes ConflictError, and the transaction stays usable."""
    try:
        with session.begin_nested():
            session.flush()
    except IntegrityError as error:
        diagnosis = getattr(error.orig, "diag", None)
        if getattr(diagnosis, "constraint_name", None) != constraint:
            raise
        raise ConflictError(
            f"there is a {what} named `{shown(name)}` already (names are the same whatever their case)",
            mend="choose another name",
        ) from error
