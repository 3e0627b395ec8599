"""What upkeep of the results remembers: late buckets, how far roll-ups are, what has expired, which days are rewritten.

No other entity refers to these; the keepers' tasks and the gateways do.
"""

from __future__ import annotations

import datetime as dt

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, Integer, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from controller.store.entities.base import Base, now_column

#: Stands for the results themselves where layers are named.
RAW = "raw"


class DirtyBucket(Base):
    """A stretch of time that was closed when a result of it came, and has to be rolled up again.

    Rows are only ever added and removed, never shared: a mark that two transactions wrote into one row could be
    taken away by a roll-up that has seen the result of only one of them.
    """

    __tablename__ = "dirty_buckets"
    __table_args__ = (Index(None, "kind", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    kind: Mapped[str]
    job_id: Mapped[int]
    #: Where the five minutes begin.
    bucket: Mapped[dt.datetime]


class RollupFrontier(Base):
    """How far a kind's results are rolled up into one layer."""

    __tablename__ = "rollup_frontiers"

    kind: Mapped[str] = mapped_column(primary_key=True)
    layer: Mapped[str] = mapped_column(primary_key=True)
    #: Buckets that end by then are complete, but for those that are marked as dirty.
    done_until: Mapped[dt.datetime]
    #: End of the step under way, and the last job that it has done; NULL and 0 between steps.
    step_until: Mapped[dt.datetime | None]
    step_job: Mapped[int] = mapped_column(server_default="0")


class PassedOver(Base):
    """A stretch of one job that is not rolled up into a layer, as it takes longer than a statement may."""

    __tablename__ = "passed_over"
    __table_args__ = (Index(None, "kind", "job_id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    kind: Mapped[str]
    layer: Mapped[str]
    job_id: Mapped[int]
    #: Whole buckets: [start, end).
    start: Mapped[dt.datetime]
    end: Mapped[dt.datetime]
    #: When it was tried last.
    tried_at: Mapped[dt.datetime] = now_column()


class UpkeepTrouble(Base):
    """A task of the upkeep that the database refuses for one kind, while the others go on."""

    __tablename__ = "upkeep_troubles"

    #: `roll_up` or `expire`.
    task: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    #: When it failed first since it last succeeded.
    since: Mapped[dt.datetime] = now_column()
    #: What the database said last.
    reason: Mapped[str]
    #: How often it has failed since.
    times: Mapped[int] = mapped_column(Integer, server_default="1")


class UpkeepClock(Base):
    """The time that removal goes by, in the one row that there is."""

    __tablename__ = "upkeep_clock"
    __table_args__ = (CheckConstraint("id = 1", name="one"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    #: The latest time that is believed to have come.
    reached: Mapped[dt.datetime]


class Expiry(Base):
    """What of a kind was removed for its age."""

    __tablename__ = "expiries"

    kind: Mapped[str] = mapped_column(primary_key=True)
    #: `raw` or the name of a roll-up layer.
    layer: Mapped[str] = mapped_column(primary_key=True)
    #: Nothing due before then is sure to be there; of results, what comes of it is stored only where it is still to be kept.
    gone_before: Mapped[dt.datetime]


class RewrittenPartition(Base):
    """A day of a result table that was, or is being, rewritten in the order of its key."""

    __tablename__ = "rewritten_partitions"

    #: Name of the partition.
    name: Mapped[str] = mapped_column(primary_key=True)
    #: Grows with each attempt, and with whatever makes an attempt under way invalid; only the newest may swap.
    attempt: Mapped[int] = mapped_column(Integer, server_default="0")
    #: When the rewritten day took its place; NULL before the first time.
    rewritten_at: Mapped[dt.datetime | None]
    #: Rows that it had then.
    row_count: Mapped[int | None]
    #: Size of its table then, without the key; what has grown much since is rewritten again.
    size_bytes: Mapped[int | None]
