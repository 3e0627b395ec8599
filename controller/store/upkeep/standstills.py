"""What of the upkeep stands still: kinds whose results cannot be rolled up or thinned out, since when, and single jobs.

Keepers note a task that the database refuses for a kind, and remove the note when it succeeds; what has failed once may
go well the next time. Whatever else holds roll-ups up shows in how far they have come.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from controller.store import results
from controller.store.entities.upkeep import PassedOver, RollupFrontier, UpkeepTrouble
from controller.store.rollups import FIVE_MINUTES

Task = Literal["roll_up", "expire"]

#: Roll-ups come some minutes after the results; when they are so far behind, something holds them up.
BEHIND = dt.timedelta(hours=1)
#: What is to be done about a kind that stands still.
_MEND = (
    "see the keepers' log for what PostgreSQL refuses; until it is mended, results are kept beyond their time"
)
#: Characters that are kept of what the database says: it may quote whole rows.
_LONGEST_REASON = 300
#: And about jobs of which stretches are passed over.
_MEND_OF_JOB = (
    "see what its worker does, whose results are far too many, or whether PostgreSQL is too busy; each is tried again after an "
    "hour, and the other jobs are rolled up"
)
_WORDS: dict[Task, str] = {"roll_up": "rolled up", "expire": "thinned out"}


@dataclass(frozen=True, kw_only=True)
class Standstill:
    """One kind for which a task of the upkeep does not go on."""

    task: Task
    kind: str
    since: dt.datetime
    #: What the database says; empty when nothing is known but how far the task has come.
    reason: str
    mend: str = _MEND

    @property
    def text(self) -> str:
        """What is so, in one line."""
        at = f"{self.since:%Y-%m-%d %H:%M} UTC"
        if self.reason:
            return f"{self.kind} cannot be {_WORDS[self.task]} since {at}: {self.reason}"
        return f"{self.kind} is rolled up until {at} only"


@dataclass(frozen=True, kw_only=True)
class JobStandstill:
    """A job of which stretches are not rolled up, while the others of its kind are."""

    kind: str
    job_id: int
    stretches: int
    start: dt.datetime
    end: dt.datetime
    mend: str = _MEND_OF_JOB

    @property
    def text(self) -> str:
        """What is so, in one line."""
        count = "a stretch" if self.stretches == 1 else f"{self.stretches} stretches"
        return (
            f"{self.kind} of job {self.job_id} is not rolled up in {count} between {self.start:%Y-%m-%d %H:%M} and "
            f"{self.end:%Y-%m-%d %H:%M} UTC: it takes longer than a statement may"
        )


def read_jobs(connection: Connection) -> tuple[JobStandstill, ...]:
    """Return the jobs of which stretches are passed over, by kind."""
    rows = connection.execute(
        select(
            PassedOver.kind,
            PassedOver.job_id,
            func.count().label("stretches"),
            func.min(PassedOver.start).label("start"),
            func.max(PassedOver.end).label("end"),
        )
        .group_by(PassedOver.kind, PassedOver.job_id)
        .order_by(PassedOver.kind, PassedOver.job_id)
    )
    return tuple(JobStandstill(**row._mapping) for row in rows)


def read(connection: Connection) -> tuple[Standstill, ...]:
    """Return the kinds that stand still."""
    found = {
        (row.kind, row.task): Standstill(task=row.task, kind=row.kind, since=row.since, reason=row.reason)
        for row in connection.execute(select(UpkeepTrouble.__table__).where(UpkeepTrouble.times > 1))
    }
    behind = select(RollupFrontier.kind, RollupFrontier.done_until).where(
        RollupFrontier.layer == FIVE_MINUTES.name, RollupFrontier.done_until < func.now() - BEHIND
    )
    for row in connection.execute(behind):
        found.setdefault(
            (row.kind, "roll_up"),
            Standstill(task="roll_up", kind=row.kind, since=row.done_until, reason=""),
        )
    # A kind of a newer release is that release's keepers' matter.
    return tuple(found[key] for key in sorted(found) if key[0] in results.kinds())


def noted(connection: Connection, task: Task) -> set[str]:
    """Return the kinds for which a task is noted to fail."""
    return set(connection.scalars(select(UpkeepTrouble.kind).where(UpkeepTrouble.task == task)))


def note(connection: Connection, task: Task, kind: str, reason: str) -> None:
    """Note that a task has failed for a kind; the first failure's time stands."""
    row = insert(UpkeepTrouble).values(task=task, kind=kind, reason=reason[:_LONGEST_REASON])
    again = {"reason": row.excluded.reason, "times": UpkeepTrouble.times + 1}
    connection.execute(row.on_conflict_do_update(index_elements=["task", "kind"], set_=again))


def forget(connection: Connection, task: Task, kind: str) -> None:
    """Note that a task has succeeded for a kind."""
    connection.execute(delete(UpkeepTrouble).where(UpkeepTrouble.task == task, UpkeepTrouble.kind == kind))
