"""What whoever runs an operation on the fleet tells of it, and is told in return."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass

from controller.printable import printable

#: How a task ended, or that it has begun.
TASK_STATES = ("started", "ok", "changed", "skipped", "failed", "unreachable")
#: How a host came out of an operation.
OUTCOMES = ("ok", "failed", "unreachable")
#: How an operation ends when who runs it lives.
ENDS = ("succeeded", "failed", "cancelled", "interrupted")
#: Longest message that is kept, characters.
LONGEST_MESSAGE = 2000
_CUT = " […] "


class Standing(enum.StrEnum):
    """What whoever runs an operation is told when it tells of it."""

    #: All is well.
    GOES_ON = "goes_on"
    #: Somebody asked for its end.
    CANCELLED = "cancelled"
    #: It is no more the caller's: it was taken for dead, or it is over or gone.
    LOST = "lost"


@dataclass(frozen=True, kw_only=True)
class TaskNote:
    """One task on one host that has begun or ended, or something that is said of the whole operation."""

    #: Empty for the whole.
    host: str
    task: str
    #: One of `TASK_STATES`.
    state: str
    message: str = ""
    at: dt.datetime


@dataclass(frozen=True, kw_only=True)
class HostNote:
    """How a host came out of an operation."""

    host: str
    #: One of `OUTCOMES`.
    state: str
    #: Tasks that changed something.
    changed: int
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What one quantity was before an upgrade and since, on the hosts with the release and on those without it."""

    #: The kind of the tests, and of which it is: a host, or a host's test to a destination; empty for all of the kind.
    kind: str
    where: str = ""
    #: For people: `RTT average`.
    quantity: str
    unit: str
    before: float
    after: float
    #: Hosts without the release that measured the same, and what they did; None where there are none.
    others: int = 0
    others_before: float | None = None
    others_after: float | None = None
    #: Whether it speaks against the release.
    worse: bool = False


#: Figures that are kept of one judgement.
MOST_FIGURES = 60


def shortened(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """Return text that the database can keep, with its middle left out when it is too long."""
    plain = printable(text)
    if len(plain) <= longest:
        return plain
    begin = (longest - len(_CUT)) // 3
    return plain[:begin] + _CUT + plain[begin + len(_CUT) - longest :]
