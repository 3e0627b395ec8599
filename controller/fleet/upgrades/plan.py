"""Which hosts are to be upgraded, and in which order: canaries first, then batches."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controller.errors import ConfigurationError
from controller.fleet.events import HostRecap

#: What the playbook says of a host, in a check run as in a real one.
_MOVE = re.compile(r"(?P<before>[0-9][\w.+-]*) → (?P<after>[0-9][\w.+-]*)", re.ASCII)
_STAYS = re.compile(r"has (?P<after>[0-9][\w.+-]*) already", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Move:
    """From which release to which a host goes."""

    host: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """Hosts that are upgraded at the same time."""

    #: `canary`, or `batch 2 of 3`.
    name: str
    moves: tuple[Move, ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(move.host for move in self.moves)


@dataclass(frozen=True, kw_only=True)
class Left:
    """Hosts that an earlier upgrade brought to the release, and that nobody judged."""

    step: Step
    #: The upgrade in the controller's history, and when it began.
    operation: int
    started: dt.datetime


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done, in order."""

    steps: tuple[Step, ...]
    #: What is judged before anything is upgraded.
    left: tuple[Left, ...] = ()
    #: Hosts that have the release already: this is how an upgrade that was stopped goes on.
    ready: tuple[str, ...] = ()
    #: Hosts that cannot be upgraded, with the reason.
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        """All hosts that are to be upgraded."""
        return tuple(host for step in self.steps for host in step.hosts)


def move_of(recap: HostRecap) -> Move | None:
    """Return what the playbook said of a host's releases; None when it did not get that far."""
    for note in recap.notes:
        if match := _MOVE.fullmatch(note):
            return Move(host=recap.host, before=match["before"], after=match["after"])
        if match := _STAYS.fullmatch(note):
            return Move(host=recap.host, before=match["after"], after=match["after"])
    return None


def plan(recaps: Iterable[HostRecap], *, canary: int, batch: int, left: Sequence[Left] = ()) -> Plan:
    """Make a plan of what a check run of the playbook said of each host.

    The first `canary` hosts that need the release go first, the others follow in batches of `batch`. Every upgrade begins
    with canaries, also one that goes on where another was stopped: nobody knows why that was.
    """
    if canary < 0 or batch < 1:
        raise ConfigurationError(
            "an upgrade needs batches of at least one host", mend="give --batch 1 or more, --canary 0 or more"
        )
    moves: list[Move] = []
    ready: list[str] = []
    left_out: list[tuple[str, str]] = []
    for recap in recaps:
        move = move_of(recap)
        if not recap.succeeded or move is None:
            left_out.append((recap.host, recap.message or "the playbook said nothing of its release"))
        elif move.before == move.after:
            ready.append(recap.host)
        else:
            moves.append(move)
    return Plan(
        steps=_steps(moves, canary, batch), left=tuple(left), ready=tuple(ready), left_out=tuple(left_out)
    )


def describe(planned: Plan) -> list[str]:
    """Return the plan, a line each."""
    lines = [f"{host}: cannot be upgraded: {why}" for host, why in planned.left_out]
    unjudged = {host for left in planned.left for host in left.step.hosts}
    if ready := [host for host in planned.ready if host not in unjudged]:
        lines.append(f"has the release already, and is not judged by this upgrade: {', '.join(ready)}")
    lines += [
        f"has the release since operation {left.operation}, which ended before it was judged, and is judged first: "
        f"{', '.join(left.step.hosts)}"
        for left in planned.left
    ]
    for step in planned.steps:
        lines += [f"{step.name}: {move.host}: {move.before} → {move.after}" for move in step.moves]
    return lines or ["there is nothing to upgrade"]


def _steps(moves: Sequence[Move], canary: int, batch: int) -> tuple[Step, ...]:
    rest = moves[canary:]
    batches = [rest[start : start + batch] for start in range(0, len(rest), batch)]
    named = [
        Step(name=f"batch {number} of {len(batches)}", moves=tuple(each))
        for number, each in enumerate(batches, start=1)
    ]
    first = [Step(name="canary", moves=tuple(moves[:canary]))] if moves[:canary] else []
    return (*first, *named)
