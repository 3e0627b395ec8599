"""Reports that were asked for."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import CheckConstraint, Index, Integer
from sqlalchemy.orm import Mapped, mapped_column

from controller.store.entities.base import Base, id_column, now_column


class Report(Base):
    """A report that was asked for, and its file once a keeper has made it."""

    __tablename__ = "reports"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'working', 'ready', 'failed')", name="state"),
        Index(None, "created_at"),
    )

    id: Mapped[int] = id_column()
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
    created_at: Mapped[dt.datetime] = now_column()
    finished_at: Mapped[dt.datetime | None]
    #: Then it is deleted.
    expires_at: Mapped[dt.datetime]
