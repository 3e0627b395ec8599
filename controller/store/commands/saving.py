"""Writes entities: optimistic concurrency and names that are taken, each with a message of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from controller.errors import ChangedError, ConflictError
from controller.plain import plain
from controller.store.entities import Destination, Test
from streamswarm.targets import shown

_MEND = "read it again, look at what has changed, and repeat the change"


def check_version(entity: Destination | Test, seen: int | None, what: str) -> None:
    """Raise ChangedError unless the caller has seen the version that the locked row has; None is any version."""
    if seen is not None and entity.version != seen:
        raise ChangedError(
            f"{what} `{shown(entity.name)}` has changed meanwhile: it is at version {entity.version}, not {seen}",
            mend=_MEND,
        )


def state_of(entity: Any, fields: Sequence[str]) -> str:
    """Return a short text that tells what these fields of an entity, or of its record, hold."""
    text = json.dumps([plain(getattr(entity, name)) for name in fields], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_state(entity: Any, fields: Sequence[str], seen: str | None, what: str) -> None:
    """Raise ChangedError unless the caller has seen what these fields of the locked row hold; None is anything."""
    if seen is not None and seen != state_of(entity, fields):
        raise ChangedError(f"{what} `{shown(entity.name)}` has changed meanwhile", mend=_MEND)


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
