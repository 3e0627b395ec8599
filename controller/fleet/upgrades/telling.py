"""What was judged, as an operation of its own: the history has its numbers, and the next upgrade knows that it was done."""

from __future__ import annotations

from dataclasses import dataclass, replace

from controller.fleet.events import HostRecap, TaskEvent, TaskState
from controller.fleet.operations import OnEvent, Recap
from controller.store.operation_notes import Figure


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What came of a step that was judged."""

    hosts: tuple[str, ...]
    release: str
    #: The report, a line each.
    lines: tuple[str, ...]
    #: The same in numbers, of every line.
    figures: tuple[Figure, ...] = ()
    #: Why the release is not good there, or not known to be, and what to do or what is done; empty where it is.
    error: str = ""
    mend: str = ""

    def tell(self, on_event: OnEvent) -> Recap:
        """Tell the report of each host; returns how the judging ended."""
        state = TaskState.FAILED if self.error else TaskState.OK
        for host in self.hosts:
            for line in self.lines:
                on_event(
                    TaskEvent(host=host, task=f"What {self.release} measures", state=state, message=line)
                )
        well = HostRecap(host="", ok=1, changed=0, failed=int(bool(self.error)), unreachable=False)
        return Recap(
            hosts=tuple(replace(well, host=host, message=self.error) for host in self.hosts),
            error=self.error,
            mend=self.mend,
            figures=self.figures,
        )
