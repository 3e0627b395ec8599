"""Shows how a playbook gets on: a bar for each host on a terminal while it runs, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from controller.fleet.events import TaskEvent, TaskState
from controller.fleet.operations import Recap
from controller.printable import printable

_STYLES = {TaskState.CHANGED: "yellow", TaskState.FAILED: "red", TaskState.UNREACHABLE: "red"}


class FleetProgress:
    """Takes events while a playbook runs and shows the recap afterwards. Used as a context manager."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        """`quiet` tells of nothing but what fails."""
        self._console = console
        self._quiet = quiet
        self._lines: dict[str, TaskID] = {}
        self._live = console.is_terminal
        # Host and task names come from files: nothing in them is markup.
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[doing]}", markup=False),
            console=console,
            # The table at the end says it all.
            transient=True,
            disable=not self._live,
        )

    def __enter__(self) -> FleetProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def take(self, event: TaskEvent) -> None:
        """Show one event."""
        if self._live:
            self._update(event)
        if event.state in _STYLES and not (self._quiet and event.state is TaskState.CHANGED):
            line = Text.assemble(
                (f"{event.state.value:12}", _STYLES[event.state]),
                f"{printable(event.host)}: {printable(event.task)}",
            )
            self._progress.console.print(line)

    def show(self, recap: Recap, verdict: str = "ready") -> None:
        """Print how each host came out of it; `verdict` is the word for one on which all went well."""
        if not recap.hosts:
            return
        table = Table("host", "", "changed", "failed", box=None)
        for host in recap.hosts:
            outcome = Text(verdict, "green")
            if not host.succeeded:
                outcome = Text("unreachable" if host.unreachable else "failed", "red")
            table.add_row(Text(printable(host.host)), outcome, str(host.changed), str(host.failed))
        self._console.print(table)
        for host in recap.hosts:
            for said in (*host.notes, host.message):
                if said:
                    self._console.print(Text(f"{printable(host.host)}: {printable(said)}"))

    def _update(self, event: TaskEvent) -> None:
        line = self._lines.get(event.host)
        if line is None:
            line = self._lines[event.host] = self._progress.add_task(
                printable(event.host), total=None, doing=""
            )
        if event.of:
            ended = event.state is not TaskState.STARTED
            self._progress.update(line, total=event.of, advance=int(ended))
        if event.state is TaskState.STARTED:
            self._progress.update(line, doing=printable(event.task))
