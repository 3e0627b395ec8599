"""What tests are planned into, and what becomes of that."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import Boolean, ForeignKey, Index, Integer, text
from sqlalchemy.orm import Mapped, mapped_column

from controller.store.entities.base import Base, id_column, now_column


class _Scheduled:
    """The columns that say when a job is due, or was by one of its versions."""

    #: Microseconds; 0 with cron and for one-shot jobs.
    interval_us: Mapped[int]
    #: Grid origin with this job's phase in it, microseconds since the epoch; with cron the phase alone.
    anchor_us: Mapped[int]
    cron: Mapped[str] = mapped_column(server_default="")
    zone: Mapped[str] = mapped_column(server_default="UTC")
    windows: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    starts_at: Mapped[dt.datetime | None]
    ends_at: Mapped[dt.datetime | None]
    paused: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))


class Job(_Scheduled, Base):
    """One test, on one worker, to one destination."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(
            "uq_jobs_test_worker_destination_live",
            "test_id",
            "worker_id",
            text("coalesce(destination_id, 0)"),
            unique=True,
            postgresql_where=text("retired_at IS NULL AND NOT one_shot"),
        ),
        Index("ix_jobs_worker_id_live", "worker_id", postgresql_where=text("retired_at IS NULL")),
        Index(None, "test_id"),
    )

    id: Mapped[int] = id_column()
    test_id: Mapped[int] = mapped_column(ForeignKey("tests.id", ondelete="RESTRICT"))
    worker_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("workers.id", ondelete="RESTRICT"))
    destination_id: Mapped[int | None] = mapped_column(ForeignKey("destinations.id", ondelete="RESTRICT"))
    kind: Mapped[str]
    version: Mapped[int] = mapped_column(Integer, server_default="1")
    target: Mapped[str] = mapped_column(server_default="")
    spec: Mapped[dict[str, Any]]
    #: Run now, connectivity checks: one run, then retired.
    one_shot: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    expires_at: Mapped[dt.datetime | None]
    created_at: Mapped[dt.datetime] = now_column()
    updated_at: Mapped[dt.datetime] = now_column()
    retired_at: Mapped[dt.datetime | None]


class JobVersion(_Scheduled, Base):
    """How a job was scheduled for a time: what was due then stays known after every change.

    Written by planning in the transaction of the change. Retirement and coming back are changes too; a one-shot job
    that ends with its run is not closed, for it was due once whatever came of it. Removed once the results of its time
    have expired.
    """

    __tablename__ = "job_versions"
    __table_args__ = (Index(None, "valid_until"),)

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    valid_from: Mapped[dt.datetime] = now_column()
    #: NULL while it holds.
    valid_until: Mapped[dt.datetime | None]


class OverdueJob(Base):
    """A job of a connected worker whose due runs do not come although they should have; gone when they do."""

    __tablename__ = "overdue_jobs"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    #: The first instant that was due and of which, as of everything since, nothing has come; no more than 26 hours
    #: before that was noticed.
    due_at: Mapped[dt.datetime]
    noticed_at: Mapped[dt.datetime] = now_column()


class Backlog(Base):
    """A connected worker with more in its spool than one batch, and how well it gets rid of it."""

    __tablename__ = "backlogs"

    worker_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("workers.id", ondelete="CASCADE"), primary_key=True
    )
    #: The fewest records that it has told of in this session.
    least: Mapped[int]
    #: Since when there were never fewer.
    since: Mapped[dt.datetime]


class Mark(Base):
    """How far a task that looks at every stretch of time once has come."""

    __tablename__ = "marks"

    name: Mapped[str] = mapped_column(primary_key=True)
    until: Mapped[dt.datetime]


class Quarantine(Base):
    """A result that can never be stored, kept for people to look at; it was acknowledged."""

    __tablename__ = "quarantine"
    __table_args__ = (Index(None, "worker_id", "received_at"),)

    id: Mapped[int] = id_column()
    worker_id: Mapped[uuid.UUID]
    spool_id: Mapped[str]
    seq: Mapped[int]
    received_at: Mapped[dt.datetime] = now_column()
    reason: Mapped[str]
    #: The Result message as it came, its first 16 KiB.
    payload: Mapped[bytes]
