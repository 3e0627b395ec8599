"""What of the upkeep stands still: kinds whose results cannot be rolled up or thinned out, and since when.

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
from controller.store.entities.upkeep import RollupFrontier, UpkeepTrouble
from controller.store.rollups import FIVE_MINUTES

Task = Literal["roll_up", "expire"]

#: Roll-ups come some minutes after the results; when they are so far behind, something holds them up.
BEHIND = dt.timedelta(hours=1)
#: What is to be done about any of them.
MEND = (
    "see the keepers' log for what PostgreSQL refuses; until it is mended, results are kept beyond their time"
)
#: Characters that are kept of what the database says: it may quote whole rows.
_LONGEST_REASON = 300
_WORDS: dict[Task, str] = {"roll_up": "rolled up", "expire": "thinned out"}


@dataclass(frozen=True, kw_only=True)
class Standstill:
    """One kind for which a task of the upkeep does not go on."""

    task: Task
    kind: str
    since: dt.datetime
    #: What the database says; empty when nothing is known but how far the task has come.
    reason: str

    @property
    def text(self) -> str:
        """What is so, in one line."""
        at = f"{self.since:%Y-%m-%d %H:%M} UTC"
        if self.reason:
            return f"{self.kind} cannot be {_WORDS[self.task]} since {at}: {self.reason}"
        return f"{self.kind} is rolled up until {at} only"


def read(connection: Connection) -> tuple[Standstill, ...]:
    """Return what stands still, by kind."""
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
