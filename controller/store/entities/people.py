"""Who may use the controller, and who has changed what."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import Boolean, CheckConstraint, ForeignKey, Index, Integer, func, text
from sqlalchemy.orm import Mapped, mapped_column

from controller.store.entities.base import Base, id_column, now_column


class User(Base):
    """A person who logs in."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("role IN ('admin', 'operator', 'viewer')", name="role"),
        Index("uq_users_name_lower", func.lower(text("name")), unique=True),
    )

    id: Mapped[int] = id_column()
    name: Mapped[str]
    email: Mapped[str | None]
    role: Mapped[str] = mapped_column(server_default="viewer")
    #: argon2id, in its PHC string form.
    password_hash: Mapped[str]
    active: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    #: Grows when the password changes or all sessions are ended: cookies carry it.
    session_generation: Mapped[int] = mapped_column(Integer, server_default="1")
    created_at: Mapped[dt.datetime] = now_column()
    last_login_at: Mapped[dt.datetime | None]
    #: IANA name of the zone in which instants are shown; empty is the browser's.
    zone: Mapped[str] = mapped_column(server_default="")
    #: How numbers are written; empty is the usual form.
    number_form: Mapped[str] = mapped_column(server_default="")


class LoginAttempt(Base):
    """A failed login, for lock-outs; kept for a day."""

    __tablename__ = "login_attempts"
    __table_args__ = (Index(None, "account", "at"), Index(None, "address", "at"))

    id: Mapped[int] = id_column()
    at: Mapped[dt.datetime] = now_column()
    #: Name as typed, in lower case, cut to 200 characters.
    account: Mapped[str]
    address: Mapped[str]


class LoginLink(Base):
    """A one-time link that logs a user in."""

    __tablename__ = "login_links"

    id: Mapped[int] = id_column()
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    #: SHA-256 of the token.
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    expires_at: Mapped[dt.datetime]
    used_at: Mapped[dt.datetime | None]
    created_at: Mapped[dt.datetime] = now_column()


class WebSession(Base):
    """A browser that is logged in, or was: its cookie is good for as long as this row says so."""

    __tablename__ = "web_sessions"
    __table_args__ = (Index(None, "user_id"), Index(None, "created_at"))

    #: SHA-256 of the random id in the cookie.
    id_hash: Mapped[bytes] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    created_at: Mapped[dt.datetime] = now_column()
    #: When a person last did something with it; written every half minute at the most.
    seen_at: Mapped[dt.datetime] = now_column()
    #: Set by the log-out.
    ended_at: Mapped[dt.datetime | None]


class ApiToken(Base):
    """A token for machines. The token itself is shown once and kept only as a hash."""

    __tablename__ = "api_tokens"
    __table_args__ = (CheckConstraint("scope IN ('admin', 'operator', 'viewer')", name="scope"),)

    id: Mapped[int] = id_column()
    name: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    scope: Mapped[str]
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    #: First characters, to tell tokens apart on the page.
    prefix: Mapped[str]
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    created_at: Mapped[dt.datetime] = now_column()
    expires_at: Mapped[dt.datetime | None]
    revoked_at: Mapped[dt.datetime | None]
    last_used_at: Mapped[dt.datetime | None]


class AuditEntry(Base):
    """Who changed what."""

    __tablename__ = "audit"
    __table_args__ = (Index(None, "at"),)

    id: Mapped[int] = id_column()
    at: Mapped[dt.datetime] = now_column()
    #: `user:<name>`, `token:<name>`, `development:<name>` (nobody had to log in) or `system`.
    actor: Mapped[str]
    address: Mapped[str] = mapped_column(server_default="")
    #: A verb and an object: `test.create`, `worker.revoke`, `login.failed`.
    action: Mapped[str]
    object_type: Mapped[str] = mapped_column(server_default="")
    object_id: Mapped[str] = mapped_column(server_default="")
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))


class RunTimeSetting(Base):
    """A setting that was changed while everything runs; what has no row has its default."""

    __tablename__ = "run_time_settings"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float]
    changed_at: Mapped[dt.datetime] = now_column()
    changed_by: Mapped[str]
