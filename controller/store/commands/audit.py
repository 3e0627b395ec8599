"""The audit log: who changed what, written in the transaction of the change itself."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from controller.store.entities import AuditEntry


@dataclass(frozen=True, kw_only=True)
class Actor:
    """On whose behalf something is changed."""

    #: `user:<name>`, `token:<name>`, `development:<name>` (nobody had to log in) or `system`.
    name: str
    #: Address of the client, where there is one.
    address: str = ""


#: The controller itself: first start, tasks, the local command line.
SYSTEM = Actor(name="system")


def record(
    session: Session,
    actor: Actor,
    action: str,
    object_type: str = "",
    object_id: object = "",
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Add an entry. `detail` must hold no secret; names of what was touched belong into it."""
    session.add(
        AuditEntry(
            actor=actor.name,
            address=actor.address,
            action=action,
            object_type=object_type,
            object_id=str(object_id),
            detail=_plain(dict(detail or {})),
        )
    )


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return `{field: {"from": …, "to": …}}` for the fields that differ."""
    return {
        name: {"from": before.get(name), "to": value}
        for name, value in after.items()
        if before.get(name) != value
    }


def _plain(value: Any) -> Any:
    """Return value as JSON can carry it: instants in ISO form, ids as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    return value
