"""Operations on the fleet: each run of a playbook, the hosts it works on, and what happened."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import BigInteger, Boolean, CheckConstraint, ForeignKey, Index, Integer, text
from sqlalchemy.orm import Mapped, mapped_column

from controller.store.entities.base import Base, id_column, now_column


class Operation(Base):
    """One run of a playbook on hosts of the inventory, asked for, under way or over."""

    __tablename__ = "operations"
    __table_args__ = (
        CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'interrupted')", name="state"
        ),
        Index(None, "created_at"),
        # The few that are not over are looked for again and again.
        Index("ix_operations_open", "id", postgresql_where=text("state IN ('queued', 'running')")),
        Index("ix_operations_part_of", "part_of", postgresql_where=text("part_of IS NOT NULL")),
    )

    id: Mapped[int] = id_column()
    #: `provision`, `remove`, `verify`, …: which playbook.
    kind: Mapped[str]
    #: The operation that this one belongs to: a keeper's upgrade, or the first step of one over the command line.
    part_of: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("operations.id", ondelete="SET NULL"))
    #: `{"limit": pattern, "check": bool, "forks": number, "options": {…}}`; never a secret.
    parameters: Mapped[dict[str, Any]]
    #: Whether it only says what would change.
    check_only: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    #: Whether a keeper runs it; otherwise a command line does, and tells of it.
    by_keeper: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    state: Mapped[str] = mapped_column(server_default="queued")
    #: Grows with each change of the state; who runs it changes nothing any more once somebody else has.
    version: Mapped[int] = mapped_column(Integer, server_default="1")
    made_by: Mapped[str] = mapped_column(server_default="")
    #: Who asked for its end before it was over; empty when nobody did.
    cancelled_by: Mapped[str] = mapped_column(server_default="")
    #: Why it is not succeeded, and what to do about it.
    error: Mapped[str] = mapped_column(server_default="")
    mend: Mapped[str] = mapped_column(server_default="")
    #: Events that were told, also those beyond what is kept.
    event_count: Mapped[int] = mapped_column(Integer, server_default="0")
    created_at: Mapped[dt.datetime] = now_column()
    started_at: Mapped[dt.datetime | None]
    #: When who runs it was last heard of.
    beat_at: Mapped[dt.datetime | None]
    finished_at: Mapped[dt.datetime | None]
    #: What was judged, as `Figure` has it; of a `judge` only.
    figures: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"), deferred=True)


class OperationHost(Base):
    """One host of an operation, and how far it is."""

    __tablename__ = "operation_hosts"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'working', 'ok', 'failed', 'unreachable')", name="state"),
        Index(None, "host"),
    )

    operation_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("operations.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    #: Its name in the inventory.
    host: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(server_default="waiting")
    #: The task under way, or the last one.
    task: Mapped[str] = mapped_column(server_default="")
    #: Tasks that changed something.
    changed: Mapped[int] = mapped_column(Integer, server_default="0")
    #: Why it failed, or what there is to say about it.
    message: Mapped[str] = mapped_column(server_default="")
    updated_at: Mapped[dt.datetime] = now_column()


class OperationEvent(Base):
    """One task that has ended on one host. What was skipped or changed nothing is not kept here."""

    __tablename__ = "operation_events"

    operation_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("operations.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    #: 1, 2, 3 … within the operation.
    sequence: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at: Mapped[dt.datetime] = now_column()
    host: Mapped[str]
    task: Mapped[str]
    #: `ok`, `changed`, `failed` or `unreachable`.
    state: Mapped[str]
    message: Mapped[str] = mapped_column(server_default="")
