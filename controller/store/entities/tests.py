"""What users define: destinations, and tests of them."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from controller.store.entities.base import Base, id_column, now_column

test_destinations = Table(
    "test_destinations",
    Base.metadata,
    Column("test_id", BigInteger, ForeignKey("tests.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "destination_id", BigInteger, ForeignKey("destinations.id", ondelete="RESTRICT"), primary_key=True
    ),
    Index("ix_test_destinations_destination_id", "destination_id"),
)


class Destination(Base):
    """What is tested: host, address or URL."""

    __tablename__ = "destinations"
    __table_args__ = (
        Index(
            "uq_destinations_name_live",
            func.lower(text("name")),
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
    )

    id: Mapped[int] = id_column()
    name: Mapped[str]
    #: Host, host:port or URL; checked against the kind when a test takes it.
    address: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    tags: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    version: Mapped[int] = mapped_column(Integer, server_default="1")
    created_at: Mapped[dt.datetime] = now_column()
    updated_at: Mapped[dt.datetime] = now_column()
    deleted_at: Mapped[dt.datetime | None]


class Test(Base):
    """What the user defines: kind, parameters, destinations, workers, schedule."""

    __test__ = False  # keeps pytest from taking it for a test class
    __tablename__ = "tests"
    __table_args__ = (
        CheckConstraint("interval_s IS NULL OR (interval_s >= 0.1 AND cron = '')", name="interval"),
        CheckConstraint("recurrence IN ('continue', 'new_test')", name="recurrence"),
        Index(None, "origin_id", "origin_at", unique=True),
        # What upkeep looks for again and again, among many tests that ran once.
        Index("ix_tests_unplanned", "id", postgresql_where=text("planned_version <> version")),
        Index(
            "ix_tests_repeating",
            "id",
            postgresql_where=text("deleted_at IS NULL AND (interval_s IS NOT NULL OR cron <> '')"),
        ),
        Index(
            "ix_tests_once",
            func.coalesce(text("starts_at"), text("created_at")),
            postgresql_where=text("deleted_at IS NULL AND interval_s IS NULL AND cron = ''"),
        ),
        Index(
            "uq_tests_name_live",
            func.lower(text("name")),
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
    )

    id: Mapped[int] = id_column()
    name: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    kind: Mapped[str]
    #: Parameters with defaults filled in, as `contract.spec_values` gives them.
    spec: Mapped[dict[str, Any]]
    #: Which workers: `{"all": true}`, or any of `workers` (ids), `sites`, `groups`, `labels` ({key: value}); a
    #: worker that any of them names is taken.
    selection: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{\"all\": true}'::jsonb"))
    tags: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    #: Seconds between runs; NULL with cron, and for a one-shot test, due at `starts_at` or at once.
    interval_s: Mapped[float | None]
    #: Five fields; empty without.
    cron: Mapped[str] = mapped_column(server_default="")
    #: IANA name; in which cron and windows are meant.
    zone: Mapped[str] = mapped_column(server_default="UTC")
    #: Hours of the week outside of which nothing is due: `[{days, from, to}]`; empty is always.
    windows: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    starts_at: Mapped[dt.datetime | None]
    ends_at: Mapped[dt.datetime | None]
    #: It ends after so many due instants, counted from its start; NULL is without end.
    max_runs: Mapped[int | None] = mapped_column(Integer)
    #: `continue`, or `new_test`: each due instant makes a one-shot test of its own.
    recurrence: Mapped[str] = mapped_column(server_default="continue")
    #: The test that made this one, and the instant for which it did.
    origin_id: Mapped[int | None] = mapped_column(ForeignKey("tests.id", ondelete="RESTRICT"))
    origin_at: Mapped[dt.datetime | None]
    paused: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    #: Grows with each change; carried by jobs and results.
    version: Mapped[int] = mapped_column(Integer, server_default="1")
    #: The version that the jobs were last planned from.
    planned_version: Mapped[int] = mapped_column(Integer, server_default="0")
    created_by: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[dt.datetime] = now_column()
    updated_at: Mapped[dt.datetime] = now_column()
    deleted_at: Mapped[dt.datetime | None]
    #: When it was deleted with its data: results that still come are acknowledged and not stored.
    data_deleted_at: Mapped[dt.datetime | None]
    #: When the last of its data had gone.
    data_removed_at: Mapped[dt.datetime | None]

    destinations: Mapped[list[Destination]] = relationship(
        secondary=test_destinations, lazy="selectin", order_by=Destination.id
    )
