"""Writes down a run of a playbook while it goes on, for the history and for everybody who watches.

Events are handed on in batches from a thread of its own, so that neither a slow database nor a controller that is
away holds the playbook up. Each batch is a sign of life too, and its answer tells whether somebody wants it to end.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Protocol

from controller.errors import StreamSwarmError
from controller.fleet.events import HostRecap, TaskEvent, TaskState
from controller.fleet.operations import Recap
from controller.store.operation_notes import Figure, HostNote, Standing, TaskNote, shortened

#: Seconds between two looks whether there is something to hand on, and between two signs of life.
EVERY_S = 1.0
BEAT_S = 5.0
#: Notes in one batch, and characters in them: a call of the REST API takes so many, and 256 KiB.
BATCH = 500
BATCH_CHARACTERS = 40_000
#: How long the end is tried to be written down where the controller is away.
PATIENCE_S = 10.0
_LOST = (
    "the controller has ended the record, as it heard nothing for too long or somebody removed it; what happened since "
    "then is not in it"
)


class Ledger(Protocol):
    """Where an operation is written down. Both raise StreamSwarmError when that is not possible now."""

    def record(self, notes: Sequence[TaskNote], outcomes: Sequence[HostNote]) -> Standing: ...
    def finish(self, state: str, *, error: str, mend: str, figures: Sequence[Figure] = ()) -> None: ...


class Recording:
    """One operation that is written down. Used as a context manager around the run."""

    def __init__(self, ledger: Ledger, *, ends_when_lost: bool = False) -> None:
        """`ends_when_lost` ends the work too where the record is lost.

        A keeper wants that: somebody else may be asked for the same by then. A command in a terminal goes on, for its record
        is lost also when the controller was merely away, and hosts are not to be left half-way because of that.
        """
        #: Why the last try to write failed; empty when it did not.
        self.trouble = ""
        self.standing = Standing.GOES_ON
        self._ledger = ledger
        self._ends_when_lost = ends_when_lost
        #: What is to be handed on, in its order.
        self._notes: deque[TaskNote | HostNote] = deque()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write, name="recording", daemon=True)

    def __enter__(self) -> Recording:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def take(self, event: TaskEvent) -> None:
        """Note one event; what is skipped is nowhere shown."""
        if event.state is TaskState.SKIPPED:
            return
        self._notes.append(
            TaskNote(
                host=event.host,
                task=" ".join(event.task.split()),
                state=event.state.value,
                message=shortened(event.message),
                at=dt.datetime.now(dt.UTC),
            )
        )

    def settle(self, hosts: Iterable[HostRecap]) -> None:
        """Note how hosts came out of it, on which nothing more is to be done for now."""
        self._notes.extend(_outcome(host) for host in hosts)

    @property
    def stopped(self) -> bool:
        """Whether the run is to end: somebody cancelled it, or it is taken for dead where that ends it."""
        return self.standing is Standing.CANCELLED or (self._lost() and self._ends_when_lost)

    def _lost(self) -> bool:
        return self.standing is Standing.LOST

    def follow(
        self,
        operation: Callable[..., Recap],
        *,
        on_event: Callable[[TaskEvent], None] = lambda _: None,
        cancelled: Callable[[], bool],
        interrupted: str = "",
    ) -> Recap:
        """Run an operation and write it down until its end; `interrupted` says what it means when it is cancelled here."""

        def take(event: TaskEvent) -> None:
            self.take(event)
            on_event(event)

        with self:
            try:
                recap = operation(on_event=take, cancelled=lambda: self.stopped or cancelled())
            except StreamSwarmError as error:
                self.fail(error)
                raise
            except BaseException:
                self.fail(StreamSwarmError("a fault in the program, or its end, broke it off"))
                raise
            self.finish(recap, interrupted=interrupted)
        return recap

    def finish(self, recap: Recap, *, interrupted: str = "") -> None:
        """Write down how it ended; `interrupted` says why it was stopped from here, when it was."""
        state = "succeeded" if recap.succeeded else "failed"
        if recap.cancelled:
            state = "interrupted" if interrupted and not self.stopped else "cancelled"
        self.settle(recap.hosts)
        again = "start it again: what is done on a host is not done twice"
        error, mend = (interrupted, again) if state == "interrupted" else (recap.error, recap.mend)
        self._end(state, error=error, mend=mend, figures=recap.figures)

    def fail(self, error: StreamSwarmError) -> None:
        """Write down that it could not run at all, or broke off."""
        self._end("failed", error=error.message, mend=error.mend)

    def _end(self, state: str, *, error: str, mend: str, figures: Sequence[Figure] = ()) -> None:
        self._over.set()
        self._thread.join()
        deadline = time.monotonic() + PATIENCE_S
        while not self._lost():
            try:
                while self._notes and not self._lost():
                    self._hand_on()
                if self._lost():
                    return
                self._ledger.finish(state, error=error, mend=mend, figures=figures)
            except StreamSwarmError as failure:
                self.trouble = str(failure)
                if time.monotonic() > deadline:
                    return
                time.sleep(EVERY_S)
            else:
                self.trouble = ""
                return

    def _write(self) -> None:
        heard = time.monotonic()
        while not self._over.wait(EVERY_S) and not self._lost():
            if not self._notes and time.monotonic() - heard < BEAT_S:
                continue
            try:
                self._hand_on()
                while self._notes and not (self._over.is_set() or self._lost()):
                    self._hand_on()
            except StreamSwarmError as failure:
                self.trouble = str(failure)
            else:
                if not self._lost():
                    self.trouble = ""
                heard = time.monotonic()

    def _hand_on(self) -> None:
        """Hand on one batch; what cannot be handed on stays for the next time."""
        # By index: others append meanwhile, which an iteration does not bear.
        first = [self._notes[index] for index in range(min(BATCH, len(self._notes)))]
        batch = first[: _portion(first)]
        tasks: list[TaskNote] = []
        outcomes: list[HostNote] = []
        for note in batch:
            if isinstance(note, HostNote):
                outcomes.append(note)
            elif not outcomes:
                tasks.append(note)
            else:
                break  # the ledger takes how hosts came out of it after what happened
        self.standing = self._ledger.record(tasks, outcomes)
        if self._lost():
            self.trouble = _LOST
            return
        for _ in range(len(tasks) + len(outcomes)):
            self._notes.popleft()


def _portion(items: Sequence[TaskNote | HostNote]) -> int:
    """Return how many of the first items make a batch."""
    room = BATCH_CHARACTERS
    for count, item in enumerate(items[:BATCH]):
        room -= len(item.host) + len(item.message) + (len(item.task) if isinstance(item, TaskNote) else 0)
        if room < 0:
            return max(count, 1)
    return min(len(items), BATCH)


def _outcome(host: HostRecap) -> HostNote:
    state = "ok" if host.succeeded else "unreachable" if host.unreachable else "failed"
    said = [text for text in (*host.notes, host.message) if text]
    return HostNote(host=host.host, state=state, changed=host.changed, message=shortened("\n".join(said)))
