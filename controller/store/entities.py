"""The entities: what the controller keeps beside results.

Times are UTC instants (`timestamptz`). Rows that workers, tests and jobs hang on are never deleted while results
refer to them; they are marked `deleted_at` or `retired_at` instead, so that late results still find their job.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """All entities share one MetaData; the result tables join it in `controller.store.results`."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012  SQLAlchemy reads it from the class
        dt.datetime: DateTime(timezone=True),
        str: Text(),
        int: BigInteger(),
        float: Double(),
        uuid.UUID: UUID(as_uuid=True),
        bytes: LargeBinary(),
        dict[str, Any]: JSONB(),
        list[Any]: JSONB(),
    }


def _id() -> Mapped[int]:
    return mapped_column(BigInteger, Identity(always=True), primary_key=True)


def _now() -> Mapped[dt.datetime]:
    return mapped_column(server_default=func.now())


class User(Base):
    """A person who logs in."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("role IN ('admin', 'operator', 'viewer')", name="role"),
        Index("uq_users_name_lower", func.lower(text("name")), unique=True),
    )

    id: Mapped[int] = _id()
    name: Mapped[str]
    email: Mapped[str | None]
    role: Mapped[str] = mapped_column(server_default="viewer")
    #: argon2id, in its PHC string form.
    password_hash: Mapped[str]
    active: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    #: Grows when the password changes or all sessions are ended: cookies carry it.
    session_generation: Mapped[int] = mapped_column(Integer, server_default="1")
    created_at: Mapped[dt.datetime] = _now()
    last_login_at: Mapped[dt.datetime | None]


class LoginAttempt(Base):
    """A failed login, for lock-outs; kept for a day."""

    __tablename__ = "login_attempts"
    __table_args__ = (Index(None, "account", "at"), Index(None, "address", "at"))

    id: Mapped[int] = _id()
    at: Mapped[dt.datetime] = _now()
    #: Name as typed, in lower case, cut to 200 characters.
    account: Mapped[str]
    address: Mapped[str]


class LoginLink(Base):
    """A one-time link that logs a user in."""

    __tablename__ = "login_links"

    id: Mapped[int] = _id()
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    #: SHA-256 of the token.
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    expires_at: Mapped[dt.datetime]
    used_at: Mapped[dt.datetime | None]
    created_at: Mapped[dt.datetime] = _now()


class WebSession(Base):
    """A browser that is logged in, or was: its cookie is good for as long as this row says so."""

    __tablename__ = "web_sessions"
    __table_args__ = (Index(None, "user_id"), Index(None, "created_at"))

    #: SHA-256 of the random id in the cookie.
    id_hash: Mapped[bytes] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    created_at: Mapped[dt.datetime] = _now()
    #: When a person last did something with it; written every half minute at the most.
    seen_at: Mapped[dt.datetime] = _now()
    #: Set by the log-out.
    ended_at: Mapped[dt.datetime | None]


class ApiToken(Base):
    """A token for machines. The token itself is shown once and kept only as a hash."""

    __tablename__ = "api_tokens"
    __table_args__ = (CheckConstraint("scope IN ('admin', 'operator', 'viewer')", name="scope"),)

    id: Mapped[int] = _id()
    name: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    scope: Mapped[str]
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    #: First characters, to tell tokens apart on the page.
    prefix: Mapped[str]
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    created_at: Mapped[dt.datetime] = _now()
    expires_at: Mapped[dt.datetime | None]
    revoked_at: Mapped[dt.datetime | None]
    last_used_at: Mapped[dt.datetime | None]


class Worker(Base):
    """A worker daemon, enrolled or about to be."""

    __tablename__ = "workers"
    __table_args__ = (
        Index(None, "gateway_id"),
        Index(
            "uq_workers_host_name_live", "host_name", unique=True, postgresql_where=text("deleted_at IS NULL")
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
    clock_offset_ms: Mapped[float | None]
    #: Grows in the transaction that changes this worker's jobs.
    jobs_revision: Mapped[int] = mapped_column(server_default="0")
    #: The revision that the worker last said it runs.
    jobs_applied: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[dt.datetime] = _now()
    enrolled_at: Mapped[dt.datetime | None]
    revoked_at: Mapped[dt.datetime | None]
    deleted_at: Mapped[dt.datetime | None]


class Certificate(Base):
    """A certificate issued to a worker. Only listed, unrevoked serials are heard."""

    __tablename__ = "certificates"
    __table_args__ = (Index(None, "worker_id"),)

    #: Serial number in lower-case hexadecimal.
    serial: Mapped[str] = mapped_column(primary_key=True)
    worker_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("workers.id", ondelete="CASCADE"))
    not_before: Mapped[dt.datetime]
    not_after: Mapped[dt.datetime]
    issued_at: Mapped[dt.datetime] = _now()
    #: First session with it; then older serials of the worker are superseded.
    first_used_at: Mapped[dt.datetime | None]
    superseded_at: Mapped[dt.datetime | None]
    revoked_at: Mapped[dt.datetime | None]


class EnrolmentToken(Base):
    """A one-time token that lets one host enrol."""

    __tablename__ = "enrolment_tokens"

    id: Mapped[int] = _id()
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    host_name: Mapped[str]
    site: Mapped[str] = mapped_column(server_default="")
    labels: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    groups: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    created_by: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[dt.datetime] = _now()
    expires_at: Mapped[dt.datetime]
    used_at: Mapped[dt.datetime | None]


class Process(Base):
    """A running controller process, for health and for knowing whose sessions are alive."""

    __tablename__ = "processes"
    __table_args__ = (CheckConstraint("role IN ('gateway', 'keeper', 'web')", name="role"),)

    id: Mapped[int] = _id()
    role: Mapped[str]
    name: Mapped[str]
    host_name: Mapped[str]
    pid: Mapped[int]
    version: Mapped[str]
    started_at: Mapped[dt.datetime] = _now()
    heartbeat_at: Mapped[dt.datetime] = _now()
    stopped_at: Mapped[dt.datetime | None]
    #: Gauges of the process: sessions, queue lengths, loop lag.
    gauges: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))


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

    id: Mapped[int] = _id()
    name: Mapped[str]
    #: Host, host:port or URL; checked against the kind when a test takes it.
    address: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    tags: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    version: Mapped[int] = mapped_column(Integer, server_default="1")
    created_at: Mapped[dt.datetime] = _now()
    updated_at: Mapped[dt.datetime] = _now()
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

    id: Mapped[int] = _id()
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
    created_at: Mapped[dt.datetime] = _now()
    updated_at: Mapped[dt.datetime] = _now()
    deleted_at: Mapped[dt.datetime | None]
    #: When it was deleted with its data: results that still come are acknowledged and not stored.
    data_deleted_at: Mapped[dt.datetime | None]
    #: When the last of its data had gone.
    data_removed_at: Mapped[dt.datetime | None]

    destinations: Mapped[list[Destination]] = relationship(
        secondary=test_destinations, lazy="selectin", order_by=Destination.id
    )


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

    id: Mapped[int] = _id()
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
    created_at: Mapped[dt.datetime] = _now()
    updated_at: Mapped[dt.datetime] = _now()
    retired_at: Mapped[dt.datetime | None]


class JobVersion(_Scheduled, Base):
    """How a job was scheduled for a time: what was due then stays known after every change.

    Written by planning in the transaction of the change. Retirement and coming back are changes too; a one-shot job
    that ends with its run is not closed, for it was due once whatever came of it.
    """

    __tablename__ = "job_versions"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    valid_from: Mapped[dt.datetime] = _now()
    #: NULL while it holds.
    valid_until: Mapped[dt.datetime | None]


class OverdueJob(Base):
    """A job of a connected worker whose due runs do not come although they should have; gone when they do."""

    __tablename__ = "overdue_jobs"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    #: The first instant that was due and of which, as of everything since, nothing has come.
    due_at: Mapped[dt.datetime]
    noticed_at: Mapped[dt.datetime] = _now()


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

    id: Mapped[int] = _id()
    worker_id: Mapped[uuid.UUID]
    spool_id: Mapped[str]
    seq: Mapped[int]
    received_at: Mapped[dt.datetime] = _now()
    reason: Mapped[str]
    #: The Result message as it came, its first 16 KiB.
    payload: Mapped[bytes]


class Report(Base):
    """A report that was asked for, and its file once a keeper has made it."""

    __tablename__ = "reports"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'working', 'ready', 'failed')", name="state"),
        Index(None, "created_at"),
    )

    id: Mapped[int] = _id()
    state: Mapped[str] = mapped_column(server_default="waiting")
    #: Names of its tests when it was asked for, for lists and file names.
    title: Mapped[str]
    #: `{"tests": [ids], "from": instant, "to": instant}`.
    request: Mapped[dict[str, Any]]
    made_by: Mapped[str] = mapped_column(server_default="")
    #: Grows with each keeper that takes it up; only the newest may finish it.
    attempt: Mapped[int] = mapped_column(Integer, server_default="0")
    #: What is being done, in words.
    progress: Mapped[str] = mapped_column(server_default="")
    #: Why it failed, and what to do about it.
    error: Mapped[str] = mapped_column(server_default="")
    mend: Mapped[str] = mapped_column(server_default="")
    #: The PDF.
    file: Mapped[bytes | None]
    size: Mapped[int | None]
    #: SHA-256 of the file, hexadecimal.
    sha256: Mapped[str | None]
    created_at: Mapped[dt.datetime] = _now()
    finished_at: Mapped[dt.datetime | None]
    #: Then it is deleted.
    expires_at: Mapped[dt.datetime]


class AuditEntry(Base):
    """Who changed what."""

    __tablename__ = "audit"
    __table_args__ = (Index(None, "at"),)

    id: Mapped[int] = _id()
    at: Mapped[dt.datetime] = _now()
    #: `user:<name>`, `token:<name>` or `system`.
    actor: Mapped[str]
    address: Mapped[str] = mapped_column(server_default="")
    #: A verb and an object: `test.create`, `worker.revoke`, `login.failed`.
    action: Mapped[str]
    object_type: Mapped[str] = mapped_column(server_default="")
    object_id: Mapped[str] = mapped_column(server_default="")
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
