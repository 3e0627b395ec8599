"""Workers, what they identify themselves with, and the controller's own processes, which hold their sessions."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from controller.store.entities.base import Base, id_column, now_column


class Worker(Base):
    """A worker daemon, enrolled or about to be."""

    __tablename__ = "workers"
    __table_args__ = (
        Index(None, "gateway_id"),
        Index(
            "uq_workers_host_name_live", "host_name", unique=True, postgresql_where=text("deleted_at IS NULL")
        ),
        # Few of thousands, whose announcements nobody has to look through for them.
        Index(
            "ix_workers_unavailable",
            "id",
            postgresql_where=text("jsonb_path_exists(kinds, '$.* ? (!(@.available == true))')"),
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    name: Mapped[str]
    #: Name of its host in the inventory.
    host_name: Mapped[str]
    site: Mapped[str] = mapped_column(server_default="")
    labels: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    groups: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    version: Mapped[str] = mapped_column(server_default="")
    contract_version: Mapped[int] = mapped_column(Integer, server_default="0")
    instance_id: Mapped[str] = mapped_column(server_default="")
    boot_id: Mapped[str] = mapped_column(server_default="")
    facts: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    policy: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    #: What provisioning said last that its policy shall be; NULL where nobody ever did.
    intended_policy: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    #: `{kind: {available, reason, mend}}` as announced.
    kinds: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    #: Grows with each Hello; the newest stream wins.
    session_epoch: Mapped[int] = mapped_column(server_default="0")
    #: Gateway that holds the session; NULL when none does.
    gateway_id: Mapped[int | None] = mapped_column(ForeignKey("processes.id", ondelete="SET NULL"))
    connected_at: Mapped[dt.datetime | None]
    disconnected_at: Mapped[dt.datetime | None]
    last_seen_at: Mapped[dt.datetime | None]
    #: Watermark: everything up to `acked_seq` of that spool is stored.
    spool_id: Mapped[str] = mapped_column(server_default="")
    acked_seq: Mapped[int] = mapped_column(server_default="0")
    spool_records: Mapped[int] = mapped_column(server_default="0")
    spool_alarm: Mapped[str] = mapped_column(server_default="")
    #: What the worker said last is wrong with its host's access to the network.
    vantage_alarm: Mapped[str] = mapped_column(server_default="")
    clock_offset_ms: Mapped[float | None]
    #: Results that came when they were to be kept no longer, and were not stored; and when the last did.
    results_expired: Mapped[int] = mapped_column(server_default="0")
    results_expired_at: Mapped[dt.datetime | None]
    #: Grows in the transaction that changes this worker's jobs.
    jobs_revision: Mapped[int] = mapped_column(server_default="0")
    #: The revision that the worker last said it runs.
    jobs_applied: Mapped[int] = mapped_column(server_default="0")
    #: When its jobs were last planned because it announced other kinds.
    replanned_at: Mapped[dt.datetime | None]
    #: What its jobs are planned by: `{contract, kinds}` with the kinds that it can run, as it announced them when that was last
    #: taken over; NULL before the first time.
    ability: Mapped[dict[str, Any] | None]
    ability_at: Mapped[dt.datetime | None]
    #: How often that has changed since it last stood for a day.
    ability_changes: Mapped[int] = mapped_column(Integer, server_default="0")
    created_at: Mapped[dt.datetime] = now_column()
    enrolled_at: Mapped[dt.datetime | None]
    revoked_at: Mapped[dt.datetime | None]
    deleted_at: Mapped[dt.datetime | None]
    #: When it was deleted with its data: results that still come are acknowledged and not stored.
    data_deleted_at: Mapped[dt.datetime | None]
    #: When the last of its data had gone.
    data_removed_at: Mapped[dt.datetime | None]


class Drain(Base):
    """A time in which a worker is out of service, by somebody's order: stopped on its host until it is resumed."""

    __tablename__ = "drains"
    __table_args__ = (
        Index("uq_drains_worker_id_open", "worker_id", unique=True, postgresql_where=text("until IS NULL")),
    )

    worker_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("workers.id", ondelete="CASCADE"), primary_key=True
    )
    since: Mapped[dt.datetime] = mapped_column(primary_key=True, server_default=text("now()"))
    #: When it was put into service again, or a session of it began that can measure; NULL while it is drained.
    until: Mapped[dt.datetime | None]
    #: On whose behalf: `user:<name>`, `token:<name>` or `system`.
    made_by: Mapped[str]


class WorkerRelease(Base):
    """From which session on a worker had which release; the newest are kept."""

    __tablename__ = "worker_releases"

    worker_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("workers.id", ondelete="CASCADE"), primary_key=True
    )
    since: Mapped[dt.datetime] = mapped_column(primary_key=True)
    version: Mapped[str]


class Certificate(Base):
    """A certificate issued to a worker. Only listed, unrevoked serials are heard."""

    __tablename__ = "certificates"
    __table_args__ = (Index(None, "worker_id"),)

    #: Serial number in lower-case hexadecimal.
    serial: Mapped[str] = mapped_column(primary_key=True)
    worker_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("workers.id", ondelete="CASCADE"))
    not_before: Mapped[dt.datetime]
    not_after: Mapped[dt.datetime]
    issued_at: Mapped[dt.datetime] = now_column()
    #: First session with it; then older serials of the worker are superseded.
    first_used_at: Mapped[dt.datetime | None]
    superseded_at: Mapped[dt.datetime | None]
    revoked_at: Mapped[dt.datetime | None]


class TrustedRoot(Base):
    """A root certificate of this installation. Workers trust no other, so no process works with another."""

    __tablename__ = "trusted_roots"

    #: SHA-256 of the certificate, in lower-case hexadecimal.
    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    #: Host whose data folder has it.
    host_name: Mapped[str]
    registered_at: Mapped[dt.datetime] = now_column()


class EnrolmentToken(Base):
    """A one-time token that lets one host enrol."""

    __tablename__ = "enrolment_tokens"

    id: Mapped[int] = id_column()
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    host_name: Mapped[str]
    site: Mapped[str] = mapped_column(server_default="")
    labels: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    groups: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    created_by: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[dt.datetime] = now_column()
    expires_at: Mapped[dt.datetime]
    used_at: Mapped[dt.datetime | None]


class Process(Base):
    """A running controller process, for health and for knowing whose sessions are alive."""

    __tablename__ = "processes"
    __table_args__ = (CheckConstraint("role IN ('gateway', 'keeper', 'web')", name="role"),)

    id: Mapped[int] = id_column()
    role: Mapped[str]
    name: Mapped[str]
    host_name: Mapped[str]
    pid: Mapped[int]
    version: Mapped[str]
    started_at: Mapped[dt.datetime] = now_column()
    heartbeat_at: Mapped[dt.datetime] = now_column()
    stopped_at: Mapped[dt.datetime | None]
    #: Gauges of the process: sessions, queue lengths, loop lag.
    gauges: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
