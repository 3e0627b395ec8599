"""What diagnosis has learnt: one row a job and one an hour of its week."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import Computed, ForeignKey, Index, Integer, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from controller.store.entities.base import Base

# As PostgreSQL writes them, or the comparison of migrations and models sees others. Strict paths, since the others look into
# arrays by themselves, and a run is one.
_CALM = """needed = 0
AND COALESCE(reading @? 'strict $."runs"[0]'::jsonpath, false)
AND (NOT COALESCE(reading @? 'strict $."runs"[*]?(@[1] != "ok")'::jsonpath, false))
AND (NOT COALESCE(reading @? 'strict $."metrics"[*]?(@."state" == "called")'::jsonpath, false))"""
_NEWEST = """(jsonb_path_query_first(reading, '$."runs"[last][0]'::jsonpath))::bigint"""
_RANGES = (
    """jsonb_array_length(jsonb_path_query_array(reading, '$."metrics"[*]?(@."high" != null)'::jsonpath))"""
)


class DiagnosisState(Base):
    """How far a job's results were scored, and what was learnt from them. It can be dropped: it is learnt again."""

    __tablename__ = "diagnosis_states"
    __table_args__ = (Index(None, "looked_at"),)

    job_id: Mapped[int] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    #: Grows with each change, so that an answer that comes late does not overwrite what came meanwhile.
    version: Mapped[int] = mapped_column(Integer, server_default="0")
    #: What the job measured when this was learnt; another target or other parameters begin anew.
    fingerprint: Mapped[str] = mapped_column(server_default="")
    #: The `scheduled_at` of the last run that was scored; NULL before the first.
    position: Mapped[dt.datetime | None]
    #: When the keeper last looked for new results.
    looked_at: Mapped[dt.datetime | None]
    #: Runs that are still needed before the normal range is known.
    needed: Mapped[int] = mapped_column(Integer, server_default="0")
    #: The model, as `learning` dumps it: numbers, never code.
    model: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    #: What verdicts read of it.
    reading: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    #: Whether nothing in the reading speaks against the job: no run that is not ok, nothing called, all ranges known.
    calm: Mapped[bool] = mapped_column(Computed(_CALM, persisted=True))
    #: The newest run in the reading, microseconds since the epoch.
    newest_us: Mapped[int | None] = mapped_column(Computed(_NEWEST, persisted=True))
    #: Metrics in the reading whose normal range is known.
    ranges: Mapped[int] = mapped_column(Integer, Computed(_RANGES, persisted=True))


class DiagnosisSeason(Base):
    """What is usual for a job at one hour of the week."""

    __tablename__ = "diagnosis_seasons"

    job_id: Mapped[int] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    #: Hour of the week, 0 is Monday 00:00 UTC.
    slot: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    weeks: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
