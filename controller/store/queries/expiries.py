"""What of the results has expired."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from controller.store.entities.upkeep import RAW, Expiry


def results_gone(connection: Connection) -> list[tuple[str, dt.datetime]]:
    """Return before which instant the results of each kind are gone, of kinds of which any are."""
    rows = connection.execute(
        select(Expiry.kind, Expiry.gone_before).where(Expiry.layer == RAW).order_by(Expiry.kind)
    )
    return [(row.kind, row.gone_before) for row in rows]


def counted_from(session: Session, kind: str, start: dt.datetime) -> dt.datetime:
    """Return from when on results of a kind are still there, not before `start`."""
    gone_before = session.scalar(select(Expiry.gone_before).where(Expiry.kind == kind, Expiry.layer == RAW))
    return start if gone_before is None else max(start, gone_before)
